//! Masks the credentials of a source in all its reports.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::error::Error;
use crate::sync::lock::Mutex;
use crate::value::percent;
use crate::value::secret::encode::{from_base64, from_percent, to_base64};
use crate::value::secret::forms::{mask_parts, text_holds_secret};
use crate::value::secret::names::{header_looks_secret, parameter_looks_secret};

/// The number of tokens to keep, the newest ones. A log-in may return a new one each time.
const MAX_TOKENS: usize = 32;
/// The number of passwords to keep, the newest ones. A file may rotate them, and a login adds two.
const MAX_PASSWORDS: usize = 128;
/// A shorter credential is masked only as a whole word.
const MIN_PART_LENGTH: usize = 4;
/// The number of characters that identify a credential in a truncated message.
const PREFIX_LENGTH: usize = 8;

/// A list of the credentials that a source sends, which masks them in all its reports.
///
/// A server may quote a credential in the text of an error, in an entity tag or in a redirect. A source adds
/// each password, token and key before it sends it, and returns this list from
/// [`Source::credentials`](crate::Source::credentials). The engine then shows `******` instead of the
/// credential in the source's name, errors, problems, location and revision. It also masks a credential in
/// base64, with percent escapes, and truncated at the end of a message. A clone shares the list.
///
/// A credential that is a mere word or number, such as `postgres` or `true`, is masked only as a whole word.
/// It is not masked in the key and the expected type of an error: a mask there hides nothing and shows what
/// the password is.
///
/// ```
/// use liveprops::source::Credentials;
///
/// let credentials = Credentials::new();
/// credentials.add("s3cr3t-token");
/// credentials.add_login("me", "hunter2");
/// assert_eq!(credentials.mask("403: s3cr3t-token is unknown"), "403: ****** is unknown");
/// assert_eq!(credentials.mask("not for Basic bWU6aHVudGVyMg=="), "not for Basic ******==");
/// ```
#[derive(Clone, Default)]
pub struct Credentials(Arc<Mutex<Vec<KnownCredential>>>);

/// A credential, with the forms in which a server may quote it.
struct KnownCredential {
    retention: Retention,
    credential: Box<str>,
    forms: Vec<Box<str>>,
}

/// How long a credential is kept, the shortest first.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Retention {
    Token,
    Password,
    /// For credentials in the settings of a source.
    Forever,
}

impl Credentials {
    /// Creates an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a token or a key. Only the newest 32 are kept; one that is added again becomes the newest.
    pub fn add(&self, credential: &str) {
        self.add_as(Retention::Token, credential);
    }

    /// Adds the password of a user, and both as `Basic` authentication sends them. Only the newest 64 logins
    /// are kept.
    pub fn add_login(&self, user: &str, password: &str) {
        self.add_login_as(Retention::Password, user, password);
    }

    fn add_login_as(&self, retention: Retention, user: &str, password: &str) {
        if !password.is_empty() {
            self.add_as(retention, password);
            self.add_as(retention, &format!("{user}:{password}"));
        }
    }

    fn add_as(&self, retention: Retention, credential: &str) {
        let credential = credential.trim();
        if credential.is_empty() {
            return;
        }
        let mut known = self.0.lock();
        if let Some(at) = known.iter().position(|it| &*it.credential == credential) {
            let mut again = known.remove(at);
            again.retention = again.retention.max(retention);
            known.push(again);
            return;
        }
        let most = match retention {
            Retention::Token => MAX_TOKENS,
            Retention::Password => MAX_PASSWORDS,
            Retention::Forever => usize::MAX,
        };
        if known.iter().filter(|it| it.retention == retention).count() >= most {
            let oldest = known.iter().position(|it| it.retention == retention);
            oldest.map(|at| known.remove(at));
        }
        known.push(KnownCredential {
            retention,
            credential: credential.into(),
            forms: forms(credential),
        });
    }

    /// Adds the secrets of an address: its user and password, and parameters with secret names.
    #[allow(dead_code)] // by the sources that have addresses
    pub(crate) fn add_address(&self, address: &str) {
        let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        if let Some((user_info, _)) = rest[..end].rsplit_once('@') {
            self.add_user_info(user_info);
        }
        for parameter in rest.split(['?', '&', '#']).skip(1) {
            match parameter.split_once('=') {
                Some((name, value)) if parameter_looks_secret(name) => {
                    self.add_as(Retention::Forever, value);
                    self.add_as(Retention::Forever, &from_percent(value).unwrap_or_default());
                }
                _ => {}
            }
        }
    }

    /// Adds the part of an address before the `@`: `user:password`, with or without percent escapes.
    fn add_user_info(&self, user_info: &str) {
        let plain = |text: &str| from_percent(text).unwrap_or_else(|| text.to_owned());
        self.add_as(Retention::Forever, user_info);
        match user_info.split_once(':') {
            Some((user, password)) => {
                self.add_as(Retention::Forever, password);
                self.add_login_as(Retention::Forever, &plain(user), &plain(password));
            }
            None => self.add_as(Retention::Forever, &plain(user_info)),
        }
    }

    /// Adds the value of a header and its secret parts, if its name or the form of its value is secret.
    #[allow(dead_code)] // by the sources that send headers
    pub(crate) fn add_header(&self, name: &str, value: &str) {
        if !header_looks_secret(name) && !text_holds_secret(value) {
            return;
        }
        self.add_as(Retention::Forever, value);
        let Some((_, credential)) = value.trim().split_once(' ') else {
            return;
        };
        self.add_as(Retention::Forever, credential);
        let login = from_base64(credential.trim()).and_then(|it| String::from_utf8(it).ok());
        if let Some((user, password)) = login.as_deref().and_then(|it| it.split_once(':')) {
            self.add_login_as(Retention::Forever, user, password);
        }
    }

    /// Masks each credential in a text with `******`.
    pub fn mask(&self, text: &str) -> String {
        self.masked(text).unwrap_or_else(|| text.to_owned())
    }

    /// As [`mask`](Self::mask); `None` if the text has no credential.
    pub(crate) fn masked(&self, text: &str) -> Option<String> {
        self.masked_forms(text, |_| true)
    }

    fn masked_forms(&self, text: &str, select: impl Fn(&str) -> bool) -> Option<String> {
        let mut parts = Vec::new();
        let known = self.0.lock();
        let forms = known.iter().flat_map(|known| &known.forms);
        forms
            .filter(|form| select(form))
            .for_each(|form| find_quotations(text, form, &mut parts));
        drop(known);
        (!parts.is_empty()).then(|| mask_parts(text, parts))
    }

    /// Masks each credential in the texts of an error. Its key and its expected type are words of the
    /// program, so a password that is a mere word is not masked there.
    pub(crate) fn mask_error(&self, error: Error) -> Error {
        error.map_texts(&|text| self.masked(text), &|own| {
            self.masked_forms(own, |form| !is_word(form))
        })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.0.lock().len())
    }
}

/// The forms in which a server may quote a credential.
fn forms(credential: &str) -> Vec<Box<str>> {
    let percent = percent::encode(credential);
    let base64 = to_base64(credential.as_bytes());
    let mut forms = vec![
        credential.to_owned(),
        // As a host name.
        credential.to_ascii_lowercase(),
        credential.escape_debug().to_string(),
        lower_escapes(&percent),
        percent.replace("%20", "+"),
        percent,
        base64.replace('+', "-").replace('/', "_"),
        base64,
    ];
    forms.extend(from_percent(credential));
    forms.sort();
    forms.dedup();
    forms.into_iter().map(String::into_boxed_str).collect()
}

/// Whether a credential is a word or a number, which a text may contain for other reasons.
fn is_word(form: &str) -> bool {
    let rest = form.get(1..).unwrap_or_default();
    let is_lower = rest.bytes().all(|b| b.is_ascii_lowercase());
    let is_upper = rest.bytes().all(|b| b.is_ascii_uppercase());
    let is_word = form.bytes().all(|b| b.is_ascii_alphabetic()) && (is_lower || is_upper);
    is_word || form.bytes().all(|b| b.is_ascii_digit())
}

/// A text with the digits behind percent signs in lower case.
fn lower_escapes(text: &str) -> String {
    let mut left = 0u8;
    let lower = |c: char| {
        let digit = left > 0;
        left = if c == '%' { 2 } else { left.saturating_sub(1) };
        if digit { c.to_ascii_lowercase() } else { c }
    };
    text.chars().map(lower).collect()
}

/// Finds the quotations of a credential in a text: whole, or truncated at the end of a message.
pub(super) fn find_quotations(text: &str, form: &str, parts: &mut Vec<Range<usize>>) {
    let begin = match form.char_indices().nth(PREFIX_LENGTH) {
        Some((at, _)) => &form[..at],
        None => form,
    };
    let is_word = is_word(form);
    for (at, _) in text.match_indices(begin) {
        let same = text[at..]
            .char_indices()
            .zip(form.chars())
            .find(|((_, a), b)| a != b)
            .map_or(form.len().min(text.len() - at), |((same, _), _)| same);
        let end = at + same;
        let is_truncated = || {
            text[end..]
                .chars()
                .next()
                .is_none_or(|c| ").…\"'`>,".contains(c))
        };
        let is_whole = same == form.len();
        let is_known = is_whole
            && ((form.len() >= MIN_PART_LENGTH && !is_word) || is_whole_word(text, &(at..end)));
        if is_known || (!is_whole && is_truncated()) {
            parts.push(at..end);
        }
    }
}

/// Whether a part of a text is a whole word, and not part of a key or a scheme.
fn is_whole_word(text: &str, part: &Range<usize>) -> bool {
    let mut before = text[..part.start].chars().rev();
    let mut after = text[part.end..].chars();
    !text[part.end..].starts_with("://")
        && !continues_word(&mut before)
        && !continues_word(&mut after)
}

/// Whether these characters continue a word.
fn continues_word(chars: &mut impl Iterator<Item = char>) -> bool {
    match chars.next() {
        Some('.' | '-' | '_') => chars.next().is_some_and(char::is_alphanumeric),
        next => next.is_some_and(char::is_alphanumeric),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_masked_in_every_form_in_which_a_server_may_quote_it() {
        let credentials = Credentials::new();
        credentials.add("s3cr/t tok\"en+x");
        credentials.add_login("me", "hunter2");
        credentials.add("abc");
        credentials.add_address("http://you:p%40ss%2fw0rd@h/x?a=b&sig=x%2Fyz");
        credentials.add_header("Authorization", "Basic bWU6b3RoZXItcHc=");
        for (text, masked) in [
            ("a s3cr/t tok\"en+x b", "a ****** b"),
            ("a s3cr%2Ft%20tok%22en%2Bx b", "a ****** b"),
            ("a s3cr%2ft%20tok%22en%2bx b", "a ****** b"),
            ("a s3cr%2Ft+tok%22en%2Bx b", "a ****** b"),
            ("a s3cr/t tok\\\"en+x b", "a ****** b"),
            ("(a s3cr/t tok)", "(a ******)"),
            ("a czNjci90IHRvayJlbit4 b", "a ****** b"),
            ("Basic bWU6aHVudGVyMg==", "Basic ******=="),
            ("me:hunter2@h", "******@h"),
            ("p@ss/w0rd", "******"),
            ("p%40ss%2fw0rd", "******"),
            ("bWU6b3RoZXItcHc= other-pw", "****** ******"),
            ("abc abcd xabc (abc)", "****** abcd xabc (******)"),
            ("sig x/yz", "sig ******"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(credentials.mask(text), masked);
        }
        assert!(format!("{credentials:?}").starts_with("Credentials("));
    }

    #[test]
    fn a_header_that_is_no_secret_is_not_masked() {
        let credentials = Credentials::new();
        credentials.add_header("X-Env", "prod");
        credentials.add_header("X-Api-Key", "abc-123");
        credentials.add_header("X-Forward", "Bearer abcdefgh12");
        let masked = credentials.mask("prod: abc-123, abcdefgh12");
        assert_eq!(masked, "prod: ******, ******");
    }

    #[test]
    fn a_password_that_is_a_mere_word_is_masked_only_as_a_whole_word() {
        let credentials = Credentials::new();
        credentials.add_login("me", "postgres");
        credentials.add_login("me", "true");
        for (text, masked) in [
            ("postgres://me:postgres@h", "postgres://******@h"),
            ("wrong: `postgres`.", "wrong: `******`."),
            (
                "db.postgres.host, postgres_port",
                "db.postgres.host, postgres_port",
            ),
            ("it is untrue", "it is untrue"),
        ] {
            assert_eq!(credentials.mask(text), masked);
        }
        let error = Error::new(crate::ErrorKind::Unavailable, "postgres says no")
            .with_key_text("postgres")
            .with_expected("true");
        let shown = credentials.mask_error(error).to_string();
        assert!(
            shown.contains("`postgres`") && shown.contains("true"),
            "{shown}"
        );
        assert!(shown.contains("****** says no"), "{shown}");
    }

    #[test]
    fn a_password_outlives_any_number_of_tokens() {
        let credentials = Credentials::new();
        credentials.add_login("me", "hunter2");
        credentials.add("first-token-1");
        for n in 0..100 {
            credentials.add(&format!("token-{n}-x"));
            credentials.add("first-token-1");
        }
        let masked = credentials.mask("hunter2 first-token-1 token-0-x token-99-x");
        assert_eq!(masked, "****** ****** token-0-x ******");
    }

    #[test]
    fn no_address_is_forgotten() {
        let credentials = Credentials::new();
        let address = |n: usize| format!("http://user{n}:pass-{n}-word@host");
        (0..300).for_each(|n| credentials.add_address(&address(n)));
        assert_eq!(
            credentials.mask("pass-0-word pass-299-word"),
            "****** ******"
        );
    }
}
