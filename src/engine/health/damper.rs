//! Damps the events of a source that alternates between states.
//!
//! An event is reported at once unless two of the same kind and cause were reported less than
//! [`WINDOW`] ago. Then it is withheld and counted. A state that lasts for [`LASTING`] is reported
//! all the same, unless the events that were reported have announced it. So whoever follows the
//! events knows each state that lasts, and a source that alternates costs two events a minute for
//! each cause.

use std::time::{Duration, Instant};

use crate::engine::health::SourceEventKind;
use crate::error::Error;
use crate::value::unread::without_position;

/// In this time at most two events of the same kind and cause are reported at once.
const WINDOW: Duration = Duration::from_secs(60);
/// How long a state must last before its withheld event is reported.
const LASTING: Duration = Duration::from_secs(5);
/// As many states are remembered; of more, the oldest is forgotten.
const MAX_REMEMBERED: usize = 64;

/// What an event announces; what is wrong has a cause.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum State {
    Reconnected,
    Recovered,
    Suspended(String),
    Rejected(String),
    Stale(String),
    Degraded(String),
}

impl State {
    /// What an event announces; `None` if the event is reported however often it happens.
    fn of(kind: &SourceEventKind) -> Option<Self> {
        match kind {
            SourceEventKind::Reconnected => Some(Self::Reconnected),
            SourceEventKind::Recovered => Some(Self::Recovered),
            SourceEventKind::Suspended(error) => Some(Self::Suspended(cause(error))),
            SourceEventKind::Rejected(error) => Some(Self::Rejected(cause_at_origin(error))),
            SourceEventKind::Stale(error) => Some(Self::Stale(cause(error))),
            SourceEventKind::Degraded(error) => Some(Self::Degraded(cause(error))),
            _ => None,
        }
    }

    fn is_well(&self) -> bool {
        matches!(self, Self::Reconnected | Self::Recovered)
    }
}

/// What distinguishes one cause of a failure from another: a number in a message, such as a time or
/// an address, may differ each time.
pub(super) fn cause(error: &Error) -> String {
    let text = error.to_string();
    let words = text.split(|c: char| !c.is_alphanumeric());
    let words = words.filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
    words.collect::<Vec<_>>().join(" ")
}

/// As [`cause`], but the keys and the origins count as they are, without line and column.
fn cause_at_origin(error: &Error) -> String {
    let mut text = String::new();
    for one in error.iter() {
        let origin = one.origin().map(without_position);
        for part in [one.key(), origin, Some(&cause(one))].into_iter().flatten() {
            text.push_str(part);
            text.push('\n');
        }
    }
    text
}

/// What is known of the events of one source.
#[derive(Debug, Default)]
pub(super) struct Damper {
    remembered: Vec<Remembered>,
    withheld: Vec<Withheld>,
    /// What the reported events add up to: what is wrong since all was well.
    announced: Vec<State>,
}

#[derive(Debug)]
struct Remembered {
    state: State,
    reported: Instant,
    reported_before: Option<Instant>,
    /// How many events like it were withheld since.
    repeated: u64,
}

#[derive(Debug)]
struct Withheld {
    state: State,
    due: Instant,
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// It is reported, and so many like it were not.
    Report(u64),
    Withhold,
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
    pub(super) fn judge(&mut self, kind: &SourceEventKind, now: Instant) -> Verdict {
        if matches!(kind, SourceEventKind::Initialized) {
            // What comes from now on has happened for the first time since there are values.
            *self = Self::default();
        }
        let Some(state) = State::of(kind) else {
            return Verdict::Report(0);
        };
        let known = self.remembered.iter_mut().find(|it| it.state == state);
        match known {
            Some(known) if known.is_exhausted(now) => {
                known.repeated += 1;
                let due = now + LASTING;
                self.withheld.retain(|withheld| withheld.state != state);
                self.withheld.push(Withheld { state, due });
                Verdict::Withhold
            }
            _ => Verdict::Report(self.announce(state, now)),
        }
    }

    /// Remembers that an event is reported; returns how many like it were not.
    fn announce(&mut self, state: State, now: Instant) -> u64 {
        self.withheld.retain(|withheld| withheld.state != state);
        let before = self.remembered.iter().position(|it| it.state == state);
        let before = before.map(|at| self.remembered.remove(at));
        let repeated = before.as_ref().map_or(0, |before| before.repeated);
        let reported = Remembered {
            state: state.clone(),
            reported: now,
            reported_before: before.map(|before| before.reported),
            repeated: 0,
        };
        push_bounded(&mut self.remembered, reported);
        if state.is_well() {
            self.announced.clear();
        } else if !self.announced.contains(&state) {
            push_bounded(&mut self.announced, state);
        }
        repeated
    }

    /// When the next withheld event is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.withheld.iter().map(|withheld| withheld.due).min()
    }

    /// Takes the withheld events that are due, each with how many others like it were not reported.
    /// `event_of` makes the event of a state that has lasted.
    pub(super) fn take_due(
        &mut self,
        now: Instant,
        event_of: impl Fn(&State) -> Option<SourceEventKind>,
    ) -> Vec<(SourceEventKind, u64)> {
        let all = std::mem::take(&mut self.withheld);
        let (due, later): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| it.due <= now);
        self.withheld = later;
        let mut events = Vec::new();
        for Withheld { state, .. } in due {
            let is_news = match state.is_well() {
                true => !self.announced.is_empty(),
                false => !self.announced.contains(&state),
            };
            if let Some(event) = event_of(&state).filter(|_| is_news) {
                // The event that is reported now was counted when it was withheld.
                let others = self.announce(state, now).saturating_sub(1);
                events.push((event, others));
            }
        }
        events
    }
}

fn push_bounded<T>(list: &mut Vec<T>, item: T) {
    if list.len() == MAX_REMEMBERED {
        list.remove(0);
    }
    list.push(item);
}

impl State {
    /// Whether this is the state that an event of this kind would announce.
    pub(super) fn is_of(&self, kind: &SourceEventKind) -> bool {
        Self::of(kind).as_ref() == Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn suspended(text: &str) -> SourceEventKind {
        SourceEventKind::Suspended(Error::new(ErrorKind::Unavailable, text))
    }

    fn rejected(text: &str, origin: &str) -> SourceEventKind {
        let error = Error::new(ErrorKind::Malformed, text);
        SourceEventKind::Rejected(error.with_origin(origin))
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
                let verdict = damper.judge(&kind, now);
                let wanted = match round {
                    0 | 1 => Verdict::Report(0),
                    _ => Verdict::Withhold,
                };
                assert_eq!(verdict, wanted, "{kind:?} in round {round}");
            }
        }
        let number = suspended("down at 17:04");
        let now = begin + SECOND * 30;
        assert_eq!(damper.judge(&number, now), Verdict::Withhold);
        assert_eq!(damper.judge(&suspended("refused"), now), Verdict::Report(0));
        let later = damper.judge(&number, begin + SECOND * 61);
        assert_eq!(later, Verdict::Report(99));
    }

    #[test]
    fn the_first_values_begin_a_new_count() {
        let (mut damper, now) = (Damper::default(), Instant::now());
        for _ in 0..3 {
            damper.judge(&suspended("down"), now);
        }
        assert_eq!(damper.judge(&suspended("down"), now), Verdict::Withhold);
        damper.judge(&SourceEventKind::Initialized, now);
        assert_eq!(damper.judge(&suspended("down"), now), Verdict::Report(0));
    }

    #[test]
    fn a_change_of_values_is_never_damped() {
        let (mut damper, now) = (Damper::default(), Instant::now());
        for _ in 0..3 {
            let verdict = damper.judge(&SourceEventKind::Updated, now);
            assert_eq!(verdict, Verdict::Report(0));
        }
    }

    #[test]
    fn a_state_that_lasts_is_reported_unless_it_was_announced_last() {
        let (mut damper, begin) = (Damper::default(), Instant::now());
        let down = || suspended("down");
        let event_of =
            |kind: SourceEventKind| move |state: &State| state.is_of(&kind).then(|| kind.clone());
        for _ in 0..2 {
            damper.judge(&down(), begin);
            damper.judge(&SourceEventKind::Reconnected, begin + SECOND);
        }
        // It fails again, which lasts: the newest reported event is another.
        damper.judge(&down(), begin + SECOND * 2);
        assert_eq!(damper.next_due(), Some(begin + SECOND * 7));
        let early = damper.take_due(begin + SECOND * 6, event_of(down()));
        assert!(early.is_empty());
        let due = damper.take_due(begin + SECOND * 7, event_of(down()));
        assert!(
            matches!(&due[..], [(SourceEventKind::Suspended(_), 0)]),
            "{due:?}"
        );
        // It is well for a moment and fails again: that was announced.
        damper.judge(&SourceEventKind::Reconnected, begin + SECOND * 8);
        damper.judge(&down(), begin + SECOND * 9);
        assert!(
            damper
                .take_due(begin + SECOND * 20, event_of(down()))
                .is_empty()
        );
        assert_eq!(damper.next_due(), None);
        // It is well for good.
        damper.judge(&SourceEventKind::Reconnected, begin + SECOND * 21);
        let well = || event_of(SourceEventKind::Reconnected);
        let due = damper.take_due(begin + SECOND * 26, well());
        assert!(
            matches!(&due[..], [(SourceEventKind::Reconnected, 1)]),
            "{due:?}"
        );
    }
}
