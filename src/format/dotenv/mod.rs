//! Dotenv: `KEY=value` lines, as in `.env` files.
//!
//! An `export` before the name is skipped; `#` and `;` begin a comment line. Text in single quotes
//! is taken as it is. Text in double quotes knows `\n`, `\r`, `\t`, `\"`, `\\`, `\$`, `` \` `` and
//! a backslash that joins two lines; other backslashes stay. Both may run over several lines, and
//! CRLF within them is a plain newline.
//! Text without quotes is trimmed and ends before a ` #`. There `\${` is a literal `${`, and other
//! backslashes stay. Nothing is expanded here: `${key}` without
//! quotes or in double quotes is a reference, as in any document. In single quotes, and where `\$`
//! writes the dollar, it is text.
//!
//! A line that sets no key is reported and left out, and so is one with text after the closing quote,
//! such as `A='it'\''s'`: it is skipped up to its end. If the key has a last good value, that stays.
//! Of a name that is given twice the last line counts, as in a shell, and the repetition is reported.
//!
//! Lines end with a line feed, perhaps after carriage returns. Another carriage return in a line probably ends
//! a line there, so it is reported: it costs the key if it is in a value without quotes.
//!
//! Only a fault that leaves open where a value ends rejects the text: a quote that is not closed, or a
//! last line without `=` and without a newline, which is what is left of a file that was cut. Text after
//! a quote that was opened on an earlier line means that the quote of an earlier value is not closed.
//!
//! This is not the syntax of systemd's `EnvironmentFile`. There a ` #` does not end a value, a backslash
//! outside quotes escapes the next character, `\n` in double quotes stays as it is, and text after a
//! closing quote belongs to the value.

use std::collections::HashMap;

use crate::error::{Error, ErrorKind};
use crate::format::flat::{Cursor, PairTree};
use crate::format::limits::{malformed_error, reject_bom};
use crate::value::document::Document;
use crate::value::envname::env_name_to_key;
use crate::value::key::Key;
use crate::value::literal;
use crate::value::origin::Origin;

#[cfg(test)]
mod tests;

pub(crate) fn parse(text: &str, origin: &Origin) -> Result<Document, Error> {
    let mut reader = Reader {
        cursor: Cursor::new(text),
        origin,
        problems: Vec::new(),
        unlisted: 0,
        unlisted_values: 0,
        unescaped: HashMap::new(),
        in_pem: false,
    };
    let mut tree = PairTree::default();
    loop {
        reader.cursor.skip_while(char::is_whitespace);
        match reader.cursor.peek() {
            None => break,
            Some('#' | ';') => reader.skip_comment(),
            Some(_) => reader.pair(&mut tree)?,
        }
    }
    let mut document = Document::from_table(tree.root);
    for (key, text) in reader.unescaped {
        document.set_unescaped(key, text);
    }
    for problem in reader.problems {
        match problem {
            Problem::Line(problem) => document.report_problem(problem),
            Problem::Value(problem) => document.report_unreadable(problem),
        }
    }
    if reader.unlisted > 0 {
        let detail = format!("{} more lines do not count", reader.unlisted);
        let problem = malformed_error(detail, origin.clone());
        if reader.unlisted_values > 0 {
            document.report_unreadable(problem);
        } else {
            document.report_problem(problem);
        }
    }
    Ok(document)
}

/// As many lines that do not count are reported one by one.
const MAX_PROBLEMS: usize = 100;

/// White space within a line; a carriage return is part of the line's end.
fn blank(c: char) -> bool {
    c != '\n' && c.is_whitespace()
}

struct Reader<'a> {
    cursor: Cursor<'a>,
    origin: &'a Origin,
    /// Why lines do not count.
    problems: Vec<Problem>,
    /// How many more such lines there are.
    unlisted: usize,
    /// How many of those have a key whose value cannot be read.
    unlisted_values: usize,
    /// The texts with dollars that are no part of a reference, without escapes.
    unescaped: HashMap<Key, String>,
    /// Whether the lines at hand are those of a PEM block without quotes.
    in_pem: bool,
}

/// Why a line does not count.
enum Problem {
    /// It sets no key, or its key is set by another line.
    Line(Error),
    /// The value of the key that the error names cannot be read.
    Value(Error),
}

/// What follows the `=` of a line.
enum Found {
    Value(Text),
    /// There is text here, after the closing quote.
    TextAfterQuote(Origin),
    /// The value without quotes that begins here has a carriage return.
    CarriageReturn(Origin),
}

struct Text {
    escaped: String,
    /// What it would be without escapes, if it has any.
    unescaped: Option<String>,
    at: Origin,
}

impl Reader<'_> {
    /// Reports a line that does not count.
    fn report(&mut self, problem: Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.unlisted += 1;
            self.unlisted_values += usize::from(matches!(problem, Problem::Value(_)));
        }
    }

    /// Reports a line that sets no key.
    fn skip(&mut self, problem: Error) {
        self.report(Problem::Line(problem));
    }

    /// Passes over the rest of a line, which is a comment.
    fn skip_comment(&mut self) {
        if has_carriage_return(line_of(self.cursor.rest())) {
            let at = self.cursor.at(self.origin);
            self.skip(malformed_error(CARRIAGE_RETURN, at));
        }
        self.cursor.skip_while(|c| c != '\n');
    }

    /// Passes over the value of a line that sets no key: over all of a quoted value, or else over the
    /// rest of the line.
    fn skip_value(&mut self) {
        let begin = self.cursor.clone();
        if self.value().is_err() {
            self.cursor = begin;
            self.cursor.skip_while(|c| c != '\n');
        }
    }

    fn pair(&mut self, tree: &mut PairTree) -> Result<(), Error> {
        if let Some(after) = self.cursor.rest().strip_prefix("export") {
            if after.starts_with(blank) {
                self.cursor.steps("export".len());
                self.cursor.skip_while(blank);
            }
        }
        let at = self.cursor.at(self.origin);
        let rest = self.cursor.rest();
        let line = line_of(rest);
        let is_pem_data = self.in_pem && ends_base64(line);
        self.in_pem = goes_on_in_pem(line, self.in_pem);
        if is_pem_data {
            self.skip(malformed_error(PEM_WITHOUT_QUOTES, at));
            self.cursor.skip_while(|c| c != '\n');
            return Ok(());
        }
        let Some((name, _)) = line.split_once('=') else {
            reject_bom(line, || at.clone())?;
            if line.len() == rest.len() {
                let detail = "the last line has no `=` and no newline: the text was cut";
                return Err(malformed_error(detail, at));
            }
            self.skip(malformed_error("a line without `=` sets no key", at));
            self.cursor.skip_while(|c| c != '\n');
            return Ok(());
        };
        self.cursor.steps(name.chars().count() + 1);
        // A malformed line may hold a part of a secret before its first `=`.
        reject_bom(name, || at.clone())?;
        let key = match key(name.trim_end()) {
            Ok(key) => key,
            // The limits hold for the document, as in every format.
            Err(fault) if fault.kind() == ErrorKind::TooLarge => {
                return Err(fault.without_key().with_origin(at));
            }
            Err(fault) => {
                self.skip(fault.without_key().with_origin(at));
                self.skip_value();
                return Ok(());
            }
        };
        match self.value()? {
            Found::Value(text) => self.put(tree, key, text),
            Found::TextAfterQuote(at) => {
                let detail =
                    "text after the closing quote; put all of the value in one pair of quotes";
                let problem = malformed_error(detail, at).with_key_text(key.as_str());
                self.report(Problem::Value(problem));
                Ok(())
            }
            Found::CarriageReturn(at) => {
                let problem = malformed_error(CARRIAGE_RETURN, at).with_key_text(key.as_str());
                self.report(Problem::Value(problem));
                Ok(())
            }
        }
    }

    fn put(&mut self, tree: &mut PairTree, key: Key, text: Text) -> Result<(), Error> {
        let path: Vec<_> = key.segments().collect();
        let before = tree.root.find(&path).filter(|it| it.node.table().is_none());
        let first = before.map(|entry| entry.node.origin().and_then(Origin::line));
        match tree.insert(&key, text.escaped, text.at.clone()) {
            Ok(()) => {}
            Err(error) if error.kind() != ErrorKind::InvalidKey => return Err(error),
            // A value and a table at once: the line that comes first counts, as in the environment.
            Err(error) if first.is_none() => {
                self.skip(error);
                return Ok(());
            }
            Err(_) => {
                let first = first.flatten().map(|(line, _)| line);
                self.skip(given_twice(&key, first, text.at));
            }
        }
        match text.unescaped {
            Some(unescaped) => drop(self.unescaped.insert(key, unescaped)),
            None => drop(self.unescaped.remove(&key)),
        }
        Ok(())
    }

    /// The value after the `=`.
    fn value(&mut self) -> Result<Found, Error> {
        let after_blank = self.cursor.peek().is_some_and(blank);
        self.cursor.skip_while(blank);
        let at = self.cursor.at(self.origin);
        let line = self.cursor.line();
        let (escaped, unescaped) = match self.cursor.peek() {
            Some('\'') => self.single(&at)?,
            Some('"') => self.double(&at)?,
            _ => {
                let line = line_of(self.cursor.rest());
                let text = self.bare(after_blank);
                if text.0.contains('\r') {
                    return Ok(Found::CarriageReturn(at));
                }
                if has_carriage_return(line) {
                    self.skip(malformed_error(CARRIAGE_RETURN, at.clone()));
                }
                text
            }
        };
        if let Some(after) = self.text_after() {
            // The quote that ends it probably begins another value.
            if self.cursor.line() != line {
                return Err(malformed_error(OPEN_QUOTE, at));
            }
            self.cursor.skip_while(|c| c != '\n');
            return Ok(Found::TextAfterQuote(after));
        }
        Ok(Found::Value(Text {
            escaped,
            unescaped,
            at,
        }))
    }

    /// The text, and the text without escapes if it needs any.
    fn bare(&mut self, mut after_blank: bool) -> (String, Option<String>) {
        let rest = self.cursor.rest();
        let line = line_of(rest);
        self.cursor.skip_while(|c| c != '\n');
        let mut end = line.len();
        for (at, c) in line.char_indices() {
            if c == '#' && after_blank {
                end = at;
                break;
            }
            after_blank = blank(c);
        }
        let mut rest = line[..end].trim();
        let mut text = String::with_capacity(rest.len());
        // Where the dollars are that are no part of a reference.
        let mut dollars = Vec::new();
        while let Some(at) = rest.find("\\${") {
            text.push_str(&rest[..at]);
            dollars.push(text.len());
            text.push_str("${");
            rest = &rest[at + "\\${".len()..];
        }
        text.push_str(rest);
        let escaped = escape_dollars(&text, &dollars);
        let unescaped = (escaped != text).then_some(text);
        (escaped, unescaped)
    }

    /// The text, and the text without escapes if it needs any.
    fn single(&mut self, at: &Origin) -> Result<(String, Option<String>), Error> {
        self.cursor.step();
        let mut text = String::new();
        loop {
            match self.cursor.step() {
                None => return Err(malformed_error(OPEN_QUOTE, at.clone())),
                Some('\'') => break,
                Some('\r') if self.cursor.peek() == Some('\n') => {}
                Some(c) => text.push(c),
            }
        }
        let escaped = literal::escape(&text);
        let unescaped = (escaped != text).then_some(text);
        Ok((escaped, unescaped))
    }

    /// The text, and the text without escapes if it needs any.
    fn double(&mut self, at: &Origin) -> Result<(String, Option<String>), Error> {
        self.cursor.step();
        let mut text = String::new();
        // Where the dollars are that are no part of a reference.
        let mut dollars = Vec::new();
        loop {
            match self.cursor.step() {
                None => return Err(malformed_error(OPEN_QUOTE, at.clone())),
                Some('"') => break,
                Some('\\') => {
                    if self.cursor.peek() == Some('$') {
                        dollars.push(text.len());
                    }
                    self.escape(&mut text);
                }
                Some('\r') if self.cursor.peek() == Some('\n') => {}
                Some(c) => text.push(c),
            }
        }
        let escaped = escape_dollars(&text, &dollars);
        let unescaped = (escaped != text).then_some(text);
        Ok((escaped, unescaped))
    }

    fn escape(&mut self, into: &mut String) {
        if self.cursor.rest().starts_with("\r\n") {
            self.cursor.step();
        }
        let c = match self.cursor.peek() {
            Some('\n') => None,
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('t') => Some('\t'),
            Some(c @ ('"' | '\\' | '$' | '`')) => Some(c),
            _ => {
                into.push('\\');
                return;
            }
        };
        into.extend(c);
        self.cursor.step();
    }

    /// Where there is text behind a value other than a comment.
    fn text_after(&mut self) -> Option<Origin> {
        self.cursor.skip_while(blank);
        match self.cursor.peek() {
            None | Some('\n') => None,
            Some('#') => {
                self.skip_comment();
                None
            }
            Some(_) => Some(self.cursor.at(self.origin)),
        }
    }
}

/// The rest of the line at the beginning of a text.
fn line_of(text: &str) -> &str {
    &text[..text.find('\n').unwrap_or(text.len())]
}

/// Whether a line has a carriage return that is no part of its end.
fn has_carriage_return(line: &str) -> bool {
    line.trim_end().contains('\r')
}

const OPEN_QUOTE: &str = "a quote is not closed";
const CARRIAGE_RETURN: &str = "a carriage return without a line feed ends no line; end each line with a \
                               line feed, or write `\\r` in double quotes";
const PEM_WITHOUT_QUOTES: &str =
    "a line of a PEM block sets no key; put the whole block in one pair of quotes";

/// Whether a line is base64 that ends in padding, as the last data of a PEM block may. A line that is
/// joined to the next one, or that closes a quote, is one too.
fn ends_base64(line: &str) -> bool {
    let Some((data, padding)) = line.trim_end().split_once('=') else {
        return false;
    };
    let is_data = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    let is_padding = match padding.strip_prefix('=') {
        Some(rest) => matches!(rest, "" | "\\" | "\\n" | "\\n\\" | "\"" | "'"),
        None => matches!(padding, "" | "\\" | "\\n" | "\\n\\"),
    };
    !data.is_empty() && data.bytes().all(is_data) && is_padding
}

/// Whether the line after this one is of a PEM block without quotes. A line that sets a key ends one.
fn goes_on_in_pem(line: &str, in_pem: bool) -> bool {
    let value = line.split_once('=').map(|(_, value)| value.trim_start());
    match line.rsplit_once("-----BEGIN ") {
        Some((_, rest)) => {
            let is_quoted = value.is_some_and(|value| value.starts_with(['"', '\'']));
            !is_quoted && !rest.contains("-----END ")
        }
        None => in_pem && value.is_none() && !line.contains("-----END "),
    }
}

fn given_twice(key: &Key, first: Option<u32>, at: Origin) -> Error {
    let line = at.line().map_or(0, |(line, _)| line);
    let detail = format!(
        "given twice, first on line {} and again on line {line}; the last one counts, remove the other",
        first.unwrap_or(line)
    );
    Error::new(ErrorKind::InvalidKey, detail)
        .with_key_text(key.as_str())
        .with_origin(at)
}

/// Escapes the dollars at some places that stand before a brace, and the dollars before them.
fn escape_dollars(text: &str, literal: &[usize]) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut from = 0;
    // Where the run of dollars ends that was looked at last.
    let mut end = 0;
    for at in literal {
        if *at >= end {
            let run = text[*at..].find(|c| c != '$');
            end = run.map_or(text.len(), |run| at + run);
        }
        if text[end..].starts_with('{') {
            let before = text[from..*at].trim_end_matches('$');
            let dollars = at + 1 - from - before.len();
            escaped.push_str(before);
            (0..2 * dollars).for_each(|_| escaped.push('$'));
            from = at + 1;
        }
    }
    escaped.push_str(&text[from..]);
    escaped
}

fn key(name: &str) -> Result<Key, Error> {
    // The name is not shown: a malformed line may hold anything before its first `=`.
    let mut letters = name.chars();
    let first = letters.next();
    let valid = first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
    if !valid {
        let detail =
            "not the name of a variable; expected letters, digits, `_` and `.`, and no digit first";
        return Err(Error::new(ErrorKind::InvalidKey, detail));
    }
    let Some(segments) = env_name_to_key(name) else {
        let detail = "maps to no key: a part between two `__` is empty, or three `_` are in a row";
        return Err(Error::new(ErrorKind::InvalidKey, detail));
    };
    Key::from_segments(segments)
}
