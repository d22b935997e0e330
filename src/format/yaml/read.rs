//! Reads the events of the parser into a list of nodes.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};

use crate::error::{Error, ErrorKind};
use crate::format::limits::{self, NodeCount, malformed_error, too_deep_error};
use crate::format::positions;
use crate::format::yaml::DOCUMENT_START;
use crate::format::yaml::input::{Input, Lookahead, MAX_LOOKAHEAD};
use crate::format::yaml::scalars::{self, CORE_PREFIX, CoreTag};
use crate::value::Value;
use crate::value::key::{self, MAX_DEPTH};
use crate::value::node::value_and_table_error;
use crate::value::origin::{Origin, Position};

/// A node of the text, with nodes inside it as indices into [`Reader::nodes`].
pub(super) struct RawNode<'a> {
    pub(super) position: Position,
    pub(super) kind: RawKind<'a>,
}

impl RawNode<'_> {
    /// Frees unused capacity once the node is complete.
    fn shrink(&mut self) {
        match &mut self.kind {
            RawKind::List(items) => items.shrink_to_fit(),
            RawKind::Map(fields) => fields.shrink_to_fit(),
            RawKind::Scalar(_) | RawKind::Alias(_) => {}
        }
    }
}

pub(super) enum RawKind<'a> {
    Scalar(Value),
    List(Vec<usize>),
    Map(Vec<(Name<'a>, usize)>),
    Alias(usize),
}

/// A name in a mapping.
pub(super) struct Name<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) position: Position,
    /// Whether it is an unquoted `<<`.
    pub(super) is_merge_key: bool,
}

/// A mapping or sequence whose end was not read yet.
struct OpenCollection<'a> {
    node: usize,
    anchor: usize,
    /// In a mapping, the name of the next value.
    name: Option<Name<'a>>,
    /// In a mapping, the names so far.
    names: HashSet<Cow<'a, str>>,
    /// Whether the name of the next value is a repeated one.
    is_repeated: bool,
}

pub(super) struct Reader<'a, 'o> {
    origin: &'o Origin,
    pub(super) nodes: Vec<RawNode<'a>>,
    /// The collections around the next event, the innermost one last.
    open: Vec<OpenCollection<'a>>,
    /// The node of each anchor. A collection is added when it ends, so that no node contains itself.
    anchors: HashMap<usize, usize>,
    pub(super) root: Option<usize>,
    documents: usize,
    /// The nodes of the text, without those that aliases add.
    count: NodeCount,
    /// The line with an inserted [`DOCUMENT_START`].
    document_start_line: Option<u32>,
}

impl<'a, 'o> Reader<'a, 'o> {
    pub(super) fn new(origin: &'o Origin) -> Self {
        Self {
            origin,
            nodes: Vec::new(),
            open: Vec::new(),
            anchors: HashMap::new(),
            root: None,
            documents: 0,
            count: NodeCount::default(),
            document_start_line: None,
        }
    }

    fn position(&self, marker: Marker) -> Position {
        let line = marker.line() as u32;
        (line, self.original_column(line, marker.col() as u32 + 1))
    }

    /// Returns a column of the text without [`DOCUMENT_START`].
    fn original_column(&self, line: u32, column: u32) -> u32 {
        if self.document_start_line == Some(line) {
            column.saturating_sub(DOCUMENT_START.len() as u32).max(1)
        } else {
            column
        }
    }

    fn origin_at(&self, (line, column): Position) -> Origin {
        self.origin.at(line, column)
    }

    fn at(&self, marker: Marker) -> Origin {
        self.origin_at(self.position(marker))
    }

    /// Reads a text with an inserted [`DOCUMENT_START`] on a line.
    pub(super) fn read_with_document_start(
        &mut self,
        text: &'a str,
        line: u32,
    ) -> Result<(), Error> {
        self.document_start_line = Some(line);
        self.read(text)
    }

    /// Reads all events of a text.
    pub(super) fn read(&mut self, text: &'a str) -> Result<(), Error> {
        let lookahead = Lookahead::default();
        let mut parser = Parser::new(Input::new(text, &lookahead));
        let mut last_end = 0;
        while let Some(event) = parser.next_event() {
            if lookahead.is_exceeded() {
                return Err(self.lookahead_error(text, last_end));
            }
            let (event, span) = event.map_err(|error| self.syntax_error(text, &error))?;
            lookahead.reset();
            last_end = span.end.index();
            self.event(event, span)?;
        }
        Ok(())
    }

    /// Creates the error for [`MAX_LOOKAHEAD`]. `last_end` is the character index behind the last event.
    fn lookahead_error(&self, text: &str, last_end: usize) -> Error {
        let start = text.char_indices().nth(last_end);
        let start = start.map_or(text.len(), |(at, _)| at);
        let bracket = first_bracket(text, start);
        let (line, column) = positions::position(text.as_bytes(), bracket);
        let detail = format!(
            "more than {MAX_LOOKAHEAD} brackets, commas, colons and quotes in one list or mapping in \
             brackets where a key may be; write it in lines of `- ` or `name: `, or split it"
        );
        let at = self.origin.at(line, self.original_column(line, column));
        Error::new(ErrorKind::TooLarge, detail).with_origin(at)
    }

    /// Converts an error of the parser.
    fn syntax_error(&self, text: &str, error: &ScanError) -> Error {
        let mut position = self.position(*error.marker());
        let info = error.info();
        if info.contains("tab") {
            // The parser may report the start of a value that the line with the tab would continue.
            position = first_tab_indent(text, position.0).unwrap_or(position);
        }
        if info.contains("simple key expect") {
            // The parser may report a missing colon at the start of the next line.
            position = last_text_before(text, position);
        }
        let at = self.origin_at(position);
        if info.contains("recursion limit") {
            return too_deep_error(at);
        }
        // This message quotes the character, which may be part of a secret.
        if info.starts_with("unexpected character") {
            let detail =
                "unexpected character: a value cannot begin with it; put the value in quotes";
            return malformed_error(detail, at);
        }
        match remedy(info) {
            Some(remedy) => malformed_error(format!("{info}; {remedy}"), at),
            None => malformed_error(info, at),
        }
    }

    fn event(&mut self, event: Event<'a>, span: Span) -> Result<(), Error> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let detail = "a second document begins; a configuration is one document";
                    return Err(malformed_error(detail, self.at(span.start)));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(text, style, anchor, tag.as_deref(), span)?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.allow_tag(tag.as_deref(), CoreTag::Seq, span)?;
                self.open_collection(RawKind::List(Vec::new()), anchor, span)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.allow_tag(tag.as_deref(), CoreTag::Map, span)?;
                self.open_collection(RawKind::Map(Vec::new()), anchor, span)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    self.nodes[open.node].shrink();
                    if open.anchor != 0 {
                        self.anchors.insert(open.anchor, open.node);
                    }
                }
            }
            Event::Alias(anchor) => self.alias(anchor, span)?,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Error> {
        let Some(node) = self.anchors.get(&anchor).copied() else {
            let detail = "an alias inside the node that it refers to";
            return Err(malformed_error(detail, self.at(span.start)));
        };
        if self.expects_name() {
            return Err(malformed_error("an alias as a key", self.at(span.start)));
        }
        self.count_value(span)?;
        self.reject_repeated(matches!(self.nodes[node].kind, RawKind::Map(_)))?;
        self.add(RawKind::Alias(node), span);
        Ok(())
    }

    fn scalar(
        &mut self,
        text: Cow<'a, str>,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        span: Span,
    ) -> Result<(), Error> {
        let is_plain = style == ScalarStyle::Plain;
        if text.contains('\0') {
            return Err(malformed_error(limits::NUL, self.at(span.start)));
        }
        let tag = self.core_tag(tag, span)?;
        let is_name = self.expects_name();
        let value = match (tag, is_plain) {
            (None, false) => Value::Text((&*text).into()),
            // A name without a tag is text. Its value matters only if an alias may refer to it.
            (None, true) if is_name && anchor == 0 => Value::Unset,
            (tag, _) => scalars::resolve(tag, &text).map_err(|detail| {
                let error = malformed_error(detail, self.at(span.start));
                limits::with_key(error, &self.key())
            })?,
        };
        let node = if is_name {
            let node = (anchor != 0).then(|| self.push(RawKind::Scalar(value), span));
            self.set_name(text, is_plain && tag.is_none(), span);
            node
        } else {
            self.count_value(span)?;
            self.reject_repeated(false)?;
            Some(self.add(RawKind::Scalar(value), span))
        };
        if let Some(node) = node.filter(|_| anchor != 0) {
            self.anchors.insert(anchor, node);
        }
        Ok(())
    }

    /// Whether the next node is a name in a mapping.
    fn expects_name(&self) -> bool {
        self.open.last().is_some_and(|open| {
            open.name.is_none() && matches!(self.nodes[open.node].kind, RawKind::Map(_))
        })
    }

    /// Sets the name of the next value.
    fn set_name(&mut self, mut text: Cow<'a, str>, is_plain: bool, span: Span) {
        if let Cow::Owned(text) = &mut text {
            text.shrink_to_fit();
        }
        let position = self.position(span.start);
        if let Some(open) = self.open.last_mut() {
            open.is_repeated = !open.names.insert(text.clone());
            open.name = Some(Name {
                is_merge_key: is_plain && text == "<<",
                text,
                position,
            });
        }
    }

    /// Rejects the next value if its name is a repeated one.
    fn reject_repeated(&self, is_table: bool) -> Result<(), Error> {
        let Some(open) = self.open.last().filter(|open| open.is_repeated) else {
            return Ok(());
        };
        let (RawKind::Map(fields), Some(name)) = (&self.nodes[open.node].kind, &open.name) else {
            return Ok(());
        };
        let Some((first, node)) = fields.iter().find(|(first, _)| first.text == name.text) else {
            return Ok(());
        };
        let node = match self.nodes[*node].kind {
            RawKind::Alias(target) => target,
            _ => *node,
        };
        let was_table = matches!(self.nodes[node].kind, RawKind::Map(_));
        let again = self.origin_at(name.position);
        let key = limits::masked_key(&self.key());
        Err(if was_table == is_table {
            limits::duplicate_key_error(&key, Some(first.position.0), again)
        } else {
            let first = self.origin_at(first.position);
            value_and_table_error(&key, Some(&first), was_table, &again)
        })
    }

    /// Returns the key of the next node.
    fn key(&self) -> String {
        let mut key = String::new();
        let innermost = self.open.len().saturating_sub(1);
        for (level, open) in self.open.iter().enumerate() {
            let name = match &self.nodes[open.node].kind {
                RawKind::Map(fields) if level < innermost => {
                    fields.last().map(|(name, _)| Cow::from(&*name.text))
                }
                RawKind::Map(_) => open.name.as_ref().map(|name| Cow::from(&*name.text)),
                // The innermost list does not contain the next node yet.
                RawKind::List(items) => {
                    let index = items.len() - usize::from(level < innermost);
                    Some(Cow::from(index.to_string()))
                }
                _ => None,
            };
            if let Some(name) = name {
                key::push_segment(&mut key, &name);
            }
        }
        key
    }

    /// Converts a tag; fails if it is not a core tag.
    fn core_tag(&self, tag: Option<&Tag>, span: Span) -> Result<Option<CoreTag>, Error> {
        let Some(tag) = tag else {
            return Ok(None);
        };
        // `!` alone makes a scalar text.
        if tag.handle.is_empty() && tag.suffix == "!" {
            return Ok(Some(CoreTag::Str));
        }
        // The handle and the suffix of `!!str`, or of the full tag in angle brackets.
        let full = format!("{}{}", tag.handle, tag.suffix);
        let core = full.strip_prefix(CORE_PREFIX).and_then(CoreTag::from_name);
        core.map(Some).ok_or_else(|| self.unknown_tag_error(span))
    }

    fn unknown_tag_error(&self, span: Span) -> Error {
        let detail = "unknown tag; expected a tag of the core schema";
        malformed_error(detail, self.at(span.start))
    }

    /// Rejects all tags but one.
    fn allow_tag(&self, tag: Option<&Tag>, allowed: CoreTag, span: Span) -> Result<(), Error> {
        match self.core_tag(tag, span)? {
            Some(tag) if tag != allowed => Err(self.unknown_tag_error(span)),
            _ => Ok(()),
        }
    }

    fn open_collection(
        &mut self,
        kind: RawKind<'a>,
        anchor: usize,
        span: Span,
    ) -> Result<(), Error> {
        if self.expects_name() {
            let detail = "a mapping or a sequence as a key";
            return Err(malformed_error(detail, self.at(span.start)));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep_error(self.at(span.start)));
        }
        let (line, column) = self.position(span.start);
        self.count.add_tables(1, || self.origin.at(line, column))?;
        self.reject_repeated(matches!(kind, RawKind::Map(_)))?;
        let node = self.add(kind, span);
        self.open.push(OpenCollection {
            node,
            anchor,
            name: None,
            names: HashSet::new(),
            is_repeated: false,
        });
        Ok(())
    }

    fn count_value(&mut self, span: Span) -> Result<(), Error> {
        let (line, column) = self.position(span.start);
        self.count.add_value(|| self.origin.at(line, column))
    }

    /// Adds a node without a parent.
    fn push(&mut self, kind: RawKind<'a>, span: Span) -> usize {
        let position = self.position(span.start);
        self.nodes.push(RawNode { position, kind });
        self.nodes.len() - 1
    }

    /// Adds a node to the innermost open collection, or as the root.
    fn add(&mut self, kind: RawKind<'a>, span: Span) -> usize {
        let node = self.push(kind, span);
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(parent) => match (&mut self.nodes[parent.node].kind, parent.name.take()) {
                (RawKind::Map(fields), Some(name)) => fields.push((name, node)),
                (RawKind::List(items), _) => items.push(node),
                _ => {}
            },
        }
        node
    }
}

/// Returns how to correct the text, by a message of the parser.
fn remedy(info: &str) -> Option<&'static str> {
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

/// Finds the first tab in the indent of a line, from a line on.
fn first_tab_indent(text: &str, from_line: u32) -> Option<Position> {
    let lines = (1..).zip(text.lines());
    let mut lines = lines.filter(|(line, _)| *line >= from_line);
    lines.find_map(|(line, text)| {
        let spaces = text.bytes().take_while(|byte| *byte == b' ').count();
        let is_tab = text.as_bytes().get(spaces) == Some(&b'\t');
        is_tab.then_some((line, spaces as u32 + 1))
    })
}

/// Returns the start of the last line with content before a position, or the position itself if its line
/// has content before it.
fn last_text_before(text: &str, (line, column): Position) -> Position {
    let start = |text: &str| text.chars().take_while(|c| c.is_whitespace()).count() as u32 + 1;
    let lines = (1..).zip(text.lines()).take_while(|(at, _)| *at <= line);
    let lines: Vec<(u32, &str)> = lines.collect();
    let own_line = lines.iter().find(|(at, _)| *at == line);
    if own_line.is_some_and(|(_, text)| start(text) < column) {
        return (line, column);
    }
    let has_content = |text: &str| !text.trim().is_empty() && !text.trim().starts_with('#');
    let mut before = lines.iter().rev().filter(|(at, _)| *at < line);
    let last = before.find(|(_, text)| has_content(text));
    last.map_or((line, column), |(at, text)| (*at, start(text)))
}

/// Finds the first bracket or brace outside comments, from an offset on.
fn first_bracket(text: &str, from: usize) -> usize {
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
