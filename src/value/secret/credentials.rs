//! What a source is known by to its server, kept out of all that it reports.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::error::Error;
use crate::sync::lock::Mutex;
use crate::value::secret::encode::{from_base64, from_percent, to_base64, to_percent};
use crate::value::secret::forms::mask_parts;
use crate::value::secret::names::parameter_looks_secret;

/// As many credentials are remembered, the newest: a file may bring another one now and then.
const MAX_KEPT: usize = 32;
/// A shorter text is masked only where it stands alone: it may be part of any word.
const SHORT: usize = 4;
/// So much of a credential is known where a message was cut in the midst of it.
const BEGIN: usize = 8;

/// The credentials that a source sends, which nothing that it reports may show.
///
/// A server may quote what it was sent: in the text of an error, in an entity tag, in a redirect. A
/// source adds each password, token and key before it sends it, and returns this from
/// [`Source::credentials`](crate::Source::credentials). The engine then shows `******` in its place
/// in the source's name, errors, problems, location and revision. It also knows the credential in
/// base64, with percent signs, and cut at the end of a message. Cloning gives another handle to the
/// same list.
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
pub struct Credentials(Arc<Mutex<Vec<Known>>>);

/// A credential with the forms in which it may come back.
struct Known {
    credential: Box<str>,
    forms: Vec<Box<str>>,
}

impl Credentials {
    /// Creates an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a password, a token or a key. The oldest of more than 32 is forgotten.
    pub fn add(&self, credential: &str) {
        let credential = credential.trim();
        if credential.is_empty() {
            return;
        }
        let mut known = self.0.lock();
        if known.iter().any(|it| &*it.credential == credential) {
            return;
        }
        if known.len() >= MAX_KEPT {
            known.remove(0);
        }
        known.push(Known {
            credential: credential.into(),
            forms: forms(credential),
        });
    }

    /// Adds the password of a user, and both as `Basic` authentication sends them.
    pub fn add_login(&self, user: &str, password: &str) {
        if !password.is_empty() {
            self.add(password);
            self.add(&format!("{user}:{password}"));
        }
    }

    /// Adds what is secret in an address: its user and password, and parameters with such a name.
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
                    self.add(value);
                    self.add(&from_percent(value).unwrap_or_default());
                }
                _ => {}
            }
        }
    }

    /// Adds what stands before the `@` of an address: `user:password`, with percent signs or without.
    fn add_user_info(&self, user_info: &str) {
        let plain = |text: &str| from_percent(text).unwrap_or_else(|| text.to_owned());
        self.add(user_info);
        match user_info.split_once(':') {
            Some((user, password)) => {
                self.add(password);
                self.add_login(&plain(user), &plain(password));
            }
            None => self.add(&plain(user_info)),
        }
    }

    /// Adds the value of a header that is sent, and of its parts what is secret.
    #[allow(dead_code)] // by the sources that send headers
    pub(crate) fn add_header(&self, value: &str) {
        self.add(value);
        let Some((_, credential)) = value.trim().split_once(' ') else {
            return;
        };
        self.add(credential);
        let login = from_base64(credential.trim()).and_then(|it| String::from_utf8(it).ok());
        if let Some((user, password)) = login.as_deref().and_then(|it| it.split_once(':')) {
            self.add_login(user, password);
        }
    }

    /// A text with `******` in place of each credential in it.
    pub fn mask(&self, text: &str) -> String {
        self.masked(text).unwrap_or_else(|| text.to_owned())
    }

    /// As [`mask`](Self::mask); `None` if there is none in it.
    pub(crate) fn masked(&self, text: &str) -> Option<String> {
        let mut parts = Vec::new();
        for form in self.0.lock().iter().flat_map(|known| &known.forms) {
            find(text, form, &mut parts);
        }
        (!parts.is_empty()).then(|| mask_parts(text, parts))
    }

    /// An error with `******` in place of each credential in its texts.
    pub(crate) fn mask_error(&self, error: Error) -> Error {
        error.map_texts(&|text| self.masked(text))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.0.lock().len())
    }
}

/// What a credential may come back as.
fn forms(credential: &str) -> Vec<Box<str>> {
    let percent = to_percent(credential);
    let base64 = to_base64(credential.as_bytes());
    let mut forms = vec![
        credential.to_owned(),
        // As the name of a host.
        credential.to_ascii_lowercase(),
        credential.escape_debug().to_string(),
        lower_escapes(&percent),
        percent.replace("%20", "+"),
        percent,
        base64.replace('+', "-").replace('/', "_"),
        base64,
    ];
    forms.extend(from_percent(credential));
    forms.sort_unstable();
    forms.dedup();
    forms.into_iter().map(String::into_boxed_str).collect()
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

/// Finds where a form of a credential stands in a text, whole, or cut at the end of a message.
fn find(text: &str, form: &str, parts: &mut Vec<Range<usize>>) {
    let begin = match form.char_indices().nth(BEGIN) {
        Some((at, _)) => &form[..at],
        None => form,
    };
    for (at, _) in text.match_indices(begin) {
        let same = text[at..]
            .char_indices()
            .zip(form.chars())
            .find(|((_, a), b)| a != b)
            .map_or(form.len().min(text.len() - at), |((same, _), _)| same);
        let end = at + same;
        let is_cut = || {
            text[end..]
                .chars()
                .next()
                .is_none_or(|c| ").…\"'`>,".contains(c))
        };
        let stands_alone = || {
            let before = text[..at].chars().next_back();
            let after = text[end..].chars().next();
            ![before, after]
                .iter()
                .flatten()
                .any(|c| c.is_alphanumeric())
        };
        let counts = match same == form.len() {
            true => form.len() >= SHORT || stands_alone(),
            false => is_cut(),
        };
        if counts {
            parts.push(at..end);
        }
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
        credentials.add_header("Basic bWU6b3RoZXItcHc=");
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
}
