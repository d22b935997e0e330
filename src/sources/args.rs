//! The command line: `--ratelimit.qps=500`.

use std::ffi::OsString;

use crate::error::{Error, ErrorKind};
use crate::source::{Policy, Source, Watching, WithPolicy};
use crate::value::Value;
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::origin::Origin;

/// Reads properties from the command line.
///
/// `--ratelimit.qps=500` sets `ratelimit.qps` to the text `500`, which becomes a number where
/// the program reads one; `--verbose` without a value sets `true`. Only arguments that begin with `--`
/// count, and none after a bare `--`; the last of several wins.
///
/// `--ratelimit.qps 500` with a space sets `true`, because a value looks like the next argument.
/// A read of such a key as a number or a text is an error with the advice to write `--ratelimit.qps=500`, and the
/// health of this source has a hint ([`SourceHealth::hints`](crate::health::SourceHealth::hints)).
///
/// Names are keys as they are: `--ratelimit-qps`, `--RATELIMIT.QPS` and `--peers[0].port` set other keys
/// than `ratelimit.qps` and `peers.0.port`. The health of this source has a hint for each such argument that
/// differs only by `_`, `-`, `.` or case from a key of another source, of the schema or of a handle, and
/// for an index in brackets.
///
/// A name contains no blank and no `:` outside quotes: `--db.password hunter2` as one
/// argument, or `--db.password:hunter2`, sets nothing and is reported in the health of the source. Only
/// the text before the blank or the `:` is shown. The same applies to a name with a quote that is not
/// closed, or that encloses a part of a segment: nothing behind the quote, or behind the first `=`, is shown.
///
/// Values contain no references: `${` in them is text, unless
/// [`with_references`](Self::with_references) is set.
///
/// ```
/// use liveprops::{Properties, sources::Args};
///
/// let props = Properties::builder()
///     .source(Args::from(["--ratelimit.qps=500", "--verbose", "input.txt"]))
///     .build()?;
/// assert_eq!(props.get::<u32>("ratelimit.qps")?, 500);
/// assert!(props.get::<bool>("verbose")?);
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone)]
pub struct Args(Vec<OsString>);

impl Args {
    /// The arguments of this process.
    pub fn new() -> Self {
        Self(std::env::args_os().skip(1).collect())
    }

    /// Follows `${key}` in values as a reference to another key. By default the values contain no
    /// references.
    #[must_use]
    pub fn with_references(self) -> WithPolicy<Self> {
        self.with(Policy::with_references)
    }
}

impl Default for Args {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Into<OsString>, const N: usize> From<[S; N]> for Args {
    fn from(args: [S; N]) -> Self {
        args.into_iter().collect()
    }
}

impl<S: Into<OsString>> FromIterator<S> for Args {
    /// Takes arguments, without the program's name.
    fn from_iter<I: IntoIterator<Item = S>>(args: I) -> Self {
        Self(args.into_iter().map(Into::into).collect())
    }
}

impl Args {
    /// Why an argument is `true` although a value seems to follow it. The value is not shown.
    fn detached_value(&self, index: usize, argument: &str) -> Option<Error> {
        let next = self.0.get(index + 1)?.as_encoded_bytes();
        let is_flag = next.starts_with(b"-") && !next[1..].first().is_some_and(u8::is_ascii_digit);
        if next.is_empty() || is_flag {
            return None;
        }
        let detail = format!(
            "is `true`, because the next argument is not its value; to set a value, write `--{argument}=VALUE`"
        );
        Some(Error::new(ErrorKind::InvalidKey, detail))
    }
}

/// Why an argument sets no item of a list, and what to write: `peers[0].port` is a key of its own.
fn bracketed(name: &str) -> Option<Error> {
    let mut plain = String::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('[') {
        let (index, after) = after.split_once(']')?;
        let is_index = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
        let is_end = after.is_empty() || after.starts_with(['.', '[']);
        if !is_index || !is_end || name.starts_with('[') || name.contains('"') {
            return None;
        }
        plain.push_str(&format!("{before}.{index}"));
        rest = after;
    }
    if plain.is_empty() {
        return None;
    }
    plain.push_str(rest);
    let detail = format!("sets no item of a list; write `--{plain}=VALUE`");
    Some(Error::new(ErrorKind::InvalidKey, detail))
}

impl Source for Args {
    fn origin(&self) -> Origin {
        Origin::new("args", "")
    }

    fn load(&self) -> Result<Document, Error> {
        let mut document = Document::new();
        for (index, arg) in self.0.iter().enumerate() {
            if arg == "--" {
                break;
            }
            let Some(bytes) = arg.as_encoded_bytes().strip_prefix(b"--") else {
                continue;
            };
            let here = |name: &str| Origin::new("argument", format!("--{name}"));
            let Ok(text) = std::str::from_utf8(bytes) else {
                let origin = match name_of(bytes) {
                    Some(name) => here(name),
                    None => Origin::new("argument", format!("number {}", index + 1)),
                };
                let error = Error::new(ErrorKind::Malformed, "is not UTF-8 and was skipped");
                document.report_fragment(&origin, error.with_origin(&origin));
                continue;
            };
            let (name, value) = match parts(text) {
                Ok(parts) => parts,
                Err(shown) => {
                    let problem = no_name(shown, &text[shown.len()..]);
                    document.report_problem(problem.with_key_text(shown).with_origin(here(shown)));
                    continue;
                }
            };
            let hints = match value {
                Some(_) => None,
                None => self.detached_value(index, name),
            };
            let value = value.map_or(Value::from(true), Value::from);
            for hint in hints.into_iter().chain(bracketed(name)) {
                document.hint(hint.with_key_text(name).with_origin(here(name)));
            }
            let put = Key::parse(name).and_then(|key| {
                if document.get(key.as_str()).is_some() {
                    document.remove(key.as_str());
                }
                document.set(key.as_str(), value, here(name))
            });
            match put {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::InvalidKey => {
                    document.report_problem(error.with_origin(here(name)));
                }
                Err(error) => document.report_fragment(&here(name), error.with_origin(here(name))),
            }
        }
        Ok(document)
    }

    fn policy(&self) -> Policy {
        Policy::new().without_references()
    }

    fn watching(&self) -> Watching {
        Watching::Never
    }
}

/// The name of an argument whose value is not UTF-8.
fn name_of(bytes: &[u8]) -> Option<&str> {
    let valid = bytes.utf8_chunks().next()?.valid();
    match parts(valid) {
        Ok((name, Some(_))) => Some(name),
        _ => None,
    }
}

/// Splits an argument into its name and its value, at the first `=` outside the quotes of its name.
///
/// The error is the part that may be shown of an argument whose name is malformed: what follows may be a secret.
fn parts(text: &str) -> Result<(&str, Option<&str>), &str> {
    let mut at = 0;
    let mut is_start = true;
    while let Some(c) = text[at..].chars().next() {
        match c {
            '=' => return Ok((&text[..at], Some(&text[at + 1..]))),
            '"' if is_start => match quoted(&text[at..]) {
                Some(length) => at += length,
                None => {
                    let end = text[at..].find(ends_name).map_or(at, |end| at + end);
                    return Err(&text[..end]);
                }
            },
            _ if c == '"' || ends_name(c) => return Err(&text[..at]),
            _ => at += c.len_utf8(),
        }
        is_start = c == '.';
    }
    Ok((text, None))
}

/// What ends a name outside quotes.
fn ends_name(c: char) -> bool {
    matches!(c, '=' | ':') || c.is_whitespace()
}

/// The length of the quoted segment at the beginning of a text; `None` if its quote is not closed, or if the
/// segment does not end behind it.
fn quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    let (close, _) = text.char_indices().skip(1).find(|(_, c)| {
        let is_end = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        is_end
    })?;
    let after = &text[close + 1..];
    let is_whole = after.is_empty() || after.starts_with('.') || after.starts_with(ends_name);
    is_whole.then_some(close + 1)
}

/// The error for an argument whose name is malformed; `name` is the part that may be shown, `rest` what follows.
fn no_name(name: &str, rest: &str) -> Error {
    let what = match rest.chars().next() {
        Some(':') => "a `:` in its name",
        Some(c) if c.is_whitespace() => "a blank in its name",
        _ => "a quote in its name that does not enclose a whole part of it",
    };
    let detail = format!("has {what} and was ignored; if a value follows, write `--{name}=VALUE`");
    Error::new(ErrorKind::InvalidKey, detail)
}

impl std::fmt::Debug for Args {
    /// Shows how many there are, but none of them: one may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Args({})", self.0.len())
    }
}
