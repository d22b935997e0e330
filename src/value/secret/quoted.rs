//! Masks the secrets that a text quotes, such as the reason of a validator or the message of a panic.

use std::borrow::Cow;
use std::ops::Range;

use crate::value::secret::credentials;
use crate::value::secret::encode::from_percent;
use crate::value::secret::forms::{mask_parts, secret_parts};

/// A shorter secret is not masked: it may be part of any text.
const MIN_LENGTH: usize = 4;
/// Values that are never secret.
const PLAIN_VALUES: [&str; 4] = ["true", "false", "none", "null"];
/// The number of characters that show that a text may quote a secret.
const PREFIX_LENGTH: usize = 8;

/// A text and the parts of it that quote secrets.
pub(crate) struct Quoted<'t> {
    text: &'t str,
    parts: Vec<Range<usize>>,
}

impl<'t> Quoted<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let parts = Vec::new();
        Self { text, parts }
    }

    /// Whether the text contains the first characters of a secret.
    pub(crate) fn may_quote(&self, secret: &str) -> bool {
        let secret = secret.trim();
        let is_plain = PLAIN_VALUES
            .iter()
            .any(|it| secret.eq_ignore_ascii_case(it));
        if is_plain || secret.chars().nth(MIN_LENGTH - 1).is_none() {
            return false;
        }
        let begin = match secret.char_indices().nth(PREFIX_LENGTH) {
            Some((at, _)) => &secret[..at],
            None => secret,
        };
        self.text.contains(begin) || escaped(begin).is_some_and(|begin| self.text.contains(&*begin))
    }

    /// Masks each quotation of a secret: whole, truncated, or with the escapes of `{:?}`.
    pub(crate) fn add(&mut self, secret: &str) {
        let secret = secret.trim();
        if self.may_quote(secret) {
            credentials::find_quotations(self.text, secret, &mut self.parts);
            if let Some(escaped) = escaped(secret) {
                credentials::find_quotations(self.text, &escaped, &mut self.parts);
            }
        }
    }

    /// Masks each quotation of a value that has secret parts by its form, of these parts, and of their
    /// passwords: of `pg://me:pw@host` the whole text, `me:pw` and `pw`.
    pub(crate) fn add_parts(&mut self, value: &str) {
        let parts = secret_parts(value);
        if parts.is_empty() {
            return;
        }
        for whole in [Some(Cow::Borrowed(value.trim())), escaped(value.trim())] {
            let whole = whole.unwrap_or_default();
            if !whole.is_empty() {
                let quotations = self.text.match_indices(&*whole);
                self.parts
                    .extend(quotations.map(|(at, _)| at..at + whole.len()));
            }
        }
        for part in parts {
            let part = &value[part];
            self.add_with_escapes(part);
            if let Some((_, password)) = part.split_once(':') {
                self.add_with_escapes(password);
            }
        }
    }

    /// As [`add`](Self::add), with and without percent escapes.
    fn add_with_escapes(&mut self, secret: &str) {
        self.add(secret);
        if let Some(plain) = from_percent(secret).filter(|plain| plain != secret) {
            self.add(&plain);
        }
    }

    /// The masked text; `None` if it quotes no secret.
    pub(crate) fn masked(self) -> Option<String> {
        (!self.parts.is_empty()).then(|| mask_parts(self.text, self.parts))
    }
}

/// A secret as `{:?}` writes it, if that is another text.
fn escaped(secret: &str) -> Option<Cow<'_, str>> {
    let escaped = secret.escape_debug().to_string();
    (escaped != secret).then_some(Cow::Owned(escaped))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str, secret: &str) -> String {
        let mut quoted = Quoted::new(text);
        quoted.add(secret);
        quoted.masked().unwrap_or_else(|| text.to_owned())
    }

    #[test]
    fn a_quoted_secret_is_masked_at_any_position() {
        for (text, secret, shown) in [
            ("password is hunter2zz!", "hunter2zz", "password is ******!"),
            ("xhunter2zzx hunter2zz", "hunter2zz", "x******x ******"),
            (r#"bad "a\"b\\c9""#, r#"a"b\c9"#, r#"bad "******""#),
            (
                "(starts with hunter2-zz…",
                "hunter2-zz-more",
                "(starts with ******…",
            ),
            ("needs a number", "12", "needs a number"),
            (
                "at postgres, in postgresql",
                "postgres",
                "at ******, in postgresql",
            ),
        ] {
            assert_eq!(masked(text, secret), shown);
        }
    }

    #[test]
    fn the_parts_of_an_address_are_masked() {
        let value = "postgres://me:hunter%232zz@host/db";
        for (text, shown) in [
            (
                "bad url postgres://me:hunter%232zz@host/db",
                "bad url ******",
            ),
            ("no user me:hunter%232zz here", "no user ****** here"),
            ("wrong password hunter#2zz", "wrong password ******"),
            ("cannot reach postgres", "cannot reach postgres"),
        ] {
            let mut quoted = Quoted::new(text);
            quoted.add_parts(value);
            let masked = quoted.masked().unwrap_or_else(|| text.to_owned());
            assert_eq!(masked, shown);
        }
    }
}
