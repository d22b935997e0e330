//! Finds secrets in addresses: users with their passwords, and webhooks.

use std::ops::Range;

use crate::error::MASK;
use crate::value::secret::values::{OnSecret, boundary, is_reference, line};

/// How many bytes of an address are searched for the end of its user and password.
pub(super) const WINDOW: usize = 4096;

/// Finds the user and the password in addresses: `redis://me:pw@host`.
pub(super) fn find_user_infos(text: &str, on_secret: &mut OnSecret<'_>) -> bool {
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
            None => is_reference(user) || has_named_users(&text[..at]),
        };
        done = user_info.end;
        if !is_hidden && user != MASK && !on_secret(user_info) {
            return false;
        }
    }
    true
}

/// Returns the user and the password of an address whose authority starts at `begin`. `next_at` is the
/// position of the next `@`.
fn user_info(text: &str, begin: usize, next_at: usize) -> Option<Range<usize>> {
    let window = &text[begin..boundary(text, begin + WINDOW)];
    let authority = window.split(AUTHORITY_ENDS).next().unwrap_or_default();
    if next_at >= begin + window.len() {
        // A user without an end in the window is masked as a whole.
        let is_cut = authority.len() == window.len() && begin + window.len() < text.len();
        return is_cut.then_some(begin..next_at);
    }
    let rest = || line(window);
    let word = || rest().split(WORD_ENDS).next().unwrap_or_default();
    let end = if authority.contains('@') {
        let user = authority.rfind('@');
        // A password may contain characters that end an authority: `me:p@w/w@host`.
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
        // A host with a port, and a path behind it.
        if port.bytes().all(|b| b.is_ascii_digit()) || is_reference(port) {
            return None;
        }
        // A password may contain characters that end an authority, and even blanks: `me:p/w@host`.
        let is_user = !name.contains(['[', ']']);
        is_user.then(|| word().rfind('@').or_else(|| rest().rfind('@')))?
    };
    end.filter(|end| *end > 0).map(|end| begin..begin + end)
}

/// The characters that end the authority of an address.
const AUTHORITY_ENDS: [char; 10] = ['/', '?', '#', ' ', '"', '\'', '<', '>', '\n', '\r'];

/// The characters that end a word with an address.
const WORD_ENDS: [char; 5] = [' ', '"', '\'', '<', '>'];

/// The schemes of addresses whose user is a name and not a token.
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

/// Whether a text ends with one of [`NAMED_USERS`].
fn has_named_users(text: &str) -> bool {
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || b"+-.".contains(b);
    let length = text.bytes().rev().take(16).take_while(is_part).count();
    let scheme = &text[text.len() - length..];
    NAMED_USERS.iter().any(|it| scheme.eq_ignore_ascii_case(it))
}

/// Prefixes of secret addresses: anyone who knows the address can post to it.
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

/// Finds the secret part of webhooks.
pub(super) fn find_webhooks(text: &str, on_secret: &mut OnSecret<'_>) -> bool {
    WEBHOOKS.iter().all(|prefix| {
        let mut done = 0;
        text.match_indices(prefix).all(|(at, _)| {
            let begin = at + prefix.len();
            if at < done || text[begin..].starts_with(MASK) {
                return true;
            }
            let end = text[begin..].find([' ', '"', '\'', '\n']);
            done = end.map_or(text.len(), |end| begin + end);
            begin == done || on_secret(begin..done)
        })
    })
}
