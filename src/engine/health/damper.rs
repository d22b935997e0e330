//! Damps the events of a source that alternates between states.
//!
//! An event is reported at once unless two of the same kind and cause were reported less than
//! [`WINDOW`] ago. Then it is suppressed and counted. A state that lasts for [`LASTING`] is reported
//! all the same, unless the events that were reported have announced it. So the reported events show
//! each state that lasts, and a source that alternates costs two events a minute for each cause. Of
//! more than [`MAX_REMEMBERED`] causes, the others count as one cause for each kind, of which only the
//! newest state is reported if it lasts.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::engine::health::SourceEventKind;
use crate::engine::health::event_state::EventState;
use crate::engine::health::events::MAX_EVENTS;
use crate::sorted;

/// In this time at most two events of the same kind and cause are reported at once.
const WINDOW: Duration = Duration::from_secs(60);
/// How long a state must last before its suppressed event is reported.
const LASTING: Duration = Duration::from_secs(5);
/// The most states that are counted one by one: as many as events can wait for a callback.
const MAX_REMEMBERED: usize = MAX_EVENTS;

/// The events of one source that were reported or suppressed.
#[derive(Debug, Default)]
pub(super) struct Damper {
    remembered: HashMap<EventState, Remembered>,
    /// Until when no remembered state leaves the window, if the list is full.
    full_until: Option<Instant>,
    /// The suppressed events, by the state that they are counted as.
    suppressed: HashMap<EventState, Suppressed>,
    /// When the watchdog looks at the suppressed events at the latest.
    watched_until: Option<Instant>,
    /// The bad states that were reported since the source was last well. A state that finds no room counts as
    /// not announced.
    announced: HashSet<EventState>,
}

#[derive(Debug)]
struct Remembered {
    reported: Instant,
    reported_before: Option<Instant>,
    /// How many events like it were suppressed since.
    repeated: u64,
}

#[derive(Debug)]
struct Suppressed {
    state: EventState,
    due: Instant,
}

/// Whether an event is reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// It is reported, and so many like it were not.
    Report(u64),
    /// It is suppressed; the watchdog looks at the suppressed events in time.
    Suppress,
    /// It is suppressed, and the watchdog must be woken.
    SuppressAndWake,
}

impl Remembered {
    /// Whether it was reported as often as the window allows.
    fn is_exhausted(&self, now: Instant) -> bool {
        self.reported_before
            .is_some_and(|before| now.saturating_duration_since(before) < WINDOW)
    }
}

impl Damper {
    /// Decides whether an event is reported now.
    pub(super) fn check(&mut self, kind: &SourceEventKind, now: Instant) -> Verdict {
        if matches!(kind, SourceEventKind::Initialized) {
            // All later events are the first since there are values.
            *self = Self::default();
        }
        let Some(state) = EventState::of(kind) else {
            return Verdict::Report(0);
        };
        let counted = self.counted_as(state, now);
        match self.remembered.get_mut(&counted) {
            Some(known) if known.is_exhausted(now) => {
                known.repeated += 1;
                self.suppress(counted, state, now)
            }
            _ => Verdict::Report(self.announce(state, now)),
        }
    }

    fn suppress(&mut self, counted: EventState, state: EventState, now: Instant) -> Verdict {
        let due = now + LASTING;
        let is_watched =
            !self.suppressed.is_empty() && self.watched_until.is_some_and(|until| until > now);
        self.suppressed.insert(counted, Suppressed { state, due });
        if is_watched {
            return Verdict::Suppress;
        }
        // If no thread can be started now, the next event after this moment tries again.
        self.watched_until = Some(due);
        Verdict::SuppressAndWake
    }

    /// The state that the events of a state are counted as: itself, as long as there is room.
    fn counted_as(&mut self, state: EventState, now: Instant) -> EventState {
        if self.remembered.len() < MAX_REMEMBERED || self.remembered.contains_key(&state) {
            return state;
        }
        // Looks at the list only when there is something to remove.
        if self.full_until.is_none_or(|until| until <= now) {
            let is_recent =
                |known: &Remembered| now.saturating_duration_since(known.reported) < WINDOW;
            self.remembered.retain(|_, known| is_recent(known));
            let oldest = self.remembered.values().map(|known| known.reported).min();
            self.full_until = oldest.map(|oldest| oldest + WINDOW);
        }
        if self.remembered.len() < MAX_REMEMBERED {
            state
        } else {
            state.overflow()
        }
    }

    /// Remembers that an event is reported; returns how many like it were not.
    fn announce(&mut self, state: EventState, now: Instant) -> u64 {
        let counted = self.counted_as(state, now);
        self.suppressed.remove(&counted);
        let reported = Remembered {
            reported: now,
            reported_before: None,
            repeated: 0,
        };
        let repeated = match self.remembered.entry(counted) {
            Entry::Vacant(entry) => {
                entry.insert(reported);
                0
            }
            Entry::Occupied(mut entry) => {
                let before = entry.insert(reported);
                entry.get_mut().reported_before = Some(before.reported);
                before.repeated
            }
        };
        if state.is_well() {
            self.announced.clear();
        } else if self.announced.len() < MAX_REMEMBERED {
            self.announced.insert(state);
        }
        repeated
    }

    /// When the next suppressed event is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.suppressed
            .values()
            .map(|suppressed| suppressed.due)
            .min()
    }

    /// Takes the suppressed events that are due, each with how many others like it were not reported.
    /// `events` makes the events of all states that the source is in.
    pub(super) fn take_due(
        &mut self,
        now: Instant,
        events: impl FnOnce() -> Vec<SourceEventKind>,
    ) -> Vec<(SourceEventKind, u64)> {
        let mut due = Vec::new();
        self.suppressed.retain(|_, suppressed| {
            let is_due = suppressed.due <= now;
            if is_due {
                due.push((suppressed.due, suppressed.state));
            }
            !is_due
        });
        if due.is_empty() {
            return Vec::new();
        }
        sorted::sort_by_key(&mut due, |(due, _)| *due);
        let mut current = HashMap::new();
        for event in events() {
            if let Some(state) = EventState::of(&event) {
                current.entry(state).or_insert(event);
            }
        }
        let mut reported = Vec::new();
        for (_, state) in due {
            let is_new = if state.is_well() {
                !self.announced.is_empty()
            } else {
                !self.announced.contains(&state)
            };
            if let Some(event) = current.remove(&state).filter(|_| is_new) {
                // The event that is reported now was counted when it was suppressed.
                let others = self.announce(state, now).saturating_sub(1);
                reported.push((event, others));
            }
        }
        reported
    }

    /// Counts a state as another one from now on: the text of its cause has changed.
    pub(super) fn rename(&mut self, from: EventState, to: EventState) {
        if from == to {
            return;
        }
        if let Some(moved) = self.remembered.remove(&from) {
            match self.remembered.entry(to) {
                Entry::Vacant(entry) => {
                    entry.insert(moved);
                }
                Entry::Occupied(mut entry) => {
                    let known = entry.get_mut();
                    let reported = [known.reported, moved.reported].into_iter();
                    let before = [known.reported_before, moved.reported_before];
                    let mut reported: Vec<_> =
                        reported.chain(before.into_iter().flatten()).collect();
                    sorted::sort(&mut reported);
                    known.reported_before = reported.iter().rev().nth(1).copied();
                    known.reported = reported.pop().unwrap_or(known.reported);
                    known.repeated += moved.repeated;
                }
            }
        }
        if let Some(suppressed) = self.suppressed.remove(&from) {
            self.suppressed.insert(to, suppressed);
        }
        for suppressed in self.suppressed.values_mut() {
            if suppressed.state == from {
                suppressed.state = to;
            }
        }
        if self.announced.remove(&from) {
            self.announced.insert(to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};

    fn suspended(text: &str) -> SourceEventKind {
        SourceEventKind::Suspended(Error::new(ErrorKind::Unavailable, text))
    }

    fn rejected(text: &str, origin: &str) -> SourceEventKind {
        let error = Error::new(ErrorKind::Malformed, text);
        SourceEventKind::Rejected(error.with_source_name(origin))
    }

    fn is_suppressed(verdict: Verdict) -> bool {
        matches!(verdict, Verdict::Suppress | Verdict::SuppressAndWake)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn two_events_of_each_cause_are_reported_in_a_minute_and_the_others_are_counted() {
        let (mut damper, begin) = (Damper::default(), Instant::now());
        for round in 0..100u32 {
            let now = begin + SECOND / 10 * round;
            for kind in [
                suspended("down at 17:03"),
                rejected("odd", "file a:1:2"),
                rejected("odd", "file b:1:2"),
                SourceEventKind::Reconnected,
            ] {
                let verdict = damper.check(&kind, now);
                if round < 2 {
                    assert_eq!(verdict, Verdict::Report(0), "{kind:?} in round {round}");
                } else {
                    assert!(is_suppressed(verdict), "{kind:?} in round {round}");
                }
            }
        }
        let number = suspended("down at 17:04");
        let now = begin + SECOND * 30;
        assert!(is_suppressed(damper.check(&number, now)));
        assert_eq!(
            damper.check(&suspended("rejected"), now),
            Verdict::Report(0)
        );
        let later = damper.check(&number, begin + SECOND * 61);
        assert_eq!(later, Verdict::Report(99));
    }

    #[test]
    fn the_first_values_begin_a_new_count() {
        let (mut damper, now) = (Damper::default(), Instant::now());
        for _ in 0..3 {
            damper.check(&suspended("down"), now);
        }
        assert!(is_suppressed(damper.check(&suspended("down"), now)));
        damper.check(&SourceEventKind::Initialized, now);
        assert_eq!(damper.check(&suspended("down"), now), Verdict::Report(0));
    }

    #[test]
    fn a_change_of_values_is_never_damped() {
        let (mut damper, now) = (Damper::default(), Instant::now());
        for _ in 0..3 {
            let verdict = damper.check(&SourceEventKind::Updated, now);
            assert_eq!(verdict, Verdict::Report(0));
        }
    }

    #[test]
    fn a_state_that_lasts_is_reported_unless_it_was_announced_last() {
        let (mut damper, begin) = (Damper::default(), Instant::now());
        let down = || suspended("down");
        let event_of = |kind: SourceEventKind| move || vec![kind];
        for _ in 0..2 {
            damper.check(&down(), begin);
            damper.check(&SourceEventKind::Reconnected, begin + SECOND);
        }
        // It fails again, which lasts: the newest reported event is another.
        damper.check(&down(), begin + SECOND * 2);
        assert_eq!(damper.next_due(), Some(begin + SECOND * 7));
        let early = damper.take_due(begin + SECOND * 6, event_of(down()));
        assert!(early.is_empty());
        let due = damper.take_due(begin + SECOND * 7, event_of(down()));
        assert!(
            matches!(&due[..], [(SourceEventKind::Suspended(_), 0)]),
            "{due:?}"
        );
        // It is well for a moment and fails again: that was announced.
        damper.check(&SourceEventKind::Reconnected, begin + SECOND * 8);
        damper.check(&down(), begin + SECOND * 9);
        assert!(
            damper
                .take_due(begin + SECOND * 20, event_of(down()))
                .is_empty()
        );
        assert_eq!(damper.next_due(), None);
        // It is well for good.
        damper.check(&SourceEventKind::Reconnected, begin + SECOND * 21);
        let well = || event_of(SourceEventKind::Reconnected);
        let due = damper.take_due(begin + SECOND * 26, well());
        assert!(
            matches!(&due[..], [(SourceEventKind::Reconnected, 1)]),
            "{due:?}"
        );
    }

    /// A cause without a number.
    fn cause_of(number: u32) -> String {
        let digits = number.to_string().into_bytes().into_iter();
        digits
            .map(|digit| char::from(digit - b'0' + b'a'))
            .collect()
    }

    #[test]
    fn a_source_that_alternates_between_many_causes_is_damped_and_its_last_state_is_reported() {
        for (causes, most) in [
            (60, 120),
            (1_000, 2_000),
            (5_000, 2 * MAX_REMEMBERED as u32 + 2),
        ] {
            let (mut damper, begin) = (Damper::default(), Instant::now());
            let (mut reported, mut now) = (0, begin);
            for round in 0..4 {
                now = begin + SECOND / 10 * round;
                for cause in 0..causes {
                    let kind = rejected("odd", &cause_of(cause));
                    reported += u32::from(!is_suppressed(damper.check(&kind, now)));
                }
                damper.check(&SourceEventKind::Recovered, now);
            }
            assert!(
                (120..=most).contains(&reported),
                "{reported} of {causes} causes"
            );
            assert!(damper.remembered.len() <= MAX_REMEMBERED + 6);
            assert!(damper.announced.len() <= MAX_REMEMBERED);
            // The last one lasts.
            let last = rejected("odd", &cause_of(causes - 1));
            assert!(is_suppressed(damper.check(&last, now)));
            let due = damper.take_due(now + LASTING, || vec![last]);
            assert!(
                matches!(&due[..], [(SourceEventKind::Rejected(_), _)]),
                "{due:?}"
            );
        }
    }

    #[test]
    fn a_full_list_makes_room_for_new_causes_after_the_window() {
        let (mut damper, begin) = (Damper::default(), Instant::now());
        for cause in 0..2 * MAX_REMEMBERED as u32 {
            damper.check(&suspended(&cause_of(cause)), begin);
        }
        let new = suspended("new");
        assert!(is_suppressed(damper.check(&new, begin + SECOND * 59)));
        let later = begin + SECOND * 61;
        assert_eq!(damper.check(&new, later), Verdict::Report(0));
        assert_eq!(damper.check(&new, later), Verdict::Report(0));
        assert!(
            is_suppressed(damper.check(&new, later)),
            "it is counted by itself"
        );
    }

    #[test]
    fn the_watchdog_is_woken_for_the_first_suppressed_event_and_again_if_it_did_not_look() {
        let (mut damper, begin) = (Damper::default(), Instant::now());
        let verdicts = (0..100).map(|i| damper.check(&suspended("down"), begin + SECOND / 10 * i));
        let wakes = verdicts.filter(|verdict| *verdict == Verdict::SuppressAndWake);
        assert_eq!(wakes.count(), 2, "once in five seconds");
        let now = begin + SECOND * 16;
        damper.take_due(now, Vec::new);
        assert_eq!(
            damper.check(&suspended("down"), now),
            Verdict::SuppressAndWake
        );
    }

    #[test]
    fn two_reports_of_one_text_and_one_of_another_that_becomes_the_same_fill_the_window() {
        let (mut damper, begin) = (Damper::default(), Instant::now());
        let (first, second) = (suspended("found hunter"), suspended("not shown"));
        let at = |seconds: u32| begin + SECOND * seconds;
        for (kind, seconds) in [(&first, 1), (&second, 9), (&second, 10)] {
            assert_eq!(damper.check(kind, at(seconds)), Verdict::Report(0));
            damper.check(&SourceEventKind::Reconnected, at(seconds));
        }
        let states = [&first, &second].map(|kind| EventState::of(kind).unwrap());
        damper.rename(states[0], states[1]);
        assert!(is_suppressed(damper.check(&second, at(62))));
    }

    #[test]
    fn a_suppressed_event_whose_text_changes_is_reported_if_its_state_lasts() {
        let (mut damper, begin) = (Damper::default(), Instant::now());
        let (from, to) = (suspended("found hunter"), suspended("not shown"));
        for _ in 0..2 {
            damper.check(&from, begin);
            damper.check(&SourceEventKind::Reconnected, begin);
        }
        assert!(is_suppressed(damper.check(&from, begin)));
        let states = [&from, &to].map(|kind| EventState::of(kind).unwrap());
        damper.rename(states[0], states[1]);
        let due = damper.take_due(begin + LASTING, || vec![to.clone()]);
        assert!(
            matches!(&due[..], [(SourceEventKind::Suspended(_), 0)]),
            "{due:?}"
        );
        assert!(
            is_suppressed(damper.check(&to, begin + LASTING)),
            "it is the same cause"
        );
    }
}
