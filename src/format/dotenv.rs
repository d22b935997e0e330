//! Dotenv: `KEY=value` lines, as in `.env` and systemd's `EnvironmentFile`.
//!
//! An `export` before the name is skipped; `#` and `;` begin a comment line. Text in single quotes
//! is taken as it is. Text in double quotes knows `\n`, `\r`, `\t`, `\"`, `\\`, `\$`, `` \` `` and
//! a backslash that joins two lines; other backslashes stay. Both may run over several lines, and
//! CRLF within them is a plain newline.
//! Text without quotes is trimmed and ends before a ` #`. Nothing is expanded.

use crate::error::{Error, ErrorKind};
use crate::format::flat::{self, Cursor};
use crate::format::limits::malformed;
use crate::value::document::Document;
use crate::value::envname::env_name_to_key;
use crate::value::key::Key;
use crate::value::node::Table;
use crate::value::origin::Origin;

pub(crate) fn parse(text: &str, origin: &Origin) -> Result<Document, Error> {
    let mut reader = Reader {
        cursor: Cursor::new(text),
        origin,
    };
    let mut root = Table::default();
    loop {
        reader.cursor.skip_while(char::is_whitespace);
        match reader.cursor.peek() {
            None => return Ok(Document::from_table(root)),
            Some('#' | ';') => reader.cursor.skip_while(|c| c != '\n'),
            Some(_) => reader.pair(&mut root)?,
        }
    }
}

/// White space within a line; a carriage return is part of the line's end.
fn blank(c: char) -> bool {
    c != '\n' && c.is_whitespace()
}

struct Reader<'a> {
    cursor: Cursor<'a>,
    origin: &'a Origin,
}

impl Reader<'_> {
    fn pair(&mut self, root: &mut Table) -> Result<(), Error> {
        if let Some(after) = self.cursor.rest().strip_prefix("export") {
            if after.starts_with(blank) {
                self.cursor.steps("export".len());
                self.cursor.skip_while(blank);
            }
        }
        let at = self.cursor.at(self.origin);
        let rest = self.cursor.rest();
        let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
        let Some((name, _)) = line.split_once('=') else {
            return Err(malformed("a line without `=`", at));
        };
        let steps = name.chars().count() + 1;
        let key = key(name.trim_end()).map_err(|fault| fault.without_key().with_origin(at))?;
        self.cursor.steps(steps);
        let after_blank = self.cursor.peek().is_some_and(blank);
        self.cursor.skip_while(blank);
        let at = self.cursor.at(self.origin);
        let value = match self.cursor.peek() {
            Some('\'') => self.single(&at)?,
            Some('"') => self.double(&at)?,
            _ => self.bare(after_blank),
        };
        flat::put(root, &key, value, at)
    }

    fn bare(&mut self, mut after_blank: bool) -> String {
        let rest = self.cursor.rest();
        let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
        self.cursor.skip_while(|c| c != '\n');
        let mut end = line.len();
        for (at, c) in line.char_indices() {
            if c == '#' && after_blank {
                end = at;
                break;
            }
            after_blank = blank(c);
        }
        line[..end].trim().to_owned()
    }

    fn single(&mut self, at: &Origin) -> Result<String, Error> {
        self.cursor.step();
        let mut text = String::new();
        loop {
            match self.cursor.step() {
                None => return Err(malformed("a quote is not closed", at.clone())),
                Some('\'') => break,
                Some('\r') if self.cursor.peek() == Some('\n') => {}
                Some(c) => text.push(c),
            }
        }
        self.end_of_line()?;
        Ok(text)
    }

    fn double(&mut self, at: &Origin) -> Result<String, Error> {
        self.cursor.step();
        let mut text = String::new();
        loop {
            match self.cursor.step() {
                None => return Err(malformed("a quote is not closed", at.clone())),
                Some('"') => break,
                Some('\\') => self.escape(&mut text),
                Some('\r') if self.cursor.peek() == Some('\n') => {}
                Some(c) => text.push(c),
            }
        }
        self.end_of_line()?;
        Ok(text)
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

    /// Nothing but a comment may follow a closing quote.
    fn end_of_line(&mut self) -> Result<(), Error> {
        self.cursor.skip_while(blank);
        match self.cursor.peek() {
            None | Some('\n') => Ok(()),
            Some('#') => {
                self.cursor.skip_while(|c| c != '\n');
                Ok(())
            }
            Some(_) => {
                let at = self.cursor.at(self.origin);
                Err(malformed("text after the closing quote", at))
            }
        }
    }
}

fn key(name: &str) -> Result<Key, Error> {
    // The name is not shown: a line gone wrong may hold anything before its first `=`.
    let mut letters = name.chars();
    let first = letters.next();
    let valid = first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
    if !valid {
        let detail = "not the name of a variable: letters, digits, `_` and `.`, no digit first";
        return Err(Error::new(ErrorKind::InvalidKey, detail));
    }
    let Some(segments) = env_name_to_key(name) else {
        let detail = "maps to no key: a part between two `__` is empty, or three `_` are in a row";
        return Err(Error::new(ErrorKind::InvalidKey, detail));
    };
    Key::from_segments(segments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Format;
    use crate::format::tests::golden;

    fn parse(text: &str) -> Result<Document, Error> {
        Format::dotenv().parse(text.as_bytes(), &Origin::new("f", ""))
    }

    #[test]
    fn every_value_has_its_place() {
        let text = "# c\n; c\nA=1\r\n  export B__C_D = x y # c\nE='$x \\n # \u{e9}'\nF=\"\u{e9}\\n\\\"\\$\\q\r\nl\\\r\nm\" # c\nG=\nH= # c\nI=#no\nexport=1\nJ.K=a#b";
        assert_eq!(
            golden(Format::dotenv(), text),
            "a = \"1\" @3:3\n\
             b.c_d = \"x y\" @4:19\n\
             e = \"$x \\\\n # \u{e9}\" @5:3\n\
             export = \"1\" @12:8\n\
             f = \"\u{e9}\\n\\\"$\\\\q\\nlm\" @6:3\n\
             g = \"\" @9:3\n\
             h = \"\" @10:4\n\
             i = \"#no\" @11:3\n\
             j.k = \"a#b\" @13:5\n"
        );
    }

    #[test]
    fn lines_gone_wrong_are_refused_without_a_word_of_them() {
        for text in [
            "hunter2",
            "A='hunter2",
            "A=\"hunter2\nB=1",
            "A='x' hunter2",
            "A=1\nhunter2 x",
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{text}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        for text in [
            "1A=1", "A-B=1", "=1", "A__=1", "A___B=1", "a b=1", "\u{e9}=1",
        ] {
            assert_eq!(
                parse(text).unwrap_err().kind(),
                ErrorKind::InvalidKey,
                "{text}"
            );
        }
        assert_eq!(parse("A=1\na=2").unwrap_err().kind(), ErrorKind::InvalidKey);
    }
}
