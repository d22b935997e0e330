//! What becomes of one layer that is replaced or edited: taken as a whole, or key by key without
//! what is refused.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::commit::candidate::{KeyIndex, Proposal, Rejection, Rules, Scope};
use crate::engine::commit::pins;
use crate::engine::commit::removal_guard::Said;
use crate::engine::commit::{CommitState, Done, merge_all};
use crate::error::{Error, ErrorKind};
use crate::property::stale::Stale;
use crate::source::{Edit, Refusal};
use crate::sync::Cell;
use crate::tree::diff;
use crate::tree::layer::{SourceId, count_bootstrap};
use crate::tree::merge::{Findings, Merge};
use crate::tree::snapshot::{Found, Generation};
use crate::value::Value;
use crate::value::document::clash;
use crate::value::key::{Key, push_segment};
use crate::value::node::{Node, Table};
use crate::value::origin::Origin;

/// A layer that can be replaced.
struct Prepared {
    proposal: Proposal,
    findings: Findings,
    refused: Vec<Error>,
    kept: Vec<Key>,
}

/// Who changes a few keys of a layer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::engine) enum Editor {
    Source(Refusal),
    /// The program itself, which hears at once what has no effect.
    Program,
}

impl Editor {
    fn refusal(self) -> Refusal {
        match self {
            Editor::Source(refusal) => refusal,
            Editor::Program => Refusal::Whole,
        }
    }
}

/// What would become of the tree.
pub(crate) struct Attempt {
    pub(crate) after: Arc<Generation>,
    /// The keys that would be refused.
    pub(crate) refused: Vec<Error>,
    /// The handles that would keep their last good values.
    pub(crate) stale: Vec<Stale>,
}

impl CommitState {
    /// A few keys of a layer change whose removals are looked at twice: if they are not believed,
    /// the others are changed all the same.
    pub(in crate::engine) fn edit_guarded(
        &mut self,
        current: &Cell<Generation>,
        rules: &Rules,
        old: &Arc<Generation>,
        at: usize,
        mut edits: Vec<Edit>,
        (refusal, said): (Refusal, Said),
    ) -> Result<Done, Error> {
        let (source, there) = (old.layers[at].id, &old.layers[at].root);
        let held_before = self.guards.says(source).is_some();
        let said_before = self.guards.said_before(source);
        let is_new = said_before.is_none();
        let mut says = said_before.unwrap_or(there).clone();
        for edit in &edits {
            let path: Vec<Cow<'_, str>> = edit.key.segments().collect();
            match &edit.value {
                // What clashes is refused below.
                Some((value, origin)) => drop(set(&mut says, &edit.key, &path, value, origin)),
                None if path.is_empty() => says = Table::default(),
                None => drop(says.remove_path(&path)),
            }
        }
        match self.guards.judge(source, there, &says, said) {
            Ok(()) => {
                let done = if is_new {
                    self.edit(current, rules, old, at, edits, Editor::Source(refusal))?
                } else {
                    self.replace(current, rules, old, at, says, refusal)?
                };
                if held_before {
                    self.believe(current, source);
                }
                Ok(done)
            }
            Err(held) => {
                edits.retain(|edit| removes_nothing(there, edit));
                if edits.is_empty() {
                    return Err(held);
                }
                let mut done =
                    self.edit(current, rules, old, at, edits, Editor::Source(refusal))?;
                done.applied.refused.push(held);
                Ok(done)
            }
        }
    }

    /// A layer is replaced by what its source says now.
    pub(in crate::engine) fn replace(
        &mut self,
        current: &Cell<Generation>,
        rules: &Rules,
        old: &Arc<Generation>,
        at: usize,
        root: Table,
        refusal: Refusal,
    ) -> Result<Done, Error> {
        let Prepared {
            proposal,
            findings,
            refused,
            kept,
        } = self.prepare(rules, old, at, root, refusal)?;
        Ok(self.publish(current, rules, proposal, findings, (refused, kept)))
    }

    /// What would become of a layer that is replaced; changes nothing.
    pub(crate) fn try_out(
        &self,
        rules: &Rules,
        old: &Arc<Generation>,
        source: SourceId,
        root: Table,
        refusal: Refusal,
    ) -> Result<Attempt, Error> {
        let gone = || Error::new(ErrorKind::NotFound, format!("{source} was removed"));
        let at = old.layers.iter().position(|layer| layer.id == source);
        let at = at.ok_or_else(gone)?;
        let layer = &old.layers[at];
        if layer.layer.is_bootstrap() {
            return if pins::same_tables(&layer.root, &root) {
                Ok(Attempt {
                    after: Arc::clone(old),
                    refused: Vec::new(),
                    stale: Vec::new(),
                })
            } else {
                Err(pins::too_late(&layer.name))
            };
        }
        self.guards
            .would_hold(source, &old.layers[at].root, &root)?;
        let prepared = self.prepare(rules, old, at, root, refusal)?;
        let Prepared {
            proposal, refused, ..
        } = prepared;
        Ok(Attempt {
            after: proposal.candidate,
            refused,
            stale: proposal.stale,
        })
    }

    fn prepare(
        &self,
        rules: &Rules,
        old: &Arc<Generation>,
        at: usize,
        mut root: Table,
        refusal: Refusal,
    ) -> Result<Prepared, Error> {
        let layers = &old.layers;
        let before = &layers[at].root;
        let mut refused = Vec::new();
        let mut kept: BTreeMap<String, Option<Origin>> = BTreeMap::new();
        for round in 0.. {
            let mut next = layers.to_vec();
            let layer = Arc::make_mut(&mut next[at]);
            (layer.root, layer.kept) = (root.clone(), None);
            let (merged, merge) = merge_all(rules, &next);
            let mut findings = merge.findings;
            findings.clashes.extend(pins::ignored(&next, at, None));
            match self.propose(rules, old, next, Some(at), merged, merge.referring, None) {
                Ok(proposal) => {
                    let kept = kept.into_iter();
                    let kept: Vec<(Key, Option<Origin>)> = kept
                        .filter_map(|(key, origin)| Some((Key::parse(&key).ok()?, origin)))
                        .collect();
                    report_withheld(&mut refused, &kept);
                    let kept = kept.into_iter().map(|(key, _)| key).collect();
                    return Ok(Prepared {
                        proposal,
                        findings,
                        refused,
                        kept,
                    });
                }
                Err(refusals) if refusal == Refusal::PerKey => {
                    let mut culprits = BTreeSet::new();
                    for scope in scopes(round) {
                        culprits = self.new_culprits(&refusals, *scope, &root, before, &kept);
                        if !culprits.is_empty() {
                            break;
                        }
                    }
                    for key in &culprits {
                        let origin = Found::in_tree(&root, key).ok();
                        let origin = origin.and_then(|found| found.origin().cloned());
                        kept.insert(key.clone(), origin);
                    }
                    if culprits.is_empty() || !keep_old(&mut root, before, &culprits) {
                        return Err(Error::all(
                            refusals.into_iter().map(|refusal| refusal.error).collect(),
                        ));
                    }
                    refused.extend(refusals.into_iter().map(|refusal| refusal.error));
                }
                Err(refusals) => {
                    return Err(Error::all(refusals.into_iter().map(|r| r.error).collect()));
                }
            }
        }
        unreachable!("each round returns or withholds more keys")
    }

    /// The keys to withhold of a layer that is replaced, without those that are withheld already.
    fn new_culprits(
        &self,
        refusals: &[Rejection],
        scope: Scope,
        root: &Table,
        before: &Table,
        kept: &BTreeMap<String, Option<Origin>>,
    ) -> BTreeSet<String> {
        let culprits = self.culprits(refusals, scope, |key| {
            let found = |tree| Found::in_tree(tree, key.as_str());
            match (found(root), found(before)) {
                // What the layer says as before did not lead here by itself.
                (Ok(Found::Entry(now)), Ok(Found::Entry(was)))
                    if diff::same_as_written(&now.node, &was.node) =>
                {
                    None
                }
                _ => place_of(key, [root, before]),
            }
        });
        let news: BTreeSet<String> = culprits
            .into_iter()
            .filter(|key| !kept.contains_key(key))
            .collect();
        // The most specific ones first: perhaps what stands above need not be refused.
        let has_more_specific = |key: &&String| {
            let below = format!("{key}.");
            let mut after = news.range(below.clone()..);
            after.next().is_some_and(|next| next.starts_with(&below))
        };
        news.iter()
            .filter(|key| !has_more_specific(key))
            .cloned()
            .collect()
    }

    /// A few keys of a layer change.
    pub(in crate::engine) fn edit(
        &mut self,
        current: &Cell<Generation>,
        rules: &Rules,
        old: &Arc<Generation>,
        at: usize,
        mut edits: Vec<Edit>,
        editor: Editor,
    ) -> Result<Done, Error> {
        let refusal = editor.refusal();
        let mut refused = Vec::new();
        let mut kept: Vec<(Key, Option<Origin>)> = Vec::new();
        let layers = &old.layers;
        for round in 0.. {
            let mut roots: Vec<Table> = layers.iter().map(|layer| layer.root.clone()).collect();
            let mut merged = old.root.clone();
            // A tree that is pinned is not that of the layers.
            let mut anew = self.pins.tree().is_some() || !self.pins.release(&mut merged);
            let mut merge = Merge::new(&rules.append, count_bootstrap(layers));
            let mut clashing = Vec::new();
            for (i, edit) in edits.iter().enumerate() {
                let path: Vec<Cow<'_, str>> = edit.key.segments().collect();
                let mut after = roots[at].clone();
                match &edit.value {
                    Some((value, origin)) => {
                        if let Err(error) = set(&mut after, &edit.key, &path, value, origin) {
                            clashing.push((i, error));
                            continue;
                        }
                    }
                    None if path.is_empty() => after = Table::default(),
                    None => drop(after.remove_path(&path)),
                }
                anew |= path.is_empty();
                if anew {
                    roots[at] = after;
                    continue;
                }
                let before = std::mem::replace(&mut roots[at], after);
                let now: Vec<&Table> = roots.iter().collect();
                let mut was = now.clone();
                was[at] = &before;
                merge.path(&mut merged, &was, &now, at, &path);
            }
            if anew {
                merged = merge.all(&roots.iter().collect::<Vec<_>>());
            }
            if !clashing.is_empty() {
                let (places, errors): (Vec<_>, Vec<_>) = clashing.into_iter().unzip();
                if refusal == Refusal::Whole {
                    return Err(Error::all(errors));
                }
                refused.extend(errors);
                kept.extend(places.iter().map(|at| (edits[*at].key.clone(), None)));
                let mut i = 0;
                edits.retain(|_| {
                    i += 1;
                    places.binary_search(&(i - 1)).is_err()
                });
                continue;
            }
            let mut next = layers.to_vec();
            let layer = Arc::make_mut(&mut next[at]);
            (layer.root, layer.kept) = (roots.swap_remove(at), None);
            let Merge {
                referring,
                mut findings,
                ..
            } = merge;
            if editor == Editor::Program {
                let edited = KeyIndex::new(edits.iter().map(|edit| &edit.key));
                let own = findings.ignored.iter().filter(|item| item.layer == at);
                let own = own.filter(|item| edited.related(item.key.as_str()).next().is_some());
                let errors: Vec<Error> = own.map(|item| item.error.clone()).collect();
                if !errors.is_empty() {
                    return Err(Error::all(errors));
                }
            }
            let keys: Vec<&Key> = edits.iter().map(|edit| &edit.key).collect();
            let only = (!anew).then_some(&*keys);
            findings.clashes.extend(pins::ignored(&next, at, only));
            match self.propose(rules, old, next, Some(at), merged, referring, only) {
                Ok(proposal) => {
                    report_withheld(&mut refused, &kept);
                    let kept = kept.into_iter().map(|(key, _)| key).collect();
                    return Ok(self.publish(current, rules, proposal, findings, (refused, kept)));
                }
                Err(refusals) if refusal == Refusal::PerKey => {
                    let before = edits.len();
                    for scope in scopes(round) {
                        let culprits = self.culprits_among(&edits, &refusals, *scope);
                        let culprits = KeyIndex::new(culprits.iter());
                        edits.retain(|edit| {
                            let stays = culprits.related(edit.key.as_str()).next().is_none();
                            if !stays {
                                let origin = edit.value.as_ref().map(|(_, origin)| origin.clone());
                                kept.push((edit.key.clone(), origin));
                            }
                            stays
                        });
                        if edits.len() < before {
                            break;
                        }
                    }
                    if edits.len() == before {
                        return Err(Error::all(refusals.into_iter().map(|r| r.error).collect()));
                    }
                    refused.extend(refusals.into_iter().map(|refusal| refusal.error));
                    if edits.is_empty() {
                        // Nothing is left to apply: whoever sent it hears why.
                        report_withheld(&mut refused, &kept);
                        return Err(Error::all(refused));
                    }
                }
                Err(refusals) => {
                    return Err(Error::all(refusals.into_iter().map(|r| r.error).collect()));
                }
            }
        }
        unreachable!("each round returns or withholds more edits")
    }

    /// The keys of edits to withhold.
    fn culprits_among(&self, edits: &[Edit], refusals: &[Rejection], scope: Scope) -> Vec<Key> {
        let edited = KeyIndex::new(edits.iter().map(|edit| &edit.key));
        let culprits = self.culprits(refusals, scope, |key| {
            let mut edited = edited.related(key.as_str());
            edited.next().map(|_| key.as_str().to_owned())
        });
        let culprits = culprits.iter();
        culprits.filter_map(|key| Key::parse(key).ok()).collect()
    }
}

/// What to withhold in a round: the next scope if one comes to nothing.
fn scopes(round: usize) -> &'static [Scope] {
    match round {
        0..2 => &[Scope::Named, Scope::Beside, Scope::All],
        2..4 => &[Scope::Beside, Scope::All],
        _ => &[Scope::All],
    }
}

/// The keys that are reported as withheld with others are as many at most: health keeps few errors, and
/// those that name the bad keys come first.
const MAX_WITHHELD: usize = 32;

/// Adds an error for each key that is withheld although no error names it.
fn report_withheld(refused: &mut Vec<Error>, kept: &[(Key, Option<Origin>)]) {
    let named: Vec<Key> = refused
        .iter()
        .flat_map(Error::iter)
        .filter_map(|error| Key::parse(error.key_text()?).ok())
        .collect();
    let index = KeyIndex::new(named.iter());
    let unnamed = |key: &Key| {
        let mut related = index.related(key.as_str());
        related.all(Key::is_root)
    };
    let with = named.iter().find(|key| !key.is_root());
    let with = with.map(|key| format!("`{key}` of ")).unwrap_or_default();
    let withheld: Vec<_> = kept.iter().filter(|(key, _)| unnamed(key)).collect();
    let more = withheld.len().saturating_sub(MAX_WITHHELD);
    let errors = withheld.into_iter().take(MAX_WITHHELD).map(|(key, origin)| {
        let detail = format!(
            "is withheld with {with}the same update, which was refused; it counts when the update is \
             accepted"
        );
        let error = Error::new(ErrorKind::Rejected, detail).with_key(key);
        match origin {
            Some(origin) => error.with_origin(origin),
            None => error,
        }
    });
    refused.extend(errors.collect::<Vec<_>>());
    if more > 0 {
        let last = refused.pop();
        let note = format!("{more} more keys are withheld with it");
        refused.extend(last.map(|last| last.with_more(&note)));
    }
}

/// Whether an edit leaves all keys of a table. A value may remove keys too: a smaller table in place
/// of a large one does.
fn removes_nothing(table: &Table, edit: &Edit) -> bool {
    let mut after = table.clone();
    let is_set = edit.value.is_some();
    // An edit that clashes is rejected later.
    let clashes = apply(&mut after, std::slice::from_ref(edit)).is_err();
    is_set && (clashes || diff::gone(table, &after) == 0)
}

/// Makes edits in a table.
pub(in crate::engine) fn apply(table: &mut Table, edits: &[Edit]) -> Result<(), Error> {
    for edit in edits {
        let path: Vec<Cow<'_, str>> = edit.key.segments().collect();
        match &edit.value {
            Some((value, origin)) => set(table, &edit.key, &path, value, origin)?,
            None if path.is_empty() => *table = Table::default(),
            None => drop(table.remove_path(&path)),
        }
    }
    Ok(())
}

fn set(
    table: &mut Table,
    key: &Key,
    path: &[Cow<'_, str>],
    value: &Value,
    origin: &Origin,
) -> Result<(), Error> {
    if path.is_empty() {
        let detail = "the root holds no value; set the keys below it";
        return Err(Error::new(ErrorKind::InvalidKey, detail).with_origin(origin));
    }
    let fits = value.check(path.len());
    fits.map_err(|error| error.with_key(key).with_origin(origin))?;
    table
        .put_path(path, Node::of(value.clone(), origin))
        .map(drop)
        .map_err(|_| clash(table, key, path, origin))
}

/// Where a layer, before or after an update, has a say about a key: at the key, or further up if a
/// value or a tombstone stands there.
fn place_of(key: &Key, layers: [&Table; 2]) -> Option<String> {
    let mut tables = layers.map(Some);
    let mut place = String::new();
    for segment in key.segments() {
        push_segment(&mut place, &segment);
        let here = tables.map(|table| table.and_then(|table| table.get(&segment)));
        let mut there = here.iter().flatten().peekable();
        there.peek()?;
        if there.any(|entry| entry.node.table().is_none()) {
            break;
        }
        tables = here.map(|entry| entry.and_then(|entry| entry.node.table()));
    }
    Some(place)
}

/// Puts what the layer held before in place of each refused key; says whether that changed
/// anything.
fn keep_old(root: &mut Table, before: &Table, culprits: &BTreeSet<String>) -> bool {
    let mut changed = false;
    for key in culprits {
        let path: Vec<_> = crate::value::key::segments(key)
            .map_while(Result::ok)
            .collect();
        let old = before.find(&path).map(|entry| entry.node.clone());
        changed |= root.remove_path(&path).is_some() || old.is_some();
        if let Some(node) = old {
            if root.put_path(&path, node).is_err() {
                return false;
            }
        }
    }
    changed
}
