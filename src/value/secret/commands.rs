//! Finds secrets in command lines, SQL, `netrc` files, and behind the name of an authentication scheme.

use crate::error::MASK;
use crate::value::secret::encode;
use crate::value::secret::names::looks_secret;
use crate::value::secret::values::{
    OnSecret, is_reference, is_shown_value, line, shown_value, words,
};

/// Finds credentials behind the name of their authentication scheme: `Basic dTpw`, `Bearer abc`.
pub(super) fn find_scheme_credentials(text: &str, on_secret: &mut OnSecret<'_>) -> bool {
    let mut scheme = "";
    let mut done = 0;
    for word in words(text, &[' ', '\t', '\n', '"', '\'', ',']) {
        if word.start < done {
            continue;
        }
        let credential = &text[word.clone()];
        let before = std::mem::replace(&mut scheme, credential.trim_end_matches(':'));
        let Some(length) = credential_length(before, credential) else {
            continue;
        };
        if credential.starts_with(MASK) || is_reference(credential) {
            continue;
        }
        let end = match length {
            Length::Word => word.end,
            Length::Line => word.start + line(&text[word.start..]).len(),
        };
        done = end;
        if !on_secret(word.start..end) {
            return false;
        }
    }
    true
}

/// The length of a credential.
enum Length {
    Word,
    Line,
}

/// The length of the credential of a scheme; `None` if the word is no credential.
fn credential_length(scheme: &str, credential: &str) -> Option<Length> {
    let is = |names: &[&str]| names.iter().any(|it| scheme.eq_ignore_ascii_case(it));
    let is_long = || {
        credential.len() >= 20
            || (credential.len() >= 8 && credential.bytes().any(|byte| byte.is_ascii_digit()))
    };
    let is_login = || encode::from_base64(credential).is_some_and(|bytes| bytes.contains(&b':'));
    let is_word = (is(&["basic"]) && is_login())
        || (is(&["bearer", "token", "apikey", "geniekey", "bot", "ntlm"]) && is_long());
    let is_line = is(&[
        "aws4-hmac-sha256",
        "sharedkey",
        "sharedkeylite",
        "sharedaccesssignature",
    ]) || (is(&["negotiate"]) && is_long())
        || (is(&["digest"]) && credential.contains('='));
    match (is_word, is_line) {
        (true, _) => Some(Length::Word),
        (_, true) => Some(Length::Line),
        _ => None,
    }
}

/// Options whose next word is a login.
const LOGIN_OPTIONS: [&str; 5] = ["-u", "-U", "--user", "--proxy-user", "--http-user"];

/// Finds the values of secret options: `--password hunter2`, `curl -u me:hunter2`.
pub(super) fn find_options(text: &str, on_secret: &mut OnSecret<'_>) -> bool {
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
            if is_login && !on_secret(word) {
                return false;
            }
        } else if is_secret_option(option) && !on_secret(word) {
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

/// Finds the passwords of a `netrc` file.
pub(super) fn find_netrc_passwords(text: &str, on_secret: &mut OnSecret<'_>) -> bool {
    if !text.contains("login ") {
        return true;
    }
    let mut before = "";
    for word in words(text, &[' ', '\t', '\n']) {
        let is_password = before == "password" && !text[word.clone()].starts_with(MASK);
        if is_password && !on_secret(word.clone()) {
            return false;
        }
        before = &text[word];
    }
    true
}

/// Finds passwords in SQL and in the configuration of Redis: `IDENTIFIED BY 'hunter2'`, `WITH PASSWORD 'hunter2'`,
/// `requirepass hunter2`.
pub(super) fn find_statements(text: &str, on_secret: &mut OnSecret<'_>) -> bool {
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
        if !on_secret(value) {
            return false;
        }
    }
    true
}
