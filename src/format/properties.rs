//! Parses Java's `.properties` as UTF-8.
//!
//! `#` and `!` begin a comment line. `=`, `:` or white space ends the key. A backslash at the end of a
//! line joins the next line without its indent. `\t`, `\n`, `\r`, `\f` and `\uXXXX` are escapes; any other
//! escaped character stands for itself.

use crate::error::{Error, ErrorKind};
use crate::format::flat::{Cursor, PairTree};
use crate::format::limits::{NUL, malformed_error};
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::origin::Origin;

pub(crate) fn parse(text: &str, origin: &Origin) -> Result<Document, Error> {
    let mut reader = Reader {
        cursor: Cursor::new(text).with_lone_returns(),
        origin,
    };
    let mut tree = PairTree::default();
    loop {
        reader.cursor.skip_while(|c| blank(c) || line_end(c));
        match reader.cursor.peek() {
            None => return Ok(Document::from_table(tree.root)),
            Some('#' | '!') => reader.cursor.skip_while(|c| !line_end(c)),
            Some(_) => reader.read_pair(&mut tree)?,
        }
    }
}

fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

fn line_end(c: char) -> bool {
    matches!(c, '\n' | '\r')
}

struct Reader<'a> {
    cursor: Cursor<'a>,
    origin: &'a Origin,
}

impl Reader<'_> {
    fn read_pair(&mut self, tree: &mut PairTree) -> Result<(), Error> {
        let key_origin = self.cursor.at(self.origin);
        let Some(key) = self.read_key()? else {
            return Ok(());
        };
        if key.is_empty() {
            let error = Error::new(ErrorKind::InvalidKey, "a line without a key");
            return Err(error.with_origin(key_origin));
        }
        // The error does not show the key: in a malformed line, it may be a value.
        let key = Key::parse(&key).map_err(|error| {
            let detail =
                "not a valid key; a dot separates its parts, and quotes hold a part together";
            Error::new(error.kind(), detail).with_origin(key_origin)
        })?;
        self.skip_blanks();
        if matches!(self.cursor.peek(), Some('=' | ':')) {
            self.cursor.step();
            self.skip_blanks();
        }
        let value_origin = self.cursor.at(self.origin);
        let value = self.read_value()?;
        tree.insert(&key, value, value_origin)
    }

    /// Reads a key; `None` if a backslash joins a comment or an empty line, which Java skips.
    fn read_key(&mut self) -> Result<Option<String>, Error> {
        let mut key = String::new();
        loop {
            self.join_lines();
            match self.cursor.peek() {
                Some('#' | '!') if key.is_empty() => return Ok(None),
                Some('\\') => self.read_escape(&mut key)?,
                Some(c) if !blank(c) && !line_end(c) && !matches!(c, '=' | ':') => {
                    key.push(c);
                    self.cursor.step();
                }
                next if key.is_empty() && next.is_none_or(line_end) => return Ok(None),
                _ => return Ok(Some(key)),
            }
        }
    }

    fn read_value(&mut self) -> Result<String, Error> {
        let mut value = String::new();
        loop {
            self.join_lines();
            match self.cursor.peek() {
                Some('\\') => self.read_escape(&mut value)?,
                Some(c) if !line_end(c) => {
                    value.push(c);
                    self.cursor.step();
                }
                _ => return Ok(value),
            }
        }
    }

    fn skip_blanks(&mut self) {
        loop {
            self.cursor.skip_while(blank);
            if !self.join_lines() {
                return;
            }
        }
    }

    /// Skips backslashes that end a line, each with the indent of the next line. Returns whether there was one.
    fn join_lines(&mut self) -> bool {
        let mut joined = false;
        loop {
            let rest = self.cursor.rest();
            let steps = if rest.starts_with("\\\r\n") {
                3
            } else if rest.starts_with("\\\n") || rest.starts_with("\\\r") {
                2
            } else {
                return joined;
            };
            joined = true;
            self.cursor.steps(steps);
            self.cursor.skip_while(blank);
        }
    }

    fn read_escape(&mut self, into: &mut String) -> Result<(), Error> {
        let at = self.cursor.at(self.origin);
        self.cursor.step();
        match self.cursor.step() {
            Some('t') => into.push('\t'),
            Some('n') => into.push('\n'),
            Some('r') => into.push('\r'),
            Some('f') => into.push('\u{c}'),
            Some('u') => {
                let c = self.read_code_point();
                let c = c.map_err(|detail| malformed_error(detail, at))?;
                into.push(c);
            }
            Some(c) => into.push(c),
            // A backslash at the end of the document is ignored.
            None => {}
        }
        Ok(())
    }

    fn read_code_point(&mut self) -> Result<char, &'static str> {
        const LONE_SURROGATE: &str = "half of a surrogate pair";
        let high = self.read_code_unit()?;
        let code = match high {
            0xD800..=0xDBFF => {
                if self.cursor.step() != Some('\\') || self.cursor.step() != Some('u') {
                    return Err(LONE_SURROGATE);
                }
                match self.read_code_unit()? {
                    low @ 0xDC00..=0xDFFF => 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00),
                    _ => return Err(LONE_SURROGATE),
                }
            }
            code => code,
        };
        // Java accepts an escaped NUL; every format of this crate rejects it.
        match char::from_u32(code) {
            Some('\0') => Err(NUL),
            Some(c) => Ok(c),
            None => Err(LONE_SURROGATE),
        }
    }

    fn read_code_unit(&mut self) -> Result<u32, &'static str> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.cursor.step().and_then(|c| c.to_digit(16));
            code = code * 16 + digit.ok_or("`\\u` needs four hexadecimal digits")?;
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Format;
    use crate::format::tests::golden;

    fn parse(text: &str) -> Result<Document, Error> {
        Format::properties().parse(text.as_bytes(), &Origin::new("f", ""))
    }

    #[test]
    fn every_value_has_its_position() {
        let text = "# c \\\n! c\na.b=1\r\n  a.c : x y \n\u{e9}\\ k\tv\\\n    w\\\r\n  z\n\"h.i\".p = =\nempty\ncut\\\n  .k\\=\\:=  \\u00e9\\ud83d\\ude00\\t\\q\n";
        assert_eq!(
            golden(Format::properties(), text),
            "\"h.i\".p = \"=\" @8:11\n\
             a.b = \"1\" @3:5\n\
             a.c = \"x y \" @4:9\n\
             cut.k=: = \"\u{e9}\u{1f600}\\tq\" @11:12\n\
             empty = \"\" @9:6\n\
             \u{e9} k = \"vwz\" @5:6\n"
        );
    }

    #[test]
    fn a_backslash_alone_joins_empty_lines_to_nothing() {
        for text in [
            "a=1\n\\\n\nb=2",
            "a=1\r\n  \\\r\n\r\nb=2\n",
            "a=1\n\\\n\\\n  \nb=2\n\\",
            "\\\n\na=1\n\\\nb=2\n\\\n",
        ] {
            let document = parse(text).unwrap();
            let values: Vec<_> = document
                .iter()
                .map(|(k, v, _)| format!("{k}={v}"))
                .collect();
            assert_eq!(values, ["a=\"1\"", "b=\"2\""], "{text}");
        }
        assert!(parse("\\\n=x").is_err(), "a line without a key");
        let document = parse("a\\\n#b=1\nc=\\\n# d\n\\#e=2").unwrap();
        let values: Vec<_> = document
            .iter()
            .map(|(k, v, _)| format!("{k}={v}"))
            .collect();
        assert_eq!(values, ["#e=\"2\"", "a#b=\"1\"", "c=\"# d\""]);
    }

    #[test]
    fn invalid_escapes_and_keys_are_rejected() {
        for text in [
            "a=\\u12",
            "a=\\uD800",
            "a=\\uD800\\u0041",
            "a=\\uDC00",
            "a=\\u0000",
        ] {
            assert_eq!(
                parse(text).unwrap_err().kind(),
                ErrorKind::Malformed,
                "{text}"
            );
        }
        for text in ["=x", "a..b=1", ".a=1", "a\"b=1"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey, "{text}");
            assert_eq!(
                error.origin().map(ToString::to_string).as_deref(),
                Some("f:1:1"),
                "{text}"
            );
        }
        assert_eq!(parse("a=1\\").unwrap().get("a"), Some(&"1".into()));
    }

    #[test]
    fn a_lone_carriage_return_ends_a_line() {
        let text = "a=1\rb=2\r\nc=3\\\r  4\rd=5\n";
        assert_eq!(
            golden(Format::properties(), text),
            "a = \"1\" @1:3\nb = \"2\" @2:3\nc = \"34\" @3:3\nd = \"5\" @5:3\n"
        );
    }
}
