//! From events to nodes.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};

use crate::error::{Error, ErrorKind};
use crate::format::limits::{self, Nodes, malformed, too_deep};
use crate::format::spans;
use crate::format::yaml::MARK;
use crate::format::yaml::input::{Ahead, Input, MAX_AHEAD};
use crate::format::yaml::scalars::{self, CORE, Core};
use crate::value::Value;
use crate::value::key::{self, MAX_DEPTH};
use crate::value::node::both;
use crate::value::origin::Origin;

/// A node as it stands in the text.
pub(super) struct Item<'a> {
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) is: Is<'a>,
}

impl Item<'_> {
    /// Gives back the room that no more names or items will take.
    fn shrink(&mut self) {
        match &mut self.is {
            Is::List(items) => items.shrink_to_fit(),
            Is::Map(fields) => fields.shrink_to_fit(),
            Is::Scalar(_) | Is::Alias(_) => {}
        }
    }
}

pub(super) enum Is<'a> {
    Scalar(Value),
    List(Vec<usize>),
    Map(Vec<(Name<'a>, usize)>),
    Alias(usize),
}

pub(super) struct Name<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) line: u32,
    pub(super) column: u32,
    /// An unquoted `<<`.
    pub(super) merges: bool,
}

/// A mapping or sequence whose end is still to come.
struct Open<'a> {
    item: usize,
    anchor: usize,
    /// In a mapping, the name whose value comes next.
    name: Option<Name<'a>>,
    /// In a mapping, the names so far.
    names: HashSet<Cow<'a, str>>,
    /// Whether the name whose value comes next was among them.
    is_repeated: bool,
}

pub(super) struct Reader<'a, 'o> {
    origin: &'o Origin,
    pub(super) items: Vec<Item<'a>>,
    open: Vec<Open<'a>>,
    /// The node of each anchor; none before it ends, so that no node can hold itself.
    anchors: HashMap<usize, usize>,
    pub(super) root: Option<usize>,
    documents: usize,
    /// What the text holds, without what aliases add.
    nodes: Nodes,
    /// The line that begins with [`MARK`], which the document does not have.
    marked: Option<u32>,
}

impl<'a, 'o> Reader<'a, 'o> {
    pub(super) fn new(origin: &'o Origin) -> Self {
        Self {
            origin,
            items: Vec::new(),
            open: Vec::new(),
            anchors: HashMap::new(),
            root: None,
            documents: 0,
            nodes: Nodes::default(),
            marked: None,
        }
    }

    fn place(&self, mark: Marker) -> (u32, u32) {
        let line = mark.line() as u32;
        (line, self.column(line, mark.col() as u32 + 1))
    }

    /// The column without the mark before the root.
    fn column(&self, line: u32, column: u32) -> u32 {
        if self.marked == Some(line) {
            column.saturating_sub(MARK.len() as u32).max(1)
        } else {
            column
        }
    }

    fn at(&self, mark: Marker) -> Origin {
        let (line, column) = self.place(mark);
        self.origin.at(line, column)
    }

    /// Takes the events of a text that has [`MARK`] at the beginning of a line.
    pub(super) fn read_marked(&mut self, text: &'a str, line: u32) -> Result<(), Error> {
        self.marked = Some(line);
        self.read(text)
    }

    /// Takes the events of a text.
    pub(super) fn read(&mut self, text: &'a str) -> Result<(), Error> {
        let ahead = Ahead::default();
        let mut parser = Parser::new(Input::new(text, &ahead));
        let mut last = 0;
        while let Some(event) = parser.next_event() {
            if ahead.is_too_far() {
                return Err(self.too_far(text, last));
            }
            let (event, span) = event.map_err(|fault| self.refuse(text, &fault))?;
            ahead.reset();
            last = span.end.index();
            self.event(event, span)?;
        }
        Ok(())
    }

    /// The scanner read too far ahead of the event that ends before the character with this index.
    fn too_far(&self, text: &str, last: usize) -> Error {
        let begin = text.char_indices().nth(last);
        let begin = begin.map_or(text.len(), |(at, _)| at);
        let (line, column) = spans::place(text.as_bytes(), opening(text, begin));
        let detail = format!(
            "more than {MAX_AHEAD} marks in one list or mapping in brackets where a key may stand; \
             write it in lines of `- ` or `name: `, or split it"
        );
        let at = self.origin.at(line, self.column(line, column));
        Error::new(ErrorKind::TooLarge, detail).with_origin(at)
    }

    fn refuse(&self, text: &str, fault: &ScanError) -> Error {
        let (mut line, mut column) = self.place(*fault.marker());
        let info = fault.info();
        // The parser may name the beginning of a value that an indented line would continue.
        let is_tab = info.contains("tab");
        if let Some(tab) = is_tab.then(|| first_tab(text, line)).flatten() {
            (line, column) = tab;
        }
        // A name without its colon is noticed where the next line begins.
        if info.contains("simple key expect") {
            (line, column) = last_text_before(text, line, column);
        }
        let at = self.origin.at(line, column);
        if info.contains("recursion limit") {
            return too_deep(at);
        }
        // This message ends in the character itself, which may be one of a secret.
        if info.starts_with("unexpected character") {
            let detail =
                "unexpected character: a value cannot begin with it; put the value in quotes";
            return malformed(detail, at);
        }
        match advice(info) {
            Some(advice) => malformed(format!("{info}; {advice}"), at),
            None => malformed(info, at),
        }
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
                self.only_tag(tag.as_deref(), Core::Seq, span)?;
                self.begin(Is::List(Vec::new()), anchor, span)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.only_tag(tag.as_deref(), Core::Map, span)?;
                self.begin(Is::Map(Vec::new()), anchor, span)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    self.items[open.item].shrink();
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
                self.refuse_repeated(matches!(self.items[item].is, Is::Map(_)))?;
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
        if text.contains('\0') {
            return Err(malformed(limits::NUL, self.at(span.start)));
        }
        let tag = self.tag(tag, span)?;
        let wants_name = self.wants_name();
        // Without a tag, a name is text. It may have an anchor, by which it is a value elsewhere.
        let value = match (tag, plain) {
            (None, false) => Value::Text((&*text).into()),
            (None, true) if wants_name && anchor == 0 => Value::Unset,
            (tag, _) => scalars::tagged(tag, &text).map_err(|detail| {
                let fault = malformed(detail, self.at(span.start));
                limits::with_key(fault, &self.path())
            })?,
        };
        let item = if wants_name {
            let item = (anchor != 0).then(|| self.put(Is::Scalar(value), span));
            self.name(text, plain && tag.is_none(), span);
            item
        } else {
            self.count_value(span)?;
            self.refuse_repeated(false)?;
            Some(self.add(Is::Scalar(value), span))
        };
        if let (true, Some(item)) = (anchor != 0, item) {
            self.anchors.insert(anchor, item);
        }
        Ok(())
    }

    fn name(&mut self, mut text: Cow<'a, str>, plain: bool, span: Span) {
        if let Cow::Owned(text) = &mut text {
            text.shrink_to_fit();
        }
        let (line, column) = self.place(span.start);
        if let Some(open) = self.open.last_mut() {
            open.is_repeated = !open.names.insert(text.clone());
            open.name = Some(Name {
                merges: plain && text == "<<",
                text,
                line,
                column,
            });
        }
    }

    /// Refuses the value that comes next, a mapping or not, if its name was given before.
    fn refuse_repeated(&self, is_table: bool) -> Result<(), Error> {
        let Some(open) = self.open.last().filter(|open| open.is_repeated) else {
            return Ok(());
        };
        let (Is::Map(fields), Some(name)) = (&self.items[open.item].is, &open.name) else {
            return Ok(());
        };
        let Some((first, item)) = fields.iter().find(|(first, _)| first.text == name.text) else {
            return Ok(());
        };
        let item = match self.items[*item].is {
            Is::Alias(named) => named,
            _ => *item,
        };
        let was_table = matches!(self.items[item].is, Is::Map(_));
        let again = self.origin.at(name.line, name.column);
        let key = limits::shown(&self.path());
        Err(if was_table == is_table {
            limits::twice(&key, Some(first.line), again)
        } else {
            let first = self.origin.at(first.line, first.column);
            both(&key, Some(&first), was_table, &again)
        })
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

    /// Returns which core tag it is; `None` if there is no tag.
    fn tag(&self, tag: Option<&Tag>, span: Span) -> Result<Option<Core>, Error> {
        let Some(tag) = tag else {
            return Ok(None);
        };
        // A lone `!` says that the scalar is text.
        if tag.handle.is_empty() && tag.suffix == "!" {
            return Ok(Some(Core::Str));
        }
        // Written as `!!str` or in full, in angle brackets.
        let whole = format!("{}{}", tag.handle, tag.suffix);
        let core = whole.strip_prefix(CORE).and_then(Core::of);
        core.map(Some).ok_or_else(|| self.unknown_tag(span))
    }

    fn unknown_tag(&self, span: Span) -> Error {
        let detail = "unknown tag; expected a tag of the core schema";
        malformed(detail, self.at(span.start))
    }

    /// Refuses any tag but this one.
    fn only_tag(&self, tag: Option<&Tag>, wanted: Core, span: Span) -> Result<(), Error> {
        match self.tag(tag, span)? {
            Some(tag) if tag != wanted => Err(self.unknown_tag(span)),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, is: Is<'a>, anchor: usize, span: Span) -> Result<(), Error> {
        if self.wants_name() {
            let detail = "a mapping or a sequence as a key";
            return Err(malformed(detail, self.at(span.start)));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(self.at(span.start)));
        }
        let (line, column) = self.place(span.start);
        self.nodes.add_tables(1, || self.origin.at(line, column))?;
        self.refuse_repeated(matches!(is, Is::Map(_)))?;
        let item = self.add(is, span);
        self.open.push(Open {
            item,
            anchor,
            name: None,
            names: HashSet::new(),
            is_repeated: false,
        });
        Ok(())
    }

    fn count_value(&mut self, span: Span) -> Result<(), Error> {
        let (line, column) = self.place(span.start);
        self.nodes.add_value(|| self.origin.at(line, column))
    }

    /// Adds a node that stands nowhere yet.
    fn put(&mut self, is: Is<'a>, span: Span) -> usize {
        let (line, column) = self.place(span.start);
        self.items.push(Item { line, column, is });
        self.items.len() - 1
    }

    /// Adds a node to the mapping or sequence at hand.
    fn add(&mut self, is: Is<'a>, span: Span) -> usize {
        let item = self.put(is, span);
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

/// How to put right what the parser refuses.
fn advice(info: &str) -> Option<&'static str> {
    let has = |part| info.contains(part);
    if has("tab") {
        Some("indent with spaces")
    } else if has("unexpected end of stream") {
        Some("close the quote, or complete the document if it is cut off")
    } else if has("flow") || has("',' or ']'") || has("',' or '}'") {
        Some("close the list or mapping, or complete the document if it is cut off")
    } else if has("simple key expect") {
        Some("expected `name: value`; complete the line, or put text that goes on in quotes")
    } else if has("mapping values are not allowed") {
        Some("put a value that holds `: ` in quotes, or begin a line of the same indentation")
    } else {
        None
    }
}

/// Where the first tab stands that indents a line, from a line on.
fn first_tab(text: &str, from: u32) -> Option<(u32, u32)> {
    let lines = (1..).zip(text.lines());
    let mut lines = lines.filter(|(line, _)| *line >= from);
    lines.find_map(|(line, text)| {
        let spaces = text.bytes().take_while(|byte| *byte == b' ').count();
        let is_tab = text.as_bytes().get(spaces) == Some(&b'\t');
        is_tab.then_some((line, spaces as u32 + 1))
    })
}

/// The place, or if only space stands before it on its line, where the last line of text before it
/// begins.
fn last_text_before(text: &str, line: u32, column: u32) -> (u32, u32) {
    let begins = |text: &str| text.chars().take_while(|c| c.is_whitespace()).count() as u32 + 1;
    let lines = (1..).zip(text.lines()).take_while(|(at, _)| *at <= line);
    let lines: Vec<(u32, &str)> = lines.collect();
    let here = lines.iter().find(|(at, _)| *at == line);
    if here.is_some_and(|(_, text)| begins(text) < column) {
        return (line, column);
    }
    let has_text = |text: &str| !text.trim().is_empty() && !text.trim().starts_with('#');
    let mut before = lines.iter().rev().filter(|(at, _)| *at < line);
    let last = before.find(|(_, text)| has_text(text));
    last.map_or((line, column), |(at, text)| (*at, begins(text)))
}

/// Where the first bracket or brace stands from here on, outside of comments.
fn opening(text: &str, from: usize) -> usize {
    let mut is_comment = false;
    let found = text.as_bytes()[from..].iter().position(|byte| {
        match byte {
            b'#' => is_comment = true,
            b'\n' => is_comment = false,
            _ => {}
        }
        !is_comment && matches!(byte, b'[' | b'{')
    });
    from + found.unwrap_or(0)
}
