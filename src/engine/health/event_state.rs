//! The states that events announce, by kind and cause.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::engine::health::SourceEventKind;
use crate::error::Error;
use crate::value::unread::without_position;

/// The state of a source that an event announces.
///
/// The cause is a hash: a text would take memory, and might contain what turns out to be a secret.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct EventState {
    kind: StateKind,
    /// The hash of the cause; `None` stands for all causes that are not counted one by one.
    cause: Option<u64>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum StateKind {
    Reconnected,
    Recovered,
    Suspended,
    Rejected,
    Stale,
    Degraded,
}

impl EventState {
    /// The state that an event announces; `None` if the event is reported however often it happens.
    pub(super) fn of(kind: &SourceEventKind) -> Option<Self> {
        let (kind, cause) = match kind {
            SourceEventKind::Reconnected => (StateKind::Reconnected, None),
            SourceEventKind::Recovered => (StateKind::Recovered, None),
            SourceEventKind::Suspended(error) => (StateKind::Suspended, Some(cause(error))),
            SourceEventKind::Rejected(error) => (StateKind::Rejected, Some(cause_at_origin(error))),
            SourceEventKind::Stale(error) => (StateKind::Stale, Some(cause(error))),
            SourceEventKind::Degraded(error) => (StateKind::Degraded, Some(cause(error))),
            _ => return None,
        };
        let cause = cause.map(|text| {
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            hasher.finish()
        });
        Some(Self { kind, cause })
    }

    /// All causes of the kind that are not counted one by one.
    pub(super) fn overflow(self) -> Self {
        Self {
            cause: None,
            ..self
        }
    }

    pub(super) fn is_well(self) -> bool {
        matches!(self.kind, StateKind::Reconnected | StateKind::Recovered)
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
        let origin = one.origin().map(ToString::to_string);
        let origin = origin.as_deref().map(without_position);
        for part in [one.key_text(), origin, Some(&cause(one))]
            .into_iter()
            .flatten()
        {
            text.push_str(part);
            text.push('\n');
        }
    }
    text
}
