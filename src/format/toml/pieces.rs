//! A document parsed piece by piece, each piece some sections, so that what the parser holds at
//! once is bounded by a piece.
//!
//! Parsing 100,000 keys as a whole holds 52 MB beside a tree of 14; in pieces of 16 KiB it is less
//! than one.
//!
//! Texts that each end with a line and are each a document are a document together, so wherever
//! the cuts are, they cannot change what is said: a cut inside of a string or a list leaves a piece
//! that is none. What remains is that one piece may concern a table of another. A name that two
//! pieces have must stand for a table in both; in the later piece it may only be on the way to a
//! header below, as `a` in `[a.b]`, and in the earlier one it may be any table but an inline one,
//! which ends with its brace. All else, repeated names and arrays of tables among it, is for the
//! parser to judge, with the whole text before it: here it is only given up.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use toml::de::{DeTable, DeValue};

use crate::format::toml::build::Builder;
use crate::value::node::Table;
use crate::value::origin::Origin;

/// Parses a text that is cut in pieces; `None` for what only the whole text can tell, also whether
/// it is wrong.
pub(super) fn parse(text: &str, cuts: &[usize], origin: &Origin) -> Option<Table> {
    let (first, _) = text.split_at_checked(*cuts.first()?)?;
    let mut builder = Builder::of_pieces(first, origin);
    let mut root = builder.table(document(first)?, 0).ok()?;
    let ends = cuts.iter().skip(1).copied().chain([text.len()]);
    for (start, end) in cuts.iter().zip(ends) {
        let piece = text.get(*start..end)?;
        builder.turn(piece);
        builder.add(&mut root, &mut Vec::new(), document(piece)?)?;
    }
    Some(root)
}

fn document(piece: &str) -> Option<DeTable<'_>> {
    DeTable::parse(piece).ok().map(|table| table.into_inner())
}

impl Builder<'_> {
    /// Adds what a later piece says below `path`.
    fn add<'t>(
        &mut self,
        root: &mut Table,
        path: &mut Vec<Cow<'t, str>>,
        from: DeTable<'t>,
    ) -> Option<()> {
        self.open(0).ok()?;
        for (name, value) in from {
            let before = self.enter(name.get_ref(), 0).ok()?;
            path.push(name.into_inner());
            let earlier = root.find(&*path).map(|entry| entry.node.table().is_some());
            match earlier {
                None => {
                    let node = self.node(value).ok()?;
                    root.put_path(path, node).ok()?;
                }
                Some(is_table) => {
                    let sign = self.sign(value.span().start)?;
                    let DeValue::Table(below) = value.into_inner() else {
                        return None;
                    };
                    let inline = self.inline.as_ref()?.holds(self.trail.key());
                    if !is_table || inline || matches!(sign, b'[' | b'{') {
                        return None;
                    }
                    self.add(root, path, below)?;
                }
            }
            path.pop();
            self.trail.leave(before);
        }
        self.trail.close();
        Some(())
    }
}

/// Which tables were written inline, by the hashes of their keys: 8 bytes each, and two keys of
/// one hash only cost the parsing of the whole.
#[derive(Default)]
pub(super) struct Inline(HashSet<u64, RandomState>);

impl Inline {
    pub(super) fn note(&mut self, key: &str) {
        let hash = self.0.hasher().hash_one(key);
        self.0.insert(hash);
    }

    fn holds(&self, key: &str) -> bool {
        self.0.contains(&self.0.hasher().hash_one(key))
    }
}
