//! What of an update is not believed at once: that most of a layer's keys are gone.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use crate::engine::clock::Clock;
use crate::engine::health::Held;
use crate::error::{Error, ErrorKind};
use crate::source::RemovalGuard;
use crate::tree::diff;
use crate::tree::layer::SourceId;
use crate::value::node::Table;

/// Removals that come within this time count together: a prefix may be wiped key by key.
const WINDOW: Duration = Duration::from_secs(10);
/// The shortest time after which what was to be believed, and was refused, is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The sources whose removals are looked at twice.
#[derive(Debug)]
pub(crate) struct Guards {
    clock: Clock,
    watched: HashMap<SourceId, Watched>,
}

#[derive(Debug)]
struct Watched {
    guard: RemovalGuard,
    /// Whether it speaks when it is asked, and then of what is in force; else what it said stands
    /// until it says otherwise.
    asked: bool,
    /// What the layer held when the window began, or when something was first held.
    base: Table,
    since: Instant,
    /// Whether the window ends with the next update that is taken.
    over: bool,
    held: Option<Holding>,
}

/// What a source says that is not in force.
#[derive(Debug)]
struct Holding {
    /// All that it says by now.
    says: Table,
    /// Since when it has said so without a failure in between.
    since: Instant,
    /// When it is believed although it is not said again.
    believed: Option<Instant>,
    shown: Held,
}

/// How what a source says stands to what it said before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Said {
    /// It is all there is.
    All,
    /// It changes what was said before.
    Changes,
    /// The source takes it back if it is refused.
    Tentative,
}

/// What an update would take away.
#[derive(Debug)]
struct Loss {
    /// How many of how many keys: of those that are there, or that were there when the window began.
    gone: usize,
    of: usize,
    /// How many of how many that are there.
    at_once: (usize, usize),
    /// The first of these keys.
    first: Vec<String>,
}

impl Watched {
    /// Whether the window begins anew with what is there.
    fn begins(&self, now: Instant) -> bool {
        let past = || now.saturating_duration_since(self.since) >= WINDOW;
        self.base.is_empty() || (self.held.is_none() && past())
    }

    /// What would be gone, if that is too much: of the keys at the beginning of the window, which
    /// may be gone in small steps, or of those there are by now, which may be many more.
    fn too_much(&self, base: &Table, now_there: &Table, next: &Table) -> Option<Loss> {
        let of = |before: &Table| (diff::gone(before, next), before.leaves());
        // Of a few keys all may go one by one while others come.
        let few = base.leaves() < self.guard.at_least && !next.is_empty();
        let slowly = (!few).then(|| of(base));
        let at_once = of(now_there);
        let counts = slowly.into_iter().chain([at_once]);
        let (gone, of) = counts
            .filter(|(gone, of)| self.guard.holds(*gone, *of))
            .max_by_key(|(gone, _)| *gone)?;
        let first = diff::first_gone(now_there, next, NAMED);
        Some(Loss {
            gone,
            of,
            at_once,
            first,
        })
    }

    /// Whether what is held has been said for long enough.
    fn is_repeated(&self, now: Instant) -> bool {
        let since = self.held.as_ref().map_or(now, |held| held.since);
        let said_for = now.saturating_duration_since(since);
        self.guard.repeated.is_some_and(|time| said_for >= time)
    }
}

impl Guards {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            watched: HashMap::new(),
        }
    }

    /// Looks after a source from now on.
    pub(crate) fn add(&mut self, source: SourceId, guard: RemovalGuard, asked: bool) {
        let watched = Watched {
            guard,
            asked,
            base: Table::default(),
            since: self.clock.now(),
            over: false,
            held: None,
        };
        self.watched.insert(source, watched);
    }

    pub(crate) fn remove(&mut self, source: SourceId) {
        self.watched.remove(&source);
    }

    /// Nothing of what a source said before is in force.
    pub(crate) fn reset(&mut self, source: SourceId) {
        if let Some(watched) = self.watched.get_mut(&source) {
            (watched.base, watched.held) = (Table::default(), None);
        }
    }

    /// Whether removals of a source are looked at at all.
    pub(crate) fn watches(&self, source: SourceId) -> bool {
        self.watched.contains_key(&source)
    }

    fn holding(&self, source: SourceId) -> Option<&Holding> {
        self.watched.get(&source)?.held.as_ref()
    }

    /// What is held of a source, and when it is believed although it is not said again.
    pub(crate) fn held(&self, source: SourceId) -> Option<(Held, Option<Instant>)> {
        let held = self.holding(source)?;
        Some((held.shown, held.believed))
    }

    /// All that a source says, if some of that is held.
    pub(crate) fn says(&self, source: SourceId) -> Option<&Table> {
        Some(&self.holding(source)?.says)
    }

    /// What the changes that a source says are changes of, if that is not what is in force.
    pub(crate) fn said_before(&self, source: SourceId) -> Option<&Table> {
        let watched = self.watched.get(&source)?;
        self.says(source).filter(|_| !watched.asked)
    }

    /// Judges what a layer would become, and holds it if too much would be gone. What was held
    /// before and is not said any more is let go, whatever becomes of what is said now.
    pub(crate) fn judge(
        &mut self,
        source: SourceId,
        now_there: &Table,
        next: &Table,
        said: Said,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let Some(watched) = self.watched.get_mut(&source) else {
            return Ok(());
        };
        if watched.begins(now) {
            (watched.base, watched.since) = (now_there.clone(), now);
        }
        // What is asked for says all there is, if only by what it leaves as it is.
        let said = match said {
            Said::Changes if watched.asked => Said::All,
            said => said,
        };
        let Some(loss) = watched.too_much(&watched.base, now_there, next) else {
            match (said, &mut watched.held) {
                (Said::All, held) => watched.over |= held.take().is_some(),
                (Said::Changes, Some(held)) => held.says = next.clone(),
                _ => {}
            }
            return Ok(());
        };
        let repeated = watched.is_repeated(now);
        if said == Said::Tentative {
            return if repeated {
                Ok(())
            } else {
                Err(too_much(loss, "the update is refused"))
            };
        }
        let before = watched.held.take();
        let (since, shown_since) = match &before {
            Some(held) => (held.since, held.shown.since),
            None => (now, SystemTime::now()),
        };
        if before.is_none() && repeated {
            return Ok(());
        }
        let time = watched.guard.repeated.filter(|_| !watched.asked);
        watched.held = Some(Holding {
            says: next.clone(),
            since,
            believed: time.and_then(|time| since.checked_add(time)),
            shown: Held {
                gone: loss.gone,
                of: loss.of,
                since: shown_since,
            },
        });
        if repeated {
            Ok(())
        } else {
            Err(too_much(loss, UNTIL))
        }
    }

    /// Whether what a layer would become would be held; changes nothing.
    pub(crate) fn would_hold(
        &self,
        source: SourceId,
        now_there: &Table,
        next: &Table,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let Some(watched) = self.watched.get(&source) else {
            return Ok(());
        };
        let base = match watched.begins(now) {
            true => now_there,
            false => &watched.base,
        };
        match watched.too_much(base, now_there, next) {
            Some(loss) if !watched.is_repeated(now) => Err(too_much(loss, UNTIL)),
            _ => Ok(()),
        }
    }

    /// A layer is what its source says.
    pub(crate) fn accepted(&mut self, source: SourceId, now_there: &Table) {
        let now = self.clock.now();
        if let Some(watched) = self.watched.get_mut(&source) {
            let over = std::mem::take(&mut watched.over);
            if watched.held.take().is_some() || over || watched.base.is_empty() {
                (watched.base, watched.since) = (now_there.clone(), now);
            }
        }
    }

    /// A source has failed since it said what is held: the time it is to be said for begins anew.
    pub(crate) fn interrupted(&mut self, source: SourceId) {
        let now = self.clock.now();
        let watched = self.watched.get_mut(&source);
        if let Some(held) = watched.and_then(|watched| watched.held.as_mut()) {
            held.since = now;
        }
    }

    /// What was to be believed is refused for another reason: it is tried again.
    pub(crate) fn put_off(&mut self, source: SourceId) {
        let now = self.clock.now();
        let Some(watched) = self.watched.get_mut(&source) else {
            return;
        };
        let pause = watched.guard.repeated.map(|time| time.max(AGAIN));
        if let Some(held) = &mut watched.held {
            held.believed = pause.and_then(|pause| now.checked_add(pause));
        }
    }
}

/// The keys that a message names are as many at most.
const NAMED: usize = 3;

const UNTIL: &str = "they stay until they come back, or until `Properties::confirm` says that it \
                     is meant";

fn too_much(loss: Loss, so: &str) -> Error {
    let (gone, of) = loss.at_once;
    let mut detail = format!("would take away {gone} of {of} keys");
    if !loss.first.is_empty() {
        let more = if gone > loss.first.len() { ", ..." } else { "" };
        detail.push_str(&format!(" (`{}`{more})", loss.first.join("`, `")));
    }
    if (loss.gone, loss.of) != loss.at_once {
        detail.push_str(&format!(
            ", and {} of the {} that were there before: removals within {} seconds count together",
            loss.gone,
            loss.of,
            WINDOW.as_secs()
        ));
    }
    Error::new(ErrorKind::Withheld, format!("{detail}; {so}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::clock::Fake;
    use crate::value::document::Document;
    use crate::value::origin::Origin;

    const SOURCE: SourceId = SourceId(7);

    fn keys(of: std::ops::Range<u32>) -> Table {
        let mut document = Document::new();
        for n in of {
            let origin = Origin::new("store", "test");
            document.set(&format!("k{n}"), 1, origin).unwrap();
        }
        document.into_parts().0
    }

    #[test]
    fn a_held_removal_names_the_first_of_its_keys() {
        let mut guards = Guards::new(Fake::new().1);
        guards.add(SOURCE, RemovalGuard::new(), true);
        let mut judge = |next: u32| guards.judge(SOURCE, &keys(0..9), &keys(next..9), Said::All);
        let text = judge(9).unwrap_err().to_string();
        assert!(
            text.contains("9 of 9 keys (`k0`, `k1`, `k2`, ...)"),
            "{text}"
        );
        let mut guards = Guards::new(Fake::new().1);
        guards.add(SOURCE, RemovalGuard::new(), true);
        let error = guards.judge(SOURCE, &keys(4..5), &keys(0..0), Said::All);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("1 of 1 keys (`k4`)"), "{text}");
    }

    #[test]
    fn removals_within_ten_seconds_count_together_and_later_ones_do_not() {
        let (fake, clock) = Fake::new();
        let mut guards = Guards::new(clock);
        guards.add(SOURCE, RemovalGuard::new(), true);
        let mut judge = |there: u32, next: u32| {
            let judged = guards.judge(SOURCE, &keys(0..there), &keys(0..next), Said::All);
            judged.is_ok()
        };
        assert!(judge(20, 12), "8 of 20");
        fake.advance(Duration::from_millis(9_999));
        assert!(!judge(12, 9), "11 of 20");
        // Back, and the window is over.
        assert!(judge(12, 12));
        fake.advance(Duration::from_millis(1));
        assert!(judge(12, 9), "3 of 12");
        assert!(!judge(9, 4), "8 of 12");
    }

    /// Whether the first update that leaves `next` of `there` keys is accepted.
    fn accepts(guard: RemovalGuard, there: u32, next: u32) -> bool {
        let mut guards = Guards::new(Clock::default());
        guards.add(SOURCE, guard, true);
        let judged = guards.judge(SOURCE, &keys(0..there), &keys(0..next), Said::All);
        let tried = guards.would_hold(SOURCE, &keys(0..there), &keys(0..next));
        assert_eq!(judged.is_ok(), tried.is_ok(), "a trial says the same");
        judged.is_ok()
    }

    #[test]
    fn exactly_the_share_may_go_and_one_key_more_may_not() {
        for (there, most) in [(8, 4), (9, 4), (20, 10), (101, 50)] {
            assert!(
                accepts(RemovalGuard::new(), there, there - most),
                "{most} of {there}"
            );
            assert!(
                !accepts(RemovalGuard::new(), there, there - most - 1),
                "{most} + 1 of {there}"
            );
        }
        let quarter = RemovalGuard::new().max_removed_ratio(0.25);
        assert!(accepts(quarter, 20, 15) && !accepts(quarter, 20, 14));
        assert!(accepts(RemovalGuard::all(), 20, 1) && !accepts(RemovalGuard::all(), 20, 0));
    }

    #[test]
    fn of_fewer_keys_than_the_least_number_all_but_one_may_go() {
        assert!(accepts(RemovalGuard::new(), 7, 1), "6 of 7");
        assert!(!accepts(RemovalGuard::new(), 7, 0), "all of 7");
        assert!(!accepts(RemovalGuard::new(), 8, 1), "7 of 8");
        assert!(!accepts(RemovalGuard::new().min_keys(7), 7, 1), "6 of 7");
        assert!(accepts(RemovalGuard::new(), 0, 0), "nothing goes");
    }

    #[test]
    fn growth_hides_no_wipe_and_is_no_wipe() {
        let (_fake, clock) = Fake::new();
        let mut guards = Guards::new(clock);
        guards.add(SOURCE, RemovalGuard::new(), true);
        let mut judge = |there: u32, next: std::ops::Range<u32>| {
            let judged = guards.judge(SOURCE, &keys(0..there), &keys(next), Said::All);
            judged.is_ok()
        };
        assert!(judge(8, 0..100));
        assert!(judge(100, 0..50), "exactly half of those there are now");
        assert!(!judge(100, 0..49), "more than half of those there are now");
        assert!(
            !judge(100, 5..100),
            "more than half of those at the beginning"
        );
        assert!(judge(100, 4..100), "half of those at the beginning");
    }

    #[test]
    fn what_is_held_is_believed_only_after_it_was_said_all_the_time() {
        let (fake, clock) = Fake::new();
        let mut guards = Guards::new(clock);
        let time = Duration::from_secs(60);
        for (asked, source) in [(true, SourceId(8)), (false, SourceId(9))] {
            guards.add(source, RemovalGuard::new().accept_after(time), asked);
            let judge = |guards: &mut Guards| {
                let judged = guards.judge(source, &keys(0..20), &keys(0..1), Said::All);
                judged.is_ok()
            };
            assert!(!judge(&mut guards));
            // What is asked has to say it again.
            let (_, believed) = guards.held(source).unwrap();
            assert_eq!(believed.is_none(), asked);
            fake.advance(time / 2);
            guards.interrupted(source);
            fake.advance(time / 2);
            assert!(!judge(&mut guards), "it failed half-way");
            fake.advance(time / 2);
            assert!(judge(&mut guards));
            // Refused for another reason, it is held on.
            assert!(guards.says(source).is_some());
            guards.accepted(source, &keys(0..1));
            assert!(guards.held(source).is_none());
        }
    }
}
