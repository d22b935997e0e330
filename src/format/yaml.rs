//! YAML 1.2, through the events of `saphyr-parser`.
//!
//! First the events become a list of nodes in which an alias is a number; then the nodes are
//! followed from the root, and what aliases add is counted.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use crate::error::{Error, ErrorKind};
use crate::format::limits::{self, Nodes, Trail, malformed, too_deep, twice};
use crate::value::Value;
use crate::value::document::Document;
use crate::value::key::{self, MAX_DEPTH};
use crate::value::node::{Leaf, Node, Table};
use crate::value::origin::Origin;

/// How many nodes aliases may add to a document.
const MAX_ALIAS_NODES: usize = 100_000;

/// How many bytes of names and scalars aliases may add to a document.
const MAX_ALIAS_BYTES: usize = 10 * 1024 * 1024;

pub(crate) fn parse(text: &str, origin: &Origin) -> Result<Document, Error> {
    let mut reader = Reader {
        origin,
        items: Vec::new(),
        open: Vec::new(),
        anchors: HashMap::new(),
        root: None,
        documents: 0,
        nodes: Nodes::default(),
    };
    reader.read(Parser::new_from_str(text))?;
    let Some(root) = reader.root else {
        return Ok(Document::new());
    };
    let mut builder = Builder {
        items: &reader.items,
        origin,
        trail: Trail::default(),
        aliases: 0,
        nodes: 0,
        bytes: 0,
    };
    match builder.node(root)? {
        Node::Table(table) => Ok(Document::from_table(table)),
        Node::Leaf(leaf) if leaf.value == Value::Unset => Ok(Document::new()),
        _ => Err(malformed("the document is not a mapping", builder.at(root))),
    }
}

/// A node as it stands in the text.
struct Item<'a> {
    line: u32,
    column: u32,
    is: Is<'a>,
}

enum Is<'a> {
    Scalar(Value),
    List(Vec<usize>),
    Map(Vec<(Name<'a>, usize)>),
    Alias(usize),
}

struct Name<'a> {
    text: Cow<'a, str>,
    line: u32,
    column: u32,
    /// An unquoted `<<`.
    merges: bool,
}

/// A mapping or sequence whose end is still to come.
struct Open<'a> {
    item: usize,
    anchor: usize,
    /// In a mapping, the name whose value comes next.
    name: Option<Name<'a>>,
    /// In a mapping, the names so far and their lines.
    names: HashMap<Cow<'a, str>, u32>,
}

struct Reader<'a, 'o> {
    origin: &'o Origin,
    items: Vec<Item<'a>>,
    open: Vec<Open<'a>>,
    /// The node of each anchor; none before it ends, so that no node can hold itself.
    anchors: HashMap<usize, usize>,
    root: Option<usize>,
    documents: usize,
    /// What the text holds, without what aliases add.
    nodes: Nodes,
}

impl<'a> Reader<'a, '_> {
    fn at(&self, mark: Marker) -> Origin {
        let (line, column) = place(mark);
        self.origin.at(line, column)
    }

    fn read(&mut self, mut parser: Parser<'a, StrInput<'a>>) -> Result<(), Error> {
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|fault| self.refuse(&fault))?;
            self.event(event, span)?;
        }
        Ok(())
    }

    fn refuse(&self, fault: &ScanError) -> Error {
        let at = self.at(*fault.marker());
        let info = fault.info();
        if info.contains("recursion limit") {
            return too_deep(at);
        }
        // This message ends in the character itself, which may be one of a secret.
        if info.starts_with("unexpected character") {
            return malformed("unexpected character", at);
        }
        malformed(info, at)
    }

    fn event(&mut self, event: Event<'a>, span: Span) -> Result<(), Error> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let detail = "a second document begins; a configuration is one document";
                    return Err(malformed(detail, self.at(span.start)));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(text, style, anchor, tag.as_deref(), span)?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.tag(tag.as_deref(), "seq", span)?;
                self.begin(Is::List(Vec::new()), anchor, span)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.tag(tag.as_deref(), "map", span)?;
                self.begin(Is::Map(Vec::new()), anchor, span)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    if open.anchor != 0 {
                        self.anchors.insert(open.anchor, open.item);
                    }
                }
            }
            Event::Alias(anchor) => {
                let Some(item) = self.anchors.get(&anchor).copied() else {
                    let detail = "an alias stands inside of what it names";
                    return Err(malformed(detail, self.at(span.start)));
                };
                if self.wants_name() {
                    return Err(malformed("an alias as a key", self.at(span.start)));
                }
                self.count_value(span)?;
                self.add(Is::Alias(item), span);
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn wants_name(&self) -> bool {
        self.open.last().is_some_and(|open| {
            open.name.is_none() && matches!(self.items[open.item].is, Is::Map(_))
        })
    }

    fn scalar(
        &mut self,
        text: Cow<'a, str>,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        span: Span,
    ) -> Result<(), Error> {
        let plain = style == ScalarStyle::Plain;
        if self.wants_name() {
            return self.name(text, plain, span);
        }
        let typed = match self.tag(tag, "", span)? {
            Some("str") => false,
            Some(_) => true,
            None => plain,
        };
        let value = if typed {
            let resolved = resolve(&text).map(|value| value.with_spelling(&text));
            resolved.map_err(|detail| {
                let fault = malformed(detail, self.at(span.start));
                fault.with_key(limits::shown(&self.path()))
            })?
        } else {
            Value::Text(text.into())
        };
        self.count_value(span)?;
        let item = self.add(Is::Scalar(value), span);
        if anchor != 0 {
            self.anchors.insert(anchor, item);
        }
        Ok(())
    }

    fn name(&mut self, text: Cow<'a, str>, plain: bool, span: Span) -> Result<(), Error> {
        let at = self.at(span.start);
        let (line, column) = place(span.start);
        if let Some(open) = self.open.last_mut() {
            let first = open.names.insert(text.clone(), line);
            open.name = Some(Name {
                merges: plain && text == "<<",
                text,
                line,
                column,
            });
            if first.is_some() {
                return Err(twice(&self.path(), first, at));
            }
        }
        Ok(())
    }

    /// The key of where the reader stands.
    fn path(&self) -> String {
        let mut path = String::new();
        let innermost = self.open.len().saturating_sub(1);
        for (level, open) in self.open.iter().enumerate() {
            let name = match &self.items[open.item].is {
                Is::Map(fields) if level < innermost => {
                    fields.last().map(|(name, _)| Cow::from(&*name.text))
                }
                Is::Map(_) => open.name.as_ref().map(|name| Cow::from(&*name.text)),
                // The item that is at hand in the innermost list is not in it yet.
                Is::List(items) => {
                    let index = items.len() - usize::from(level < innermost);
                    Some(Cow::from(index.to_string()))
                }
                _ => None,
            };
            if let Some(name) = name {
                key::push_segment(&mut path, &name);
            }
        }
        path
    }

    /// Returns the name of a core tag; `None` if there is no tag.
    fn tag<'t>(
        &self,
        tag: Option<&'t Tag>,
        wanted: &str,
        span: Span,
    ) -> Result<Option<&'t str>, Error> {
        let Some(tag) = tag else {
            return Ok(None);
        };
        // A lone `!` says that the scalar is text.
        if tag.handle.is_empty() && tag.suffix == "!" {
            return Ok(Some("str"));
        }
        let scalar = ["str", "int", "float", "bool", "null"];
        if tag.is_yaml_core_schema() {
            let suffix = tag.suffix.as_str();
            if suffix == wanted || (wanted.is_empty() && scalar.contains(&suffix)) {
                return Ok(Some(suffix));
            }
        }
        let detail = "a tag that is not known here: only those of the core schema are";
        Err(malformed(detail, self.at(span.start)))
    }

    fn begin(&mut self, is: Is<'a>, anchor: usize, span: Span) -> Result<(), Error> {
        if self.wants_name() {
            let detail = "a mapping or a sequence as a key";
            return Err(malformed(detail, self.at(span.start)));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(self.at(span.start)));
        }
        let (line, column) = place(span.start);
        self.nodes.add_tables(1, || self.origin.at(line, column))?;
        let item = self.add(is, span);
        self.open.push(Open {
            item,
            anchor,
            name: None,
            names: HashMap::new(),
        });
        Ok(())
    }

    fn count_value(&mut self, span: Span) -> Result<(), Error> {
        let (line, column) = place(span.start);
        self.nodes.add_value(|| self.origin.at(line, column))
    }

    /// Adds a node to the mapping or sequence at hand.
    fn add(&mut self, is: Is<'a>, span: Span) -> usize {
        let (line, column) = place(span.start);
        let item = self.items.len();
        self.items.push(Item { line, column, is });
        match self.open.last_mut() {
            None => self.root = Some(item),
            Some(parent) => match (&mut self.items[parent.item].is, parent.name.take()) {
                (Is::Map(fields), Some(name)) => fields.push((name, item)),
                (Is::List(items), _) => items.push(item),
                _ => {}
            },
        }
        item
    }
}

fn place(mark: Marker) -> (u32, u32) {
    (mark.line() as u32, mark.col() as u32 + 1)
}

/// A scalar without quotes, after the core schema.
fn resolve(text: &str) -> Result<Value, &'static str> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Unset),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        ".nan" | ".NaN" | ".NAN" => return Ok(Value::Float(f64::NAN)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = |text: &str, radix| !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    let integer = if digits(unsigned, 10) {
        Some((text, 10))
    } else if let Some(octal) = text.strip_prefix("0o").filter(|rest| digits(rest, 8)) {
        Some((octal, 8))
    } else {
        let hex = text.strip_prefix("0x").filter(|rest| digits(rest, 16));
        hex.map(|hex| (hex, 16))
    };
    if let Some((digits, radix)) = integer {
        let value = i128::from_str_radix(digits, radix).map(Value::from);
        return value.map_err(|_| "an integer beyond 128 bits");
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
        return Ok(Value::Float(sign * f64::INFINITY));
    }
    // Rust also reads `inf`, `nan` and the like, which are text here.
    let numeric = |c: char| matches!(c, '0'..='9' | '.' | 'e' | 'E' | '+' | '-');
    let begins = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if begins && unsigned.chars().all(numeric) {
        return match text.parse::<f64>() {
            Ok(value) if value.is_infinite() => Err("a number beyond the range of 64-bit floats"),
            Ok(value) => Ok(Value::Float(value)),
            Err(_) => Ok(Value::from(text)),
        };
    }
    Ok(Value::from(text))
}

/// A name of a mapping, its own or merged in, and the node it stands for.
struct Field<'r, 'a> {
    name: &'r Name<'a>,
    item: usize,
    merged: bool,
}

struct Builder<'r, 'a> {
    items: &'r [Item<'a>],
    origin: &'r Origin,
    trail: Trail,
    /// How many aliases were followed on the way to here.
    aliases: usize,
    /// What aliases have added so far.
    nodes: usize,
    bytes: usize,
}

impl<'r, 'a> Builder<'r, 'a> {
    fn at(&self, item: usize) -> Origin {
        let item = &self.items[item];
        self.origin.at(item.line, item.column)
    }

    /// Follows an alias, if this is one; says whether it was.
    fn follow(&self, item: usize) -> (usize, bool) {
        match self.items[item].is {
            // What an alias names is never an alias itself: those have no anchors.
            Is::Alias(named) => (named, true),
            _ => (item, false),
        }
    }

    fn count(&mut self, item: usize, bytes: usize) -> Result<(), Error> {
        if self.aliases > 0 {
            self.nodes += 1;
            self.bytes += bytes;
            if self.nodes > MAX_ALIAS_NODES || self.bytes > MAX_ALIAS_BYTES {
                let detail = format!(
                    "aliases add more than {MAX_ALIAS_NODES} nodes or {MAX_ALIAS_BYTES} bytes"
                );
                return Err(Error::new(ErrorKind::TooLarge, detail).with_origin(self.at(item)));
            }
        }
        Ok(())
    }

    fn open(&mut self, item: usize) -> Result<(), Error> {
        let (place, origin) = (&self.items[item], self.origin);
        self.trail.open(|| origin.at(place.line, place.column))
    }

    fn enter(&mut self, name: &Name<'_>) -> Result<usize, Error> {
        let origin = self.origin;
        self.trail
            .enter(&name.text, || origin.at(name.line, name.column))
    }

    fn node(&mut self, item: usize) -> Result<Node, Error> {
        let (item, alias) = self.follow(item);
        self.aliases += usize::from(alias);
        let node = if let Is::Map(_) = self.items[item].is {
            self.count(item, 0)?;
            self.open(item)?;
            let mut table = Table::default();
            for Field { name, item, merged } in self.fields(item)? {
                let before = self.enter(name)?;
                self.aliases += usize::from(merged);
                let node = self.node(item)?;
                self.aliases -= usize::from(merged);
                table.put(&name.text, node);
                self.trail.leave(before);
            }
            self.trail.close();
            Node::Table(table)
        } else {
            let value = self.value(item)?;
            Node::Leaf(Leaf::new(value, self.at(item)))
        };
        self.aliases -= usize::from(alias);
        Ok(node)
    }

    fn value(&mut self, item: usize) -> Result<Value, Error> {
        let (item, alias) = self.follow(item);
        self.aliases += usize::from(alias);
        let items = self.items;
        let value = match &items[item].is {
            Is::Scalar(value) => {
                let bytes = match value {
                    Value::Text(text) => text.len(),
                    _ => 0,
                };
                self.count(item, bytes)?;
                value.clone()
            }
            Is::List(list) => {
                self.count(item, 0)?;
                self.open(item)?;
                let values = list.iter().map(|item| self.value(*item));
                let values = values.collect::<Result<_, _>>()?;
                self.trail.close();
                Value::List(values)
            }
            _ => {
                self.count(item, 0)?;
                self.open(item)?;
                let mut table = BTreeMap::new();
                for Field { name, item, merged } in self.fields(item)? {
                    let before = self.enter(name)?;
                    self.aliases += usize::from(merged);
                    let value = self.value(item)?;
                    self.aliases -= usize::from(merged);
                    table.insert(Box::from(&*name.text), value);
                    self.trail.leave(before);
                }
                self.trail.close();
                Value::Table(Box::new(table))
            }
        };
        self.aliases -= usize::from(alias);
        Ok(value)
    }

    /// The names of a mapping and their values, with what it merges in.
    fn fields(&mut self, item: usize) -> Result<Vec<Field<'r, 'a>>, Error> {
        let Is::Map(fields) = &self.items[item].is else {
            return Ok(Vec::new());
        };
        let mut all = Vec::with_capacity(fields.len());
        if fields.iter().any(|(name, _)| name.merges) {
            self.merge(item, &mut all, &mut HashSet::new(), 0)?;
            return Ok(all);
        }
        for (name, value) in fields {
            self.count(*value, name.text.len())?;
            all.push(Field {
                name,
                item: *value,
                merged: false,
            });
        }
        Ok(all)
    }

    /// Adds the names of a mapping that are not there yet, its own before those it merges in.
    fn merge(
        &mut self,
        item: usize,
        all: &mut Vec<Field<'r, 'a>>,
        seen: &mut HashSet<&'r str>,
        chain: usize,
    ) -> Result<(), Error> {
        if chain > MAX_DEPTH {
            return Err(too_deep(self.at(item)));
        }
        let (item, alias) = self.follow(item);
        self.aliases += usize::from(alias);
        self.count(item, 0)?;
        let items = self.items;
        match &items[item].is {
            Is::Map(fields) => {
                for (name, value) in fields.iter().filter(|(name, _)| !name.merges) {
                    self.count(*value, name.text.len())?;
                    if seen.insert(&name.text) {
                        all.push(Field {
                            name,
                            item: *value,
                            merged: chain > 0,
                        });
                    }
                }
                for (_, value) in fields.iter().filter(|(name, _)| name.merges) {
                    self.merge(*value, all, seen, chain + 1)?;
                }
            }
            Is::List(list) if chain > 0 => {
                for value in list {
                    self.merge(*value, all, seen, chain + 1)?;
                }
            }
            _ => {
                let detail = "`<<` merges a mapping or a sequence of mappings, nothing else";
                return Err(malformed(detail, self.at(item)));
            }
        }
        self.aliases -= usize::from(alias);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Format;
    use crate::format::tests::{golden, value};

    fn parse(text: &str) -> Result<Document, Error> {
        Format::yaml().parse(text.as_bytes(), &Origin::new("f", ""))
    }

    #[test]
    fn every_value_has_its_place() {
        let text = "# c\na.b: \"\u{e9}\"\r\n\u{e9}: {x: 1, y: [2, {z: ~}]}\nblock: |\n  one\n  two\nlist:\n- 1.5\n- k: v\nnone:\n";
        assert_eq!(
            golden(Format::yaml(), text),
            "\"a.b\" = \"\u{e9}\" @2:6\n\
             block = \"one\\ntwo\\n\" @5:3\n\
             list = [1.5, {k = \"v\"}] @8:3\n\
             none = unset @10:5\n\
             \u{e9}.x = 1 @3:8\n\
             \u{e9}.y = [2, {z = unset}] @3:14\n"
        );
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        let of = |text: &str| value(Format::yaml(), &format!("v: {text}"));
        for text in [
            "no",
            "12:30",
            "1_000",
            "inf",
            "1.2.3",
            "0xg",
            "-",
            "2001-12-14",
            "e5",
        ] {
            assert_eq!(
                of(text),
                if text == "-" {
                    Err(ErrorKind::Malformed)
                } else {
                    Ok(Value::from(text))
                }
            );
        }
        assert_eq!(of("012"), Ok(Value::Int(12)));
        assert_eq!(of("'12'"), Ok(Value::from("12")));
        assert_eq!(of("!!str 12"), Ok(Value::from("12")));
        assert_eq!(of("!!int '12'"), Ok(Value::Int(12)));
        assert_eq!(of("! 12"), Ok(Value::from("12")));
        assert_eq!(of("0x1F"), Ok(Value::Int(31)));
        assert_eq!(of("0o17"), Ok(Value::Int(15)));
        assert_eq!(of("+.5e1"), Ok(Value::Float(5.0)));
        assert_eq!(of("-.inf"), Ok(Value::Float(f64::NEG_INFINITY)));
        assert_eq!(of("18446744073709551615"), Ok(Value::from(u64::MAX)));
        assert_eq!(of(&i128::MAX.to_string()), Ok(Value::from(i128::MAX)));
        assert_eq!(of(&u128::MAX.to_string()), Err(ErrorKind::Malformed));
        for bad in [
            "1e400",
            "!!binary aGk=",
            "!mine x",
            "*nobody",
            "\"\\ud800\"",
        ] {
            assert_eq!(of(bad), Err(ErrorKind::Malformed), "{bad}");
        }
    }

    #[test]
    fn aliases_and_merge_keys_stand_for_what_they_name() {
        let text = "base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\nuse:\n  <<: [*b, *m]\n  x: 9\nalso: *b\nl: [*b]\n";
        assert_eq!(
            golden(Format::yaml(), text),
            "also.x = 1 @1:14\nalso.y = 2 @1:20\nbase.x = 1 @1:14\nbase.y = 2 @1:20\n\
             l = [{x = 1, y = 2}] @7:4\nmore.y = 3 @2:14\nmore.z = 4 @2:20\n\
             use.x = 9 @5:6\nuse.y = 2 @1:20\nuse.z = 4 @2:20\n"
        );
        assert!(parse("'<<': 1").is_ok(), "a quoted name is a name");
        assert!(parse("<<: 1").is_err());
    }

    #[test]
    fn alias_bombs_are_refused() {
        let mut lists = String::from("a0: &a0 [x, x]\n");
        let mut maps = String::from("a0: &a0 {x: 1}\n");
        let mut merges = maps.clone();
        let mut shared = maps.clone();
        for i in 1..60 {
            let last = i - 1;
            lists += &format!("a{i}: &a{i} [*a{last}, *a{last}]\n");
            maps += &format!("a{i}: &a{i} {{p: *a{last}, q: *a{last}}}\n");
            merges += &format!("a{i}: &a{i} {{<<: [*a{last}, *a{last}]}}\n");
            shared += &format!("a{i}: &a{i} {{p: {{<<: *a{last}}}, q: {{<<: *a{last}}}}}\n");
        }
        for bomb in [lists, maps, merges, shared] {
            assert_eq!(
                parse(&bomb).unwrap_err().kind(),
                ErrorKind::TooLarge,
                "{bomb}"
            );
        }
        let long = format!(
            "a: &a {}\nl: [{}]",
            "x".repeat(1 << 20),
            ["*a"; 11].join(", ")
        );
        assert_eq!(parse(&long).unwrap_err().kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn what_a_configuration_cannot_hold_is_refused() {
        for text in [
            "a: &a [*a]",
            "a: 1\n---\nb: 2",
            "? [a]\n: 1",
            "? {a: 1}\n: 1",
            "- 1",
            "x",
            "a: &a x\n*a : 1",
        ] {
            assert_eq!(
                parse(text).unwrap_err().kind(),
                ErrorKind::Malformed,
                "{text}"
            );
        }
        for empty in ["", "# c\n", "---\n", "~", "---\n...\n"] {
            assert!(parse(empty).unwrap().is_empty(), "{empty:?}");
        }
        let error = parse("a:\n  - x: 1\n  - x: 1\n    y: 2\n    x: 3").unwrap_err();
        assert_eq!(error.key(), Some("a.1.x"), "{error}");
    }
}
