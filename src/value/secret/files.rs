//! Finds secrets in the files and the commands of tools: the lines of `pgpass`, rules of Redis, texts of Ansible
//! Vault, and refresh tokens of Google.

use crate::value::secret::values::{OnSecret, is_shown_value, words};

/// The passwords in lines of `pgpass`: `host:5432:database:user:password`.
pub(super) fn find_pgpass_passwords(text: &str, on_secret: &mut OnSecret<'_>) -> bool {
    let mut begin = 0;
    for line in text.split('\n') {
        let end = begin + line.trim_end_matches('\r').len();
        let password = password_in(&text[begin..end]);
        if password.is_some_and(|password| !on_secret(end - password.len()..end)) {
            return false;
        }
        begin += line.len() + 1;
    }
    true
}

/// The password of a line of `pgpass`, in which `\` escapes a colon.
fn password_in(line: &str) -> Option<&str> {
    let mut fields = [""; 4];
    let mut rest = line;
    for field in &mut fields {
        let mut escaped = false;
        let end = rest.find(|c: char| {
            let is_end = c == ':' && !escaped;
            escaped = c == '\\' && !escaped;
            is_end
        })?;
        (*field, rest) = (&rest[..end], &rest[end + 1..]);
    }
    let [host, port, database, user] = fields;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_port = port == "*" || ((2..=5).contains(&port.len()) && is_number(port));
    let is_name = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    let has_names = [host, database, user].into_iter().all(is_name);
    // Rows of numbers and rows with more fields are not lines of `pgpass`.
    let is_other = is_number(user) || rest.replace("\\:", "").contains(':');
    (is_port && has_names && !is_other && is_shown_value(rest)).then_some(rest)
}

/// The passwords in rules of Redis: `user app on >hunter2 ~* +@all`, `ACL SETUSER app >hunter2`.
pub(super) fn find_redis_passwords(text: &str, on_secret: &mut OnSecret<'_>) -> bool {
    if !text.contains([' ', '\t']) || !text.contains(['>', '#']) {
        return true;
    }
    let mut is_rule = false;
    for word in words(text, &[' ', '\t', '\n', '\r', '"', '\'']) {
        let rule = &text[word.clone()];
        let is = |name: &str| rule.eq_ignore_ascii_case(name);
        let begins = text[..word.start].trim_end_matches([' ', '\t']);
        if is("setuser") || (is("user") && (begins.is_empty() || begins.ends_with('\n'))) {
            is_rule = true;
        }
        let is_hash = || rule.len() == 65 && rule[1..].bytes().all(|b| b.is_ascii_hexdigit());
        let is_password = match rule.as_bytes()[0] {
            b'>' => rule.len() > 1 && is_shown_value(&rule[1..]),
            b'#' => is_hash(),
            _ => false,
        };
        if is_rule && is_password && !on_secret(word.start + 1..word.end) {
            return false;
        }
    }
    true
}

/// Texts that Ansible Vault encrypted.
pub(super) fn find_vault_texts(text: &str, on_secret: &mut OnSecret<'_>) -> bool {
    const BEGIN: &str = "$ANSIBLE_VAULT;";
    text.find(BEGIN).is_none_or(|at| on_secret(at..text.len()))
}

/// Refresh tokens of Google: `1//0g` and 30 characters or more.
pub(super) fn find_refresh_tokens(text: &str, on_secret: &mut OnSecret<'_>) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let mut done = 0;
    text.match_indices("1//0").all(|(at, begin)| {
        let before = text.as_bytes()[..at].last();
        if at < done || before.is_some_and(|byte| is_part(byte) || *byte == b'/') {
            return true;
        }
        let rest = &text.as_bytes()[at + begin.len()..];
        let length = rest.iter().take_while(|byte| is_part(byte)).count();
        done = at + begin.len() + length;
        length < 30 || on_secret(at..done)
    })
}
