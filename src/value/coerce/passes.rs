//! The passes that find out in which form serde's consumers want what was buffered.

use std::cell::RefCell;
use std::collections::HashSet;

use serde_core::de::DeserializeOwned;

use crate::value::coerce::fault::{self, Fault, Got, Judged};
use crate::value::coerce::form::Form;
use crate::value::coerce::learn::{
    EACH, Kind, Learned, NAMES, PROBE, PROBE_WORDS, STEP, Seen, VARIANT, is_below,
};
use crate::value::coerce::place::Root;
use crate::value::coerce::report::Slow;
use crate::value::key::under;

/// What a decoding came to, without its value, and all that serde said about buffered values.
type Outcome = (Result<(), Fault>, Vec<Judged>);

/// Decodes until each buffered value has the form that its type wants, or until a fault remains.
pub(super) fn decode_in_passes<T: DeserializeOwned>(
    root: Root<'_>,
    slow: &RefCell<Slow>,
) -> Result<T, Fault> {
    let pass = || dry::<T>(root, slow);
    let learner = Learner { slow, pass: &pass };
    loop {
        let (result, log) = run(root, slow);
        if learner.learned(Learned::take_news) {
            continue;
        }
        match result {
            Ok(value) if learner.proves_lists() => return Ok(value),
            Ok(_) => {}
            Err(fault) => {
                if slow.borrow().is_exhausted() || !learner.improves(&fault, &log) {
                    return Err(fault);
                }
            }
        }
    }
}

fn run<T: DeserializeOwned>(
    root: Root<'_>,
    slow: &RefCell<Slow>,
) -> (Result<T, Fault>, Vec<Judged>) {
    slow.borrow_mut().start();
    let outcome = fault::noting(|| root.run::<T>(Some(slow)));
    slow.borrow_mut().count();
    outcome
}

fn dry<T: DeserializeOwned>(root: Root<'_>, slow: &RefCell<Slow>) -> Outcome {
    let (result, log) = run::<T>(root, slow);
    (result.map(drop), log)
}

/// Moves a fault about a value that serde had buffered to where that one stands.
pub(super) fn locate<T: DeserializeOwned>(root: Root<'_>, slow: &RefCell<Slow>, fault: &mut Fault) {
    let pass = || dry::<T>(root, slow);
    let learner = Learner { slow, pass: &pass };
    let Some(outer) = fault.0.place.clone().filter(|_| fault.may_be_buffered()) else {
        return;
    };
    if !learner.learned(|learned| learned.hands_over_below(&outer.path)) {
        return;
    }
    let mut masked = false;
    let found = match learner.find_equal(fault) {
        Some(found) => found,
        None => {
            let found = learner.find_by_leaving_out(fault, &outer.path);
            masked = found.is_some() && fault.is_of_secret();
            masked |= outer.masked && found.as_ref().is_some_and(Seen::is_container);
            found
        }
    };
    let found = found.or_else(|| learner.find_only(fault, &outer.path));
    let path = found.as_ref().map_or(&outer.path, |seen| &seen.path);
    // What was handed over last counts, not what stood in for it.
    learner.learned(|learned| learned.place_at = Some(path.clone()));
    drop(pass());
    let place = learner.learned(|learned| {
        learned.place_at = None;
        learned.place_of(&found?.id)
    });
    if let Some(mut place) = place {
        // The mask of the outer place was for all it holds; here it is known what it was.
        place.masked |= masked;
        fault.move_to(place);
    }
}

/// The faults of the values that are refused for the same reason as one that was located, at most as
/// many as stated, and how many more there are.
pub(super) fn refused_alike<T: DeserializeOwned>(
    root: Root<'_>,
    slow: &RefCell<Slow>,
    fault: &Fault,
    most: usize,
) -> (Vec<Fault>, usize) {
    let (Some(judged), Some(place)) = (fault.wants_no_text(), &fault.0.place) else {
        return (Vec::new(), 0);
    };
    let pass = || dry::<T>(root, slow);
    let learner = Learner { slow, pass: &pass };
    let Some(mut seen) = learner.learned(|learned| learned.buffered_at(&place.path)) else {
        return (Vec::new(), 0);
    };
    // Which values have one class is known once the tables around are.
    let known = learner.learned(|learned| learned.kinds.len());
    learner.probe_tables(&mut seen);
    if learner.learned(|learned| learned.kinds.len()) != known {
        drop(pass());
    }
    let mut alike = slow.borrow().learned.alike(&seen, &judged);
    let left = alike.len().saturating_sub(most);
    alike.truncate(most);
    if alike.is_empty() {
        return (Vec::new(), left);
    }
    let ids = alike.into_iter().map(|seen| seen.id);
    let ids: Vec<String> = ids.collect();
    slow.borrow_mut().learned.places = ids.iter().cloned().collect();
    drop(pass());
    let learned = &mut slow.borrow_mut().learned;
    learned.places.clear();
    let text = |id: &String| learned.text_of(id);
    let faults = ids.iter().filter_map(text);
    let faults = faults.map(|(got, place)| Fault::of_text(got, &judged.wanted, place));
    (faults.collect(), left)
}

fn is_replaceable(got: &Got) -> bool {
    matches!(got, Got::Text(_) | Got::Number(_))
}

struct Learner<'a> {
    slow: &'a RefCell<Slow>,
    pass: &'a dyn Fn() -> Outcome,
}

impl Learner<'_> {
    fn learned<R>(&self, what: impl FnOnce(&mut Learned) -> R) -> R {
        what(&mut self.slow.borrow_mut().learned)
    }

    /// Finds a value that serde wants in another form; says whether there is one.
    fn improves(&self, fault: &Fault, log: &[Judged]) -> bool {
        let Some((mut seen, form)) = self.choose(fault, log) else {
            return false;
        };
        self.probe_tables(&mut seen);
        let conflict = self.learned(|learned| {
            let given = learned.forms.get(&seen.class);
            given.is_some_and(|given| *given != form)
        });
        if !(conflict && self.finds_tag(&seen)) {
            self.learned(|learned| learned.set(&seen, form));
        }
        true
    }

    fn choose(&self, fault: &Fault, log: &[Judged]) -> Option<(Seen, Form)> {
        let below = fault.0.place.as_ref()?.path.as_str();
        if let Some(judged) = fault.judged_here() {
            return self.choose_one(&judged, below, true);
        }
        if !fault.0.custom {
            return None;
        }
        // The words of an untagged enum or of a user's type. What was said last led to them.
        let group = self.learned(|learned| trailing(learned, log, below));
        let judged = log[group.min(log.len())..].iter();
        let mut wanted: Vec<_> = judged
            .filter_map(|judged| self.choose_one(judged, below, false))
            .collect();
        // What one variant refuses may be the form that another one wants, so that the form as it is
        // comes last.
        wanted.sort_by_key(|(seen, form)| seen.falls_back(*form));
        self.learned(|learned| learned.choose_alternative(below, wanted))
    }

    fn choose_one(&self, judged: &Judged, below: &str, exact: bool) -> Option<(Seen, Form)> {
        let candidates = self.learned(|learned| {
            let all = learned.candidates(judged, below);
            let of = |(at, form)| Some((learned.seen(at)?, form));
            all.into_iter().filter_map(of).collect::<Vec<_>>()
        });
        let same = |pair: &[(Seen, Form)]| pair[0].0.class == pair[1].0.class;
        let new = |(seen, _): &(Seen, Form)| {
            self.learned(|learned| !learned.forms.contains_key(&seen.class))
        };
        // Any of them will do for a class that has no form yet.
        let alike = candidates.windows(2).all(same) && candidates.first().is_none_or(new);
        if exact && is_replaceable(&judged.got) && !alike {
            if let Some(chosen) = self.choose_by_token(judged, &candidates) {
                return Some(chosen);
            }
        }
        let is_new = |(_, form): &(Seen, Form)| *form != Form::Plain;
        let at = candidates.iter().position(is_new).unwrap_or(0);
        candidates.into_iter().nth(at)
    }

    /// Replaces equal values by different ones: the fault then says which one it is about.
    fn choose_by_token(
        &self,
        judged: &Judged,
        candidates: &[(Seen, Form)],
    ) -> Option<(Seen, Form)> {
        let mut left: Vec<_> = (0..candidates.len())
            .filter(|at| !candidates[*at].0.name)
            .collect();
        while left.len() > 1 && !self.slow.borrow().is_exhausted() {
            let tokens = left
                .iter()
                .map(|at| (candidates[*at].0.id.clone(), *at))
                .collect();
            self.learned(|learned| learned.tokens = tokens);
            let (result, log) = (self.pass)();
            self.learned(|learned| learned.tokens.clear());
            let said = result
                .err()?
                .judged_here()
                .or_else(|| log.last().cloned())?;
            let token = |at: &&usize| said.got == token_for(&judged.got, **at);
            let at = *left.iter().find(token)?;
            if said.wanted == judged.wanted {
                return Some(candidates[at].clone());
            }
            // It takes the value, but not what stood in for it.
            left.retain(|other| *other != at);
        }
        match left.as_slice() {
            [at] => Some(candidates[*at].clone()),
            _ => None,
        }
    }

    /// Finds the one of several equal values that a fault is about; `None` if there are not several.
    fn find_equal(&self, fault: &Fault) -> Option<Option<Seen>> {
        let judged = fault.judged_here()?;
        let place = fault.0.place.as_ref()?;
        let all = self.learned(|learned| learned.all_of(&judged, &place.path));
        let candidates: Vec<_> = all.into_iter().map(|seen| (seen, Form::Plain)).collect();
        if candidates.len() < 2 || !is_replaceable(&judged.got) {
            return None;
        }
        let found = self.choose_by_token(&judged, &candidates);
        Some(found.map(|(seen, _)| seen))
    }

    /// Finds the only value that a fault can be about.
    fn find_only(&self, fault: &Fault, below: &str) -> Option<Seen> {
        let got = fault.0.got.as_ref()?;
        self.learned(|learned| learned.only(got, below).cloned())
    }

    /// Finds the value that a fault is about by leaving out others. serde judges the values in the
    /// order in which they were handed over, so what comes after the value does not matter.
    fn find_by_leaving_out(&self, fault: &Fault, below: &str) -> Option<Seen> {
        let is_known = |got: &Got| self.learned(|learned| learned.only(got, below).is_some());
        let all = self.learned(|learned| learned.all_below(below));
        if all.is_empty() || fault.0.got.as_ref().is_some_and(is_known) {
            return None;
        }
        let found = self.last_that_matters(fault, &all)?;
        self.itself_or_around(fault, &all, found)
    }

    /// The last value without which the fault is another one.
    fn last_that_matters<'s>(&self, fault: &Fault, all: &'s [Seen]) -> Option<&'s Seen> {
        let matters = |from: usize| {
            let dropped = all[from..].iter().map(|seen| seen.path.clone());
            self.learned(|learned| learned.dropped = dropped.collect());
            let (result, _) = (self.pass)();
            self.learned(|learned| learned.dropped.clear());
            !result.is_err_and(|other| other.is_like(fault))
        };
        if !matters(0) {
            return None;
        }
        let (mut low, mut high) = (0, all.len());
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            if matters(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        all.get(low)
    }

    /// What the fault is about: a value that is refused without its neighbours too, or else the whole
    /// around it.
    fn itself_or_around(&self, fault: &Fault, all: &[Seen], found: &Seen) -> Option<Seen> {
        let mut found = found.clone();
        loop {
            let related =
                |other: &&Seen| under(&other.path, &found.path) || under(&found.path, &other.path);
            let others = all.iter().filter(|other| !related(other));
            let dropped: HashSet<String> = others.map(|other| other.path.clone()).collect();
            if dropped.is_empty() {
                return Some(found);
            }
            self.learned(|learned| learned.dropped = dropped);
            let (result, _) = (self.pass)();
            self.learned(|learned| learned.dropped.clear());
            if result.is_err_and(|other| other.is_like(fault)) {
                return Some(found);
            }
            let around = all.iter().rfind(|other| is_below(&found.path, &other.path));
            // Without one, it is the whole of what serde has buffered.
            found = around?.clone();
        }
    }

    /// Finds out which of the tables around a value are maps, and corrects the value's class.
    fn probe_tables(&self, seen: &mut Seen) {
        while let Some(table) = self.learned(|learned| learned.unknown_table(&seen.class)) {
            let kind = if self.probe(&table) {
                Kind::Homogeneous
            } else {
                Kind::Fixed
            };
            self.learned(|learned| learned.kinds.insert(table.clone(), kind));
            if kind == Kind::Homogeneous {
                seen.class = with_each(&seen.class, &table);
            }
        }
    }

    /// Whether a type reads an additional entry of a container like the others.
    fn probe(&self, container: &str) -> bool {
        self.learned(|learned| learned.probing = Some(container.to_owned()));
        let (result, log) = (self.pass)();
        self.learned(|learned| learned.probing = None);
        let Err(fault) = result else { return false };
        if fault.0.unknown.is_some() {
            return false;
        }
        let probe = Got::Text(PROBE.to_owned());
        let place = fault.0.place.as_ref();
        let said = |judged: &Judged| judged.got == probe;
        fault.0.got.as_ref() == Some(&probe)
            || log.iter().any(said)
            || place.is_some_and(|place| {
                let found = place.found.as_deref().unwrap_or_default();
                place.path.contains(PROBE_WORDS) || found.contains(PROBE_WORDS)
            })
    }

    /// Proves that lists whose items were given one form are no tuples; says whether all are.
    fn proves_lists(&self) -> bool {
        let mut all = true;
        while let Some(list) = self.learned(|learned| learned.unknown_list()) {
            if self.probe(&list) {
                self.learned(|learned| learned.kinds.insert(list.clone(), Kind::Homogeneous));
            } else {
                self.learned(|learned| learned.not_a_list(&list));
                all = false;
            }
        }
        all
    }

    /// Finds the entry that tells apart the variants of tables that disagree about a field.
    fn finds_tag(&self, seen: &Seen) -> bool {
        let Some(table) = self.learned(|learned| learned.untagged_item(&seen.class)) else {
            return false;
        };
        self.learned(|learned| learned.texts = Some(Default::default()));
        drop((self.pass)());
        self.learned(|learned| learned.choose_tag(&table, seen))
    }
}

/// What is handed over instead of one of several equal values.
pub(super) fn token_for(got: &Got, at: usize) -> Got {
    match got {
        Got::Number(_) => Got::Number((i64::MAX - at as i64).to_string()),
        _ => Got::Text(format!("{PROBE} {at}")),
    }
}

/// Where the verdicts about the value that was judged last begin: those of one untagged enum.
fn trailing(learned: &Learned, log: &[Judged], below: &str) -> usize {
    let places = |judged: &Judged| {
        let places = learned.places_of(judged);
        let places = places.filter(|path| under(path, below));
        places.map(str::to_owned).collect::<Vec<_>>()
    };
    let log = &log[learned.said_before.min(log.len())..];
    let start = learned.said_before;
    let Some(last) = log.last().map(places) else {
        return start;
    };
    // One variant may complain about a field of what another variant refuses as a whole.
    let near = |judged: &Judged| {
        places(judged).iter().any(|path| {
            let sibling = |other: &&String| parent(other) == parent(path);
            let nested = |other: &&String| under(path, other) || under(other, path);
            last.iter().any(|other| sibling(&other) || nested(&other))
        })
    };
    let others = log.iter().rposition(|judged| !near(judged));
    start + others.map_or(0, |at| at + 1)
}

fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}

/// A class with `*` instead of the name in a table that turned out to be a map.
fn with_each(class: &str, table: &str) -> String {
    let rest = &class[table.len() + STEP.len_utf8()..];
    let end = rest.find([STEP, NAMES, VARIANT]).unwrap_or(rest.len());
    format!("{table}{STEP}{EACH}{}", &rest[end..])
}
