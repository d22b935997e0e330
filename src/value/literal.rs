//! Text in which `${` is no reference.
//!
//! Of the dollars directly before a brace, each pair is an escaped dollar, and a single one that is left
//! begins a reference. So a text is escaped by doubling all of them.

use crate::value::Value;
use crate::value::node::{Leaf, Node, Table};

/// This text with its references escaped: resolving it gives the text.
pub(crate) fn escape(text: &str) -> String {
    map_dollars(text, |dollars| 2 * dollars)
}

/// The inverse of [`escape`].
pub(crate) fn unescape(text: &str) -> String {
    map_dollars(text, |dollars| dollars / 2)
}

/// Replaces each number of dollars before a brace by another.
fn map_dollars(text: &str, mut change: impl FnMut(usize) -> usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let before = rest[..at].trim_end_matches('$');
        let dollars = at + 1 - before.len();
        out.push_str(before);
        (0..change(dollars)).for_each(|_| out.push('$'));
        out.push('{');
        rest = &rest[at + 2..];
    }
    out.push_str(rest);
    out
}

impl Value {
    /// This with the references in its texts escaped.
    pub(crate) fn escaped(self) -> Value {
        self.map_texts(&escape)
    }

    /// The inverse of [`escaped`](Self::escaped).
    pub(crate) fn unescaped(self) -> Value {
        self.map_texts(&unescape)
    }

    /// Whether a text in it has a `${` that is not escaped.
    pub(crate) fn has_reference(&self) -> bool {
        match self {
            Value::Text(text) => {
                let mut has_odd = false;
                map_dollars(text, |dollars| {
                    has_odd |= dollars % 2 == 1;
                    dollars
                });
                has_odd
            }
            Value::List(items) => items.iter().any(Value::has_reference),
            Value::Table(fields) => fields.values().any(Value::has_reference),
            _ => false,
        }
    }

    /// Whether a text in it has a `${`, escaped or not.
    fn has_reference_syntax(&self) -> bool {
        match self {
            Value::Text(text) => text.contains("${"),
            Value::List(items) => items.iter().any(Value::has_reference_syntax),
            Value::Table(fields) => fields.values().any(Value::has_reference_syntax),
            _ => false,
        }
    }

    fn map_texts(self, map: &dyn Fn(&str) -> String) -> Value {
        if !self.may_refer() {
            return self;
        }
        match self {
            Value::Text(text) => Value::from(map(&text)),
            Value::List(items) => {
                let items = items.into_vec().into_iter();
                Value::List(items.map(|item| item.map_texts(map)).collect())
            }
            Value::Table(fields) => {
                let fields = fields.into_iter();
                Value::Table(
                    fields
                        .map(|(name, value)| (name, value.map_texts(map)))
                        .collect(),
                )
            }
            other => other,
        }
    }
}

impl Table {
    /// Whether a text in it has a `${`, escaped or not.
    pub(crate) fn has_reference_syntax(&self) -> bool {
        let has = |node: &Node| match node {
            Node::Table(below) => below.has_reference_syntax(),
            node => node.written().is_some_and(Value::has_reference_syntax),
        };
        self.special() && self.map().iter().any(|entry| has(&entry.node))
    }

    /// Escapes the references in all values.
    pub(crate) fn escape_references(&mut self) {
        if !self.special() {
            return;
        }
        let special = self.map().iter().filter(|entry| entry.node.special());
        for entry in special.cloned().collect::<Vec<_>>() {
            match &entry.node {
                Node::Table(below) => {
                    let mut below = below.clone();
                    below.escape_references();
                    self.put(&entry.name, Node::Table(below));
                }
                Node::Leaf(leaf) => {
                    let value = leaf.value.clone().escaped();
                    self.put(
                        &entry.name,
                        Node::Leaf(Leaf::new(value, leaf.origin.clone())),
                    );
                }
                Node::Resolved(_) => {}
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn escaping_doubles_the_dollars_before_a_brace_and_no_others() {
        for (text, escaped) in [
            ("", ""),
            ("$", "$"),
            ("$$ {", "$$ {"),
            ("${a}", "$${a}"),
            ("$${a}$", "$$$${a}$"),
            ("a${${b}}", "a$${$${b}}"),
        ] {
            assert_eq!(escape(text), escaped);
            assert_eq!(unescape(escaped), text);
        }
    }
}
