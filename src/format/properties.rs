//! Java's `.properties`, read as UTF-8.
//!
//! `#` and `!` begin a comment line; `=`, `:` or white space ends the key; a backslash at the end
//! of a line joins the next one, less its indent; `\t`, `\n`, `\r`, `\f` and `\uXXXX` are the
//! characters they name, and any other escaped character is itself.

use crate::error::{Error, ErrorKind};
use crate::format::flat::{self, Cursor, Tree};
use crate::format::limits::{NUL, malformed};
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::origin::Origin;

pub(crate) fn parse(text: &str, origin: &Origin) -> Result<Document, Error> {
    let mut reader = Reader {
        cursor: Cursor::new(text).with_lone_returns(),
        origin,
    };
    let mut tree = Tree::default();
    loop {
        reader.cursor.skip_while(|c| blank(c) || line_end(c));
        match reader.cursor.peek() {
            None => return Ok(Document::from_table(tree.root)),
            Some('#' | '!') => reader.cursor.skip_while(|c| !line_end(c)),
            Some(_) => reader.pair(&mut tree)?,
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
    fn pair(&mut self, tree: &mut Tree) -> Result<(), Error> {
        let at_key = self.cursor.at(self.origin);
        let mut key = String::new();
        loop {
            self.join_lines();
            match self.cursor.peek() {
                // A comment behind a backslash alone, as in Java.
                Some('#' | '!') if key.is_empty() => return Ok(()),
                Some('\\') => self.escape(&mut key)?,
                Some(c) if !blank(c) && !line_end(c) && !matches!(c, '=' | ':') => {
                    key.push(c);
                    self.cursor.step();
                }
                _ => break,
            }
        }
        if key.is_empty() && self.cursor.peek().is_none_or(line_end) {
            // Backslashes that join empty lines, as in Java.
            return Ok(());
        }
        if key.is_empty() {
            return Err(
                Error::new(ErrorKind::InvalidKey, "a line without a key").with_origin(at_key)
            );
        }
        // Not shown: a line gone wrong may hold anything.
        let key = Key::parse(&key).map_err(|fault| {
            let detail =
                "not a valid key; a dot separates its parts, and quotes hold a part together";
            Error::new(fault.kind(), detail).with_origin(at_key)
        })?;
        self.skip_blanks();
        if matches!(self.cursor.peek(), Some('=' | ':')) {
            self.cursor.step();
            self.skip_blanks();
        }
        let at_value = self.cursor.at(self.origin);
        let value = self.value()?;
        flat::put(tree, &key, value, at_value)
    }

    fn value(&mut self) -> Result<String, Error> {
        let mut value = String::new();
        loop {
            self.join_lines();
            match self.cursor.peek() {
                Some('\\') => self.escape(&mut value)?,
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

    /// Steps over backslashes that end a line, and over the indent of the line that follows.
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

    fn escape(&mut self, into: &mut String) -> Result<(), Error> {
        let at = self.cursor.at(self.origin);
        self.cursor.step();
        match self.cursor.step() {
            Some('t') => into.push('\t'),
            Some('n') => into.push('\n'),
            Some('r') => into.push('\r'),
            Some('f') => into.push('\u{c}'),
            Some('u') => {
                let c = self.code_point().map_err(|detail| malformed(detail, at))?;
                into.push(c);
            }
            Some(c) => into.push(c),
            // A backslash that ends the document joins nothing to the line.
            None => {}
        }
        Ok(())
    }

    fn code_point(&mut self) -> Result<char, &'static str> {
        let lone = "half of a surrogate pair";
        let high = self.code_unit()?;
        let code = match high {
            0xD800..=0xDBFF => {
                if self.cursor.step() != Some('\\') || self.cursor.step() != Some('u') {
                    return Err(lone);
                }
                match self.code_unit()? {
                    low @ 0xDC00..=0xDFFF => 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00),
                    _ => return Err(lone),
                }
            }
            code => code,
        };
        // Java reads an escaped NUL; here it would slip past the rule of all formats.
        match char::from_u32(code) {
            Some('\0') => Err(NUL),
            Some(c) => Ok(c),
            None => Err(lone),
        }
    }

    fn code_unit(&mut self) -> Result<u32, &'static str> {
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
    fn every_value_has_its_place() {
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
    fn what_java_would_not_read_is_refused() {
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
