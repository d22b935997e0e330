//! The passes that find out in which form serde's consumers want what was buffered.

use std::cell::RefCell;
use std::collections::HashSet;

use serde::de::DeserializeOwned;

use crate::decode::diagnose::fault::{self, Fault, Got, Judged};
use crate::decode::diagnose::form::Form;
use crate::decode::diagnose::identity::Texts;
use crate::decode::diagnose::learn::{
    self, EACH, Kind, Learned, NAMES, PROBE, PROBE_WORDS, STEP, Seen, VARIANT, is_below,
};
use crate::decode::diagnose::report::Slow;
use crate::decode::place::Root;
use crate::value::key::under;

/// What a decoding came to, without its value, and all that serde said about buffered values.
pub(in crate::decode) type Outcome = (Result<(), Fault>, Vec<Judged>);

#[cfg(test)]
thread_local! {
    /// How many passes this thread has made.
    pub(in crate::decode) static PASSES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Decodes until each buffered value has the form that its type wants, or until a fault remains.
pub(in crate::decode) fn decode_in_passes<T: DeserializeOwned>(
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
                // What serde says of a single value leads on with hardly any search.
                let is_too_much = fault.0.custom && slow.borrow().is_exhausted();
                if is_too_much || !learner.improves(&fault, &log) {
                    return Err(fault);
                }
                slow.borrow_mut().collected.forgive();
            }
        }
    }
}

fn run<T: DeserializeOwned>(
    root: Root<'_>,
    slow: &RefCell<Slow>,
) -> (Result<T, Fault>, Vec<Judged>) {
    slow.borrow_mut().start();
    #[cfg(test)]
    PASSES.with(|passes| passes.set(passes.get() + 1));
    let texts = Texts::new();
    let (mut result, mut log) = fault::noting(|| root.run::<T>(Some((slow, &texts))));
    let learned = &slow.borrow().learned;
    if let Err(fault) = &mut result {
        learned.resolve(&mut fault.0.at);
    }
    log.iter_mut()
        .for_each(|judged| learned.resolve(&mut judged.at));
    (result, log)
}

/// Decodes once, for what serde says meanwhile.
pub(in crate::decode) fn dry<T: DeserializeOwned>(root: Root<'_>, slow: &RefCell<Slow>) -> Outcome {
    let (result, log) = run::<T>(root, slow);
    (result.map(drop), log)
}

/// Moves a fault about a value that serde had buffered to where that one stands.
pub(in crate::decode) fn locate<T: DeserializeOwned>(
    root: Root<'_>,
    slow: &RefCell<Slow>,
    fault: &mut Fault,
) {
    let pass = || dry::<T>(root, slow);
    let learner = Learner { slow, pass: &pass };
    let may_be_buffered = fault.may_be_buffered() || fault.0.twice.is_some();
    let Some(outer) = fault.0.place.clone().filter(|_| may_be_buffered) else {
        return;
    };
    if !learner.learned(|learned| learned.hands_over_below(&outer.path)) {
        return;
    }
    let twice = fault
        .0
        .twice
        .or_else(|| fault::twice().filter(|_| fault.0.custom));
    let (mut masked, mut quotes) = (false, false);
    let found = match learner.find_equal(fault) {
        Some(found) => found,
        None => {
            let found = learner.find_by_leaving_out(fault, &outer.path);
            masked = found.is_some() && fault.is_of_secret();
            let is_container = found.as_ref().is_some_and(Seen::is_container);
            quotes = (outer.masked || outer.quotes) && is_container;
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
        place.quotes |= quotes;
        fault.move_to(place);
    }
    learner.find_rivals(fault, &outer.path, twice);
}

/// The faults of the values that are refused for the same reason as one that was located, at most as
/// many as stated, and how many more there are.
pub(in crate::decode) fn refused_alike<T: DeserializeOwned>(
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
        if self.learned(|learned| learned.is_exhausted()) {
            return false;
        }
        let Some((mut seen, form)) = self.choose(fault, log) else {
            return false;
        };
        self.probe_tables(&mut seen);
        let conflict = self.learned(|learned| learned.conflicts(&seen));
        if conflict && self.finds_tag(&seen) {
            return true;
        }
        // The type of a value that no enum chooses is known: only a tuple has items of several types.
        let is_of_tuple = !fault.0.custom && seen.is_item();
        self.learned(|learned| match (conflict, is_of_tuple) {
            (true, true) => learned.except(&seen, form),
            (true, false) if learned.split(&seen, form) => {}
            _ => learned.set(&seen, form),
        });
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
        let (judged, last) = self.said_of_enum(fault, log, below);
        let mut wanted: Vec<_> = Vec::new();
        for (at, said) in judged.iter().enumerate() {
            if let Some((mut seen, form)) = self.choose_one(said, below, false) {
                seen.earlier = self.earlier(&judged[..=at], &seen, form);
                wanted.push((seen, form));
            }
        }
        // What one variant refuses may be the form that another one wants, so that the form as it is
        // comes last.
        wanted.sort_by_key(|(seen, form)| seen.falls_back(*form));
        self.learned(|learned| {
            let item = learned.item_around(last.first().copied(), below);
            let chosen = learned.choose_alternative(&item, wanted);
            let around = || Some((learned.given_around(&last, below)?, Form::Plain));
            chosen.or_else(around)
        })
    }

    /// What serde said about the values of the enum of which no variant fits, each once.
    fn said_of_enum(
        &self,
        fault: &Fault,
        log: &[Judged],
        below: &str,
    ) -> (Vec<Judged>, Vec<usize>) {
        let log = self.learned(|learned| &log[learned.said_before.min(log.len())..]);
        let Some(last) = log.last() else {
            return (Vec::new(), Vec::new());
        };
        self.probe_around(last, below);
        let mut last = self.learned(|learned| learned.judged_below(last, below));
        if last.len() > 1 && self.learned(|learned| learned.are_of_several_items(&last)) {
            let found = self.item_that_matters(fault, below);
            drop((self.pass)());
            if let Some(path) = found {
                let is_here = |at: &usize| self.learned(|learned| learned.is_near(*at, &path));
                let here: Vec<_> = last.iter().copied().filter(is_here).collect();
                last = if here.is_empty() { last } else { here };
            }
        }
        let said = self.learned(|learned| {
            let near = |judged: &Judged| learned.near(judged, &last, below);
            let start = log.iter().rposition(|judged| near(judged).is_empty());
            let mut seen = HashSet::new();
            let mut said = Vec::new();
            for judged in &log[start.map_or(0, |at| at + 1)..] {
                if seen.insert((judged.at, &judged.got, &judged.wanted)) {
                    let among = near(judged);
                    said.push(Judged {
                        among,
                        ..judged.clone()
                    });
                }
            }
            said
        });
        (said, last)
    }

    /// The innermost of many alike without which the fault is another one.
    fn item_that_matters(&self, fault: &Fault, below: &str) -> Option<String> {
        let mut found: Option<String> = None;
        loop {
            let place = found.as_deref().unwrap_or(below);
            let items = self.learned(|learned| learned.items_below(place));
            match self.last_that_matters(fault, &items) {
                Some(item) => found = Some(item.path.clone()),
                None => return found,
            }
        }
    }

    /// Finds out whether what stands around a value is a map.
    fn probe_around(&self, judged: &Judged, below: &str) {
        let one = self.learned(|learned| {
            let first = *learned.judged_below(judged, below).first()?;
            learned.seen(first)
        });
        if let Some(mut one) = one {
            if self.probe_tables(&mut one) {
                // What was handed over without the probe counts.
                drop((self.pass)());
            }
        }
    }

    /// The forms that the variants before the one that wants a form want of the same value.
    fn earlier(&self, said: &[Judged], seen: &Seen, form: Form) -> Vec<Form> {
        if !seen.is_item() {
            return Vec::new();
        }
        let Some(at) = said.last().and_then(|judged| judged.at) else {
            return Vec::new();
        };
        let of_value = said.iter().filter(|judged| judged.at == Some(at));
        let forms = of_value.flat_map(|judged| self.learned(|it| it.wanted(at, judged)));
        forms
            .copied()
            .take_while(|earlier| *earlier != form)
            .collect()
    }

    fn choose_one(&self, judged: &Judged, below: &str, exact: bool) -> Option<(Seen, Form)> {
        let candidates = self.learned(|learned| {
            let mut all = learned.candidates(judged, below);
            // A form that fails by itself takes away the other variants.
            all.retain(|(_, form)| exact || *form != Form::BrokenList);
            if !judged.among.is_empty() {
                all.retain(|(at, _)| judged.among.contains(at));
            }
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
        if let ([(seen, _)], Some(_)) = (candidates.as_slice(), judged.at) {
            return Some(Some(seen.clone()));
        }
        if candidates.len() < 2 || !is_replaceable(&judged.got) {
            return None;
        }
        let found = self.choose_by_token(&judged, &candidates);
        Some(found.map(|(seen, _)| seen))
    }

    /// Finds the only value that a fault can be about.
    fn find_only(&self, fault: &Fault, below: &str) -> Option<Seen> {
        self.learned(|learned| learned.only(fault, below).cloned())
    }

    /// Finds the value that a fault is about by leaving out others. serde judges the values in the
    /// order in which they were handed over, so what comes after the value does not matter.
    fn find_by_leaving_out(&self, fault: &Fault, below: &str) -> Option<Seen> {
        let is_known = self.learned(|learned| learned.only(fault, below).is_some());
        let all = self.learned(|learned| learned.all_below(below));
        if all.is_empty() || is_known {
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
        if all.is_empty() || !matters(0) {
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

    /// Finds out which of the tables around a value are maps, and corrects the value's class. Says
    /// whether there were any to find out about.
    fn probe_tables(&self, seen: &mut Seen) -> bool {
        let mut any = false;
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
            any = true;
        }
        any
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

/// What serde wants where it has found several variants in its buffer.
const ONE_VARIANT: &str = "map with a single key";

/// As many entries are left out in search of two that mean the same thing.
const MOST_RIVALS: usize = 64;

impl Learner<'_> {
    /// Finds the names that mean the same thing, where they are what is wrong: several variants of an
    /// enum, or two spellings of a field.
    fn find_rivals(&self, fault: &mut Fault, below: &str, twice: Option<&'static str>) {
        let exact = fault.0.wanted.as_deref() == Some(ONE_VARIANT);
        if !fault.0.rivals.is_empty() || !(exact || twice.is_some() || fault.0.custom) {
            return;
        }
        let tables = self.learned(|learned| learned.entries_below(below));
        let found = if exact {
            let place = fault.0.place.as_ref();
            let here = |(table, _): &&(String, Vec<_>)| place.is_some_and(|it| it.path == *table);
            tables.iter().find(here).cloned()
        } else {
            let field = |name: &&str| twice.is_none_or(|twice| twice == *name);
            let count: usize = tables.iter().map(|(_, names)| names.len()).sum();
            let mut tables = tables.iter();
            let found = tables.find_map(|(table, names)| {
                let may_be = names.iter().any(|name| field(&name.as_str()));
                let is_few = twice.is_some() || names.len() == 2;
                let rivals = (may_be && is_few && count <= MOST_RIVALS)
                    .then(|| self.rivals_in(table, names, twice.is_some()))?;
                (rivals.len() > 1).then(|| (table.clone(), rivals))
            });
            drop((self.pass)());
            found
        };
        if let Some((table, names)) = found.filter(|(_, names)| names.len() > 1) {
            fault.name_rivals(table, names, twice.filter(|_| !exact));
        }
    }

    /// The entries of a table without which a fault is gone.
    fn rivals_in(&self, table: &str, names: &[String], is_twice: bool) -> Vec<String> {
        let is_rival = |name: &&String| {
            let left_out = learn::below(table, name);
            self.learned(|learned| learned.dropped = HashSet::from([left_out]));
            let (result, _) = (self.pass)();
            self.learned(|learned| learned.dropped.clear());
            match (result, is_twice) {
                (Ok(()), _) => true,
                // Other values may still want another form.
                (Err(fault), true) => fault.0.missing.is_none() && fault::twice().is_none(),
                (Err(_), false) => false,
            }
        };
        names.iter().filter(is_rival).cloned().collect()
    }
}

/// What is handed over instead of one of several equal values.
pub(in crate::decode) fn token_for(got: &Got, at: usize) -> Got {
    match got {
        Got::Number(_) => Got::Number((i64::MAX - at as i64).to_string()),
        _ => Got::Text(format!("{PROBE} {at}")),
    }
}

/// A class with `*` instead of the name in a table that turned out to be a map.
fn with_each(class: &str, table: &str) -> String {
    let rest = &class[table.len() + STEP.len_utf8()..];
    let end = rest.find([STEP, NAMES, VARIANT]).unwrap_or(rest.len());
    format!("{table}{STEP}{EACH}{}", &rest[end..])
}
