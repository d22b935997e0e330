//! Which texts hold a secret by their form, whatever their key is called, and where in the text.
//!
//! Known are addresses with a user or a secret parameter, connection strings, headers, documents and
//! command lines with a secret name, private keys, and the tokens of services whose form is public.
//! What has no form, such as a password alone, cannot be known.
//!
//! The time of a scan grows with the length of the text. Each look ahead is [`WINDOW`] bytes long at the
//! most, or ends where the next one begins: what was found once is not looked at again.

use std::ops::Range;

use crate::error::MASK;
use crate::value::secret::assignments::{assignments, escaped_parameters};
use crate::value::secret::encode;
use crate::value::secret::files::{pgpass, redis_rules, refresh_tokens, vault_texts};
use crate::value::secret::logins::logins;
use crate::value::secret::names::{header_looks_secret, looks_secret};
use crate::value::secret::tokens::{hashes, tokens};

/// Receives a secret part of a text; says whether to go on.
pub(super) type Found<'a> = dyn FnMut(Range<usize>) -> bool + 'a;

/// So many bytes behind the beginning of an address are searched for the end of its user and password.
const WINDOW: usize = 4096;

/// Whether a text holds a secret by its form.
pub(crate) fn text_holds_secret(text: &str) -> bool {
    let mut any = false;
    find(text, &mut |_| {
        any = true;
        false
    });
    any
}

/// A text with the mask in place of the parts that are secret by their form.
#[allow(dead_code)] // by the sources that have addresses
pub(crate) fn mask_text(text: &str) -> String {
    mask_parts(text, secret_parts(text))
}

/// The parts of a text that are secret by their form; some may overlap.
pub(super) fn secret_parts(text: &str) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    find(text, &mut |part| {
        parts.push(part);
        true
    });
    parts
}

/// A text with the mask in place of some of its parts, which may overlap.
pub(super) fn mask_parts(text: &str, mut parts: Vec<Range<usize>>) -> String {
    parts.sort_unstable_by_key(|part| (part.start, part.end));
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

/// Finds the secret parts of a text.
fn find(text: &str, found: &mut Found<'_>) {
    // Most texts are short and hold none of the signs of any form.
    if text.len() < 4 {
        return;
    }
    let has = |sign: u8| text.as_bytes().contains(&sign);
    let go_on = (!has(b'@') || (user_infos(text, found) && logins(text, found)))
        && (!has(b'=') || assignments(text, found))
        && (!has(b'%') || escaped_parameters(text, found))
        && (!has(b':') || (fields(text, found) && pgpass(text, found)))
        && (!has(b' ')
            || (schemes(text, found)
                && options(text, found)
                && netrc(text, found)
                && statements(text, found)))
        && (!has(b'<') || elements(text, found))
        && (!has(b'-') || private_keys(text, found))
        && (!has(b'/') || (webhooks(text, found) && refresh_tokens(text, found)))
        && (!(has(b'>') || has(b'#')) || redis_rules(text, found))
        && (!has(b'$') || (hashes(text, found) && vault_texts(text, found)));
    if go_on {
        tokens(text, found);
    }
}

/// The user and the password in addresses: `redis://me:pw@host`.
fn user_infos(text: &str, found: &mut Found<'_>) -> bool {
    let mut done = 0;
    let mut next_at = 0;
    for (at, _) in text.match_indices("://") {
        let begin = at + 3;
        if begin < done {
            continue;
        }
        if next_at < begin {
            next_at = match text[begin..].find('@') {
                Some(at) => begin + at,
                None => return true,
            };
        }
        let Some(user_info) = user_info(text, begin, next_at) else {
            continue;
        };
        let user = &text[user_info.clone()];
        let is_hidden = match user.split_once(':') {
            Some((_, password)) => is_reference(password),
            None => is_reference(user) || names_user(&text[..at]),
        };
        done = user_info.end;
        if !is_hidden && user != MASK && !found(user_info) {
            return false;
        }
    }
    true
}

/// Where the user and the password of an address stand, of which the authority begins at a place.
fn user_info(text: &str, begin: usize, next_at: usize) -> Option<Range<usize>> {
    let window = &text[begin..boundary(text, begin + WINDOW)];
    let authority = window.split(AUTHORITY_ENDS).next().unwrap_or_default();
    if next_at >= begin + window.len() {
        // A user without an end in sight is masked as a whole.
        let is_cut = authority.len() == window.len() && begin + window.len() < text.len();
        return is_cut.then_some(begin..next_at);
    }
    let rest = || line(window);
    let word = || rest().split(WORD_ENDS).next().unwrap_or_default();
    let end = if authority.contains('@') {
        let user = authority.rfind('@');
        // A password may hold what ends an authority: `me:p@w/w@host`.
        let is_masked = || {
            let user = authority.split('@').next().unwrap_or_default();
            let password = user.split_once(':').map_or(user, |(_, password)| password);
            user == MASK || is_reference(password)
        };
        let has_password = user.is_some_and(|end| authority[..end].contains(':'));
        if has_password && !is_masked() {
            word().rfind('@')
        } else {
            user
        }
    } else {
        let (name, port) = authority.rsplit_once(':')?;
        // A host with a port; what stands behind it is a path.
        if port.bytes().all(|b| b.is_ascii_digit()) || is_reference(port) {
            return None;
        }
        // A password may hold what ends an authority, and even blanks: `me:p/w@host`.
        let is_user = !name.contains(['[', ']']);
        is_user.then(|| word().rfind('@').or_else(|| rest().rfind('@')))?
    };
    end.filter(|end| *end > 0).map(|end| begin..begin + end)
}

const AUTHORITY_ENDS: [char; 10] = ['/', '?', '#', ' ', '"', '\'', '<', '>', '\n', '\r'];
const WORD_ENDS: [char; 5] = [' ', '"', '\'', '<', '>'];

/// Schemes of addresses whose user is a name and no token.
const NAMED_USERS: [&str; 11] = [
    "ssh",
    "git+ssh",
    "ssh+git",
    "svn+ssh",
    "sftp",
    "scp",
    "rsync",
    "postgres",
    "postgresql",
    "mysql",
    "mariadb",
];

/// Whether a text ends with the scheme of addresses whose user is a name and no token.
fn names_user(text: &str) -> bool {
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || b"+-.".contains(b);
    let length = text.bytes().rev().take(16).take_while(is_part).count();
    let scheme = &text[text.len() - length..];
    NAMED_USERS.iter().any(|it| scheme.eq_ignore_ascii_case(it))
}

/// Values behind `:` and a secret name: headers, JSON and YAML.
fn fields(text: &str, found: &mut Found<'_>) -> bool {
    let mut done = 0;
    for (at, _) in text.match_indices(':') {
        if at < done {
            continue;
        }
        let before = text[..at].trim_end();
        let quoted = before.ends_with(['"', '\'']);
        let before = before.trim_end_matches(['\\', '"', '\'']);
        let named = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        let begin = before.len()
            - before
                .chars()
                .rev()
                .take_while(|c| named(*c))
                .map(char::len_utf8)
                .sum::<usize>();
        let name = &before[begin..];
        let lead = before[..begin].trim_end_matches([' ', '\t']);
        let is_begin = lead.is_empty()
            || lead.ends_with(['\n', '{', ',', '"', '\'', '-', '?'])
            || is_option_slash(lead)
            || lead.ends_with("-H")
            || lead.ends_with("--header");
        let after = &text[at + 1..];
        let is_field =
            quoted || (is_begin && (after.starts_with([' ', '\t']) || is_close_field(name, after)));
        if name.is_empty() || !is_field || !header_looks_secret(name) {
            continue;
        }
        let begin = at + 1 + blanks(after);
        let ends: &[char] = if quoted || lead.ends_with(['{', ',']) {
            &[',', '}', '\n']
        } else {
            &['\n', '\r', '"', '\'']
        };
        if text[begin..].starts_with(['{', '[']) {
            return found(begin..text.len());
        }
        let Some(value) = shown_value(text, begin, ends) else {
            continue;
        };
        done = value.end;
        if !found(value) {
            return false;
        }
    }
    true
}

/// Whether a text ends with the slash of an option: `/password:hunter2`.
fn is_option_slash(lead: &str) -> bool {
    lead.strip_suffix('/')
        .is_some_and(|before| before.is_empty() || before.ends_with([' ', '\t', '\n']))
}

/// Whether a name and what stands directly behind its colon are a field: `X-Api-Key:abc`, and not
/// `auth.example.com:8080`, `auth:latest` or `secret://path`.
fn is_close_field(name: &str, after: &str) -> bool {
    let (before, last) = name.rsplit_once(['-', '_', '.']).unwrap_or(("", name));
    let ends_secret = header_looks_secret(last)
        || ["key", "id", "string"]
            .iter()
            .any(|it| last.eq_ignore_ascii_case(it))
        || !looks_secret(before);
    let value = after
        .split(['/', ',', ' ', '\n'])
        .next()
        .unwrap_or_default();
    let is_version = value.bytes().all(|b| b.is_ascii_digit() || b == b'.') && value.len() <= 8;
    let is_password = name.len() < 80 && {
        let name = name.to_ascii_lowercase();
        ["pass", "pw", "pin"].iter().any(|it| name.contains(it))
    };
    ends_secret
        && !after.starts_with([':', '/'])
        && value != "latest"
        && (is_password || !is_version)
}

/// The value that begins at a place, as [`value_at`] finds it; `None` if it is no secret. Of a masked
/// one the end is not looked for.
pub(super) fn shown_value(text: &str, begin: usize, ends: &[char]) -> Option<Range<usize>> {
    let inner = text[begin..].trim_start_matches(['\\', '"', '\'', '{']);
    if inner.trim_start().starts_with(MASK) {
        return None;
    }
    let value = value_at(text, begin, ends);
    is_shown_value(&text[value.clone()]).then_some(value)
}

/// The value that begins at a place: in quotes or braces, or up to one of `ends`.
fn value_at(text: &str, begin: usize, ends: &[char]) -> Range<usize> {
    let rest = &text[begin..];
    // A quote inside of text that is quoted itself.
    let slash = usize::from(rest.starts_with('\\'));
    let close = match rest[slash..].chars().next() {
        Some('"') => '"',
        Some('\'') => '\'',
        Some('{') => '}',
        _ => {
            let end = rest.find(ends).unwrap_or(rest.len());
            return begin..begin + rest[..end].trim_end().len();
        }
    };
    let inner = begin + slash + 1;
    let mut escaped = false;
    let end = text[inner..].find(|c: char| {
        let is_end = c == close && (!escaped || slash > 0);
        escaped = c == '\\' && !escaped;
        is_end
    });
    let end = end.map_or(text.len(), |end| inner + end);
    inner..end - usize::from(slash > 0 && text[inner..end].ends_with('\\'))
}

/// Whether a value may be a secret: it is none if it is empty, masked or a mere switch.
pub(super) fn is_shown_value(value: &str) -> bool {
    let value = value.trim();
    const SWITCHES: [&str; 11] = [
        "null", "~", "none", "nil", "true", "false", "on", "off", "yes", "no", "disabled",
    ];
    let is_switch = value.is_empty() || SWITCHES.iter().any(|it| value.eq_ignore_ascii_case(it));
    !is_switch && !value.starts_with(MASK) && !is_reference(value)
}

/// Whether a text is a reference to a key and nothing else: what it stands for is not in it. A default
/// in it may be a secret.
pub(super) fn is_reference(text: &str) -> bool {
    let name = text.strip_prefix("${").and_then(|it| it.strip_suffix('}'));
    let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    name.is_some_and(|name| name.chars().all(plain))
}

/// Credentials behind the name of their scheme: `Basic dTpw`, `Bearer abc`.
fn schemes(text: &str, found: &mut Found<'_>) -> bool {
    let mut scheme = "";
    let mut done = 0;
    for word in words(text, &[' ', '\t', '\n', '"', '\'', ',']) {
        if word.start < done {
            continue;
        }
        let credential = &text[word.clone()];
        let before = std::mem::replace(&mut scheme, credential.trim_end_matches(':'));
        let Some(names_parts) = scheme_of(before, credential) else {
            continue;
        };
        if credential.starts_with(MASK) || is_reference(credential) {
            continue;
        }
        let end = match names_parts {
            Parts::One => word.end,
            Parts::Many => word.start + line(&text[word.start..]).len(),
        };
        done = end;
        if !found(word.start..end) {
            return false;
        }
    }
    true
}

/// How many words a credential has.
enum Parts {
    One,
    /// All up to the end of the line.
    Many,
}

/// What a scheme says of the word behind it; `None` if that is no credential.
fn scheme_of(scheme: &str, credential: &str) -> Option<Parts> {
    let is = |names: &[&str]| names.iter().any(|it| scheme.eq_ignore_ascii_case(it));
    let is_long = || {
        credential.len() >= 20
            || (credential.len() >= 8 && credential.bytes().any(|byte| byte.is_ascii_digit()))
    };
    let is_login = || encode::from_base64(credential).is_some_and(|bytes| bytes.contains(&b':'));
    let is_one = (is(&["basic"]) && is_login())
        || (is(&["bearer", "token", "apikey", "geniekey", "bot", "ntlm"]) && is_long());
    let is_many = is(&[
        "aws4-hmac-sha256",
        "sharedkey",
        "sharedkeylite",
        "sharedaccesssignature",
    ]) || (is(&["negotiate"]) && is_long())
        || (is(&["digest"]) && credential.contains('='));
    match (is_one, is_many) {
        (true, _) => Some(Parts::One),
        (_, true) => Some(Parts::Many),
        _ => None,
    }
}

/// Options of programs whose next word is a login.
const LOGIN_OPTIONS: [&str; 5] = ["-u", "-U", "--user", "--proxy-user", "--http-user"];

/// What secret options of programs are followed by: `--password hunter2`, `curl -u me:hunter2`.
fn options(text: &str, found: &mut Found<'_>) -> bool {
    let fetches = text.contains("curl") || text.contains("://");
    let mut before = "";
    for word in words(text, &[' ', '\t', '\n', '"', '\'']) {
        let value = &text[word.clone()];
        let option = std::mem::replace(&mut before, value);
        if !option.starts_with('-') || value.starts_with('-') || !is_shown_value(value) {
            continue;
        }
        if LOGIN_OPTIONS.contains(&option) {
            let Some((user, password)) = value.split_once(':').filter(|_| fetches) else {
                continue;
            };
            let is_login =
                !user.is_empty() && is_shown_value(password) && !password.starts_with('/');
            if is_login && !found(word) {
                return false;
            }
        } else if is_secret_option(option) && !found(word) {
            return false;
        }
    }
    true
}

/// Whether an option has a secret name and takes a value: `--password` or `-password`, and not `--no-password`.
fn is_secret_option(option: &str) -> bool {
    const SWITCHES: [&str; 11] = [
        "no", "with", "without", "enable", "disable", "skip", "ask", "use", "allow", "require",
        "show",
    ];
    let long = option.strip_prefix("--");
    // `-NoPassword` is a switch of PowerShell.
    let is_switch = |name: &str| {
        name.get(..2)
            .is_some_and(|it| it.eq_ignore_ascii_case("no"))
    };
    let short = || option.strip_prefix('-').filter(|name| !is_switch(name));
    long.or_else(short).is_some_and(|name| {
        let first = name.split(['-', '_']).next().unwrap_or_default();
        name.len() < 80
            && !name.contains(['=', ':'])
            && !SWITCHES.contains(&first)
            && looks_secret(name)
    })
}

/// The passwords of a file for `netrc`.
fn netrc(text: &str, found: &mut Found<'_>) -> bool {
    if !text.contains("login ") {
        return true;
    }
    let mut before = "";
    for word in words(text, &[' ', '\t', '\n']) {
        let is_password = before == "password" && !text[word.clone()].starts_with(MASK);
        if is_password && !found(word.clone()) {
            return false;
        }
        before = &text[word];
    }
    true
}

/// Passwords in SQL and in the configuration of Redis: `IDENTIFIED BY 'hunter2'`, `WITH PASSWORD 'hunter2'`,
/// `requirepass hunter2`.
fn statements(text: &str, found: &mut Found<'_>) -> bool {
    let (mut first, mut second) = ("", "");
    let mut done = 0;
    for word in words(text, &[' ', '\t', '\n']) {
        let is = |word: &str, name: &str| word.eq_ignore_ascii_case(name);
        let is_quoted = text[word.clone()].starts_with(['\'', '"']);
        let is_setting = ["requirepass", "masterauth"]
            .iter()
            .any(|it| is(second, it));
        let follows = (is(first, "identified") && is(second, "by"))
            || (is_quoted && is(first, "with") && is(second, "password"))
            || (is_quoted && is(first, "encrypted") && is(second, "password"))
            || (is_setting && (first.is_empty() || is(first, "set")));
        first = std::mem::replace(&mut second, &text[word.clone()]);
        if !follows || word.start < done {
            continue;
        }
        let Some(value) = shown_value(text, word.start, &[' ', ';', '\n']) else {
            continue;
        };
        done = value.end;
        if !found(value) {
            return false;
        }
    }
    true
}

/// Secrets in elements of XML: `<password>hunter2</password>`, `<add key="ApiKey" value="hunter2"/>`.
fn elements(text: &str, found: &mut Found<'_>) -> bool {
    let mut done = 0;
    for (at, _) in text.match_indices("</") {
        let begin = text[done..at].rfind('>').map(|begin| done + begin + 1);
        done = at;
        let name = text[at + 2..boundary(text, at + 82)].split('>').next();
        let Some((begin, name)) = begin.zip(name) else {
            continue;
        };
        let value = begin..at;
        if looks_secret(name) && is_shown_value(&text[value.clone()]) && !found(value) {
            return false;
        }
    }
    text.match_indices("value=").all(|(at, sign)| {
        let before = &text[boundary(text, at.saturating_sub(100))..at];
        let Some(before) = before.trim_end().strip_suffix(['"', '\'']) else {
            return true;
        };
        let (rest, name) = before.rsplit_once(['"', '\'']).unwrap_or_default();
        if !rest.ends_with(" key=") && !rest.ends_with(" name=") || !looks_secret(name) {
            return true;
        }
        let value = shown_value(text, at + sign.len(), &[' ', '>', '\n']);
        value.is_none_or(&mut *found)
    })
}

/// What private keys begin with, up to which the text is shown.
const PRIVATE_KEYS: [&str; 3] = [
    "AGE-SECRET-KEY-1",
    "PuTTY-User-Key-File-",
    "-----BEGIN OpenVPN Static key",
];

/// Private keys in PEM and in other forms of text.
fn private_keys(text: &str, found: &mut Found<'_>) -> bool {
    // Of PEM and of SSH2.
    for (begin, end) in [("-----BEGIN ", "-----"), ("---- BEGIN ", "----")] {
        for (at, _) in text.match_indices(begin) {
            let title = text[at + begin.len()..].split(end).next();
            if title.is_some_and(|title| title.contains("PRIVATE KEY")) {
                return found(at..text.len());
            }
        }
    }
    PRIVATE_KEYS
        .iter()
        .all(|begin| text.find(begin).is_none_or(|at| found(at..text.len())))
}

/// Addresses that are secret themselves: whoever knows one may post there.
const WEBHOOKS: [&str; 8] = [
    "hooks.slack.com/services/",
    "hooks.slack.com/workflows/",
    "hooks.slack.com/triggers/",
    "discord.com/api/webhooks/",
    "discordapp.com/api/webhooks/",
    "api.telegram.org/bot",
    "outlook.office.com/webhook/",
    "webhook.office.com/webhookb2/",
];

fn webhooks(text: &str, found: &mut Found<'_>) -> bool {
    WEBHOOKS.iter().all(|place| {
        let mut done = 0;
        text.match_indices(place).all(|(at, _)| {
            let begin = at + place.len();
            if at < done || text[begin..].starts_with(MASK) {
                return true;
            }
            let end = text[begin..].find([' ', '"', '\'', '\n']);
            done = end.map_or(text.len(), |end| begin + end);
            begin == done || found(begin..done)
        })
    })
}

/// The words of a text, by where they stand.
pub(super) fn words<'a>(
    text: &'a str,
    gaps: &'a [char],
) -> impl Iterator<Item = Range<usize>> + 'a {
    let base = text.as_ptr() as usize;
    text.split(gaps)
        .filter(|word| !word.is_empty())
        .map(move |word| {
            let begin = word.as_ptr() as usize - base;
            begin..begin + word.len()
        })
}

/// A text up to the end of its line.
fn line(text: &str) -> &str {
    text.split(['\n', '\r']).next().unwrap_or_default()
}

/// The beginning of a character at or before a place.
pub(super) fn boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

/// How many blanks a text begins with.
pub(super) fn blanks(text: &str) -> usize {
    text.len() - text.trim_start_matches([' ', '\t']).len()
}

#[cfg(test)]
mod tests {
    use super::*;

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
