//! Finds the secrets of a text by its form, whatever its key is.
//!
//! The known forms are addresses with a user or a secret parameter, connection strings, headers, documents
//! and command lines with a secret name, private keys, and the tokens of services whose form is public. A
//! secret without a form, such as a password alone, is not found.
//!
//! The time of a scan is linear in the length of the text: a scan looks ahead at most a constant number of
//! bytes, or continues behind the secret that it has found.

use std::ops::Range;

use crate::error::MASK;
use crate::sorted;
use crate::value::secret::addresses::{find_user_infos, find_webhooks};
use crate::value::secret::assignments::{find_assignments, find_escaped_parameters};
use crate::value::secret::commands::{
    find_netrc_passwords, find_options, find_scheme_credentials, find_statements,
};
use crate::value::secret::documents::{find_elements, find_fields, find_private_keys};
use crate::value::secret::files::{
    find_pgpass_passwords, find_redis_passwords, find_refresh_tokens, find_vault_texts,
};
use crate::value::secret::logins::find_logins;
use crate::value::secret::tokens::{find_hashes, find_tokens};
use crate::value::secret::values::OnSecret;

/// Whether a text holds a secret by its form.
pub(crate) fn text_holds_secret(text: &str) -> bool {
    let mut any = false;
    find(text, &mut |_| {
        any = true;
        false
    });
    any
}

/// Masks the parts of a text that are secret by their form.
#[allow(dead_code)] // by the sources that have addresses
pub(crate) fn mask_text(text: &str) -> String {
    mask_parts(text, secret_parts(text))
}

/// Returns the parts of a text that are secret by their form. They may overlap.
pub(super) fn secret_parts(text: &str) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    find(text, &mut |part| {
        parts.push(part);
        true
    });
    parts
}

/// Masks parts of a text, which may overlap.
pub(super) fn mask_parts(text: &str, mut parts: Vec<Range<usize>>) -> String {
    sorted::sort_by_key(&mut parts, |part| (part.start, part.end));
    let mut masked = String::with_capacity(text.len());
    let mut done = 0;
    for part in parts {
        if part.start >= done {
            masked.push_str(&text[done..part.start]);
            masked.push_str(MASK);
        }
        done = done.max(part.end);
    }
    masked.push_str(&text[done..]);
    masked
}

/// Passes the secret parts of a text to `on_secret` until that returns false.
fn find(text: &str, on_secret: &mut OnSecret<'_>) {
    // A shorter text has no known form.
    if text.len() < 4 {
        return;
    }
    let has = |sign: u8| text.as_bytes().contains(&sign);
    let may_continue = (!has(b'@')
        || (find_user_infos(text, on_secret) && find_logins(text, on_secret)))
        && (!has(b'=') || find_assignments(text, on_secret))
        && (!has(b'%') || find_escaped_parameters(text, on_secret))
        && (!has(b':') || (find_fields(text, on_secret) && find_pgpass_passwords(text, on_secret)))
        && (!has(b' ')
            || (find_scheme_credentials(text, on_secret)
                && find_options(text, on_secret)
                && find_netrc_passwords(text, on_secret)
                && find_statements(text, on_secret)))
        && (!has(b'<') || find_elements(text, on_secret))
        && (!has(b'-') || find_private_keys(text, on_secret))
        && (!has(b'/') || (find_webhooks(text, on_secret) && find_refresh_tokens(text, on_secret)))
        && (!(has(b'>') || has(b'#')) || find_redis_passwords(text, on_secret))
        && (!has(b'$') || (find_hashes(text, on_secret) && find_vault_texts(text, on_secret)));
    if may_continue {
        find_tokens(text, on_secret);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::secret::addresses::WINDOW;

    #[test]
    fn an_address_with_a_password_is_known() {
        for text in [
            "postgres://me:hunter2@db/x",
            "a://b, redis://:pw@h",
            "redis://me:p/w@host",
            "redis://me:p w@host",
            "pg://host/db?user=me&password=hunter2",
            "redis://me:${db.password:hunter2}@host",
        ] {
            assert!(text_holds_secret(text), "{text}");
        }
        for text in [
            "http://host:80/path home@x",
            "pg://host/db?user=me&sslmode=none",
            "http://host/path home@x",
            "http://host/@scope/package",
            "me@home",
            "redis://me:${db.password}@host",
            "me:${db.password}@tcp(h)/d",
            "host=h password=${db.password}",
        ] {
            assert!(!text_holds_secret(text), "{text}");
        }
    }

    #[test]
    fn only_the_secret_part_of_a_text_is_masked() {
        for (text, masked) in [
            ("get redis://me:pw@h/0 now", "get redis://******@h/0 now"),
            ("http://h/x?a=b&sig=S#c", "http://h/x?a=b&sig=******#c"),
            (
                "http://h/cb#access_token=t&a=b",
                "http://h/cb#access_token=******&a=b",
            ),
            ("host=h password=pw port=5", "host=h password=****** port=5"),
            ("Server=h;Pwd=p w;Port=1", "Server=h;Pwd=******;Port=1"),
            ("u=\"a\" password=\"b c\";", "u=\"a\" password=\"******\";"),
            ("Authorization: Basic dTpw", "Authorization: ******"),
            ("use Bearer abcdefgh12 here", "use Bearer ****** here"),
            (
                "{\"a\": 1, \"password\": \"p\\\"w\"}",
                "{\"a\": 1, \"password\": \"******\"}",
            ),
            ("me:pw@tcp(h:3306)/d", "******@tcp(h:3306)/d"),
            ("nothing = special", "nothing = special"),
            ("curl -u me:pw http://h", "curl -u ****** http://h"),
            (
                "a --password p --token t b",
                "a --password ****** --token ****** b",
            ),
            (
                "password=****** password=pw; pwd=p2",
                "password=****** password=******; pwd=******",
            ),
            (
                "hooks.slack.com/services/T/1 hooks.slack.com/services/T/2",
                "hooks.slack.com/services/****** hooks.slack.com/services/******",
            ),
            (
                "redis://a:b@h redis://c:d@h",
                "redis://******@h redis://******@h",
            ),
            (
                "http://h:80/a@b redis://c:d/e@h",
                "http://h:80/a@b redis://******@h",
            ),
        ] {
            assert_eq!(mask_text(text), masked);
            assert_eq!(mask_text(masked), masked, "masked twice");
        }
    }

    #[test]
    fn a_user_that_ends_behind_the_look_ahead_is_masked() {
        let long = "x".repeat(2 * WINDOW);
        let text = format!("redis://me:{long}@host");
        assert_eq!(mask_text(&text), "redis://******@host");
        let text = format!("redis://{}/{long}/a@b", "\u{e4}".repeat(100));
        assert_eq!(mask_text(&text), text);
    }
}
