//! How long the parts of a source's work may take, and what they add up to.

use std::time::Duration;

use crate::source::Watching;

/// How long one load may take once the program runs, unless the source says otherwise. The first load
/// may take as long as the start waits for it.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(4);

/// The longest that the engine leaves a source alone because its error
/// [says so](crate::Error::with_retry_after): no server silences a program for an hour. A random
/// part of the source's interval, of at most 5 seconds, comes on top, so that not all that were
/// told the same come back at the same time.
/// [`refresh_now`](crate::Properties::refresh_now) asks all the same.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// How long the parts of a source's work may take: what its deadlines are, and how late a change
/// may be seen at the worst.
///
/// ```
/// use std::time::Duration;
/// use liveprops::{Watching, source::Timing};
///
/// let timing = Timing::new().timeout(Duration::from_secs(3));
/// let every = Watching::Poll(Duration::from_secs(5));
/// assert_eq!(timing.worst_case_latency(every), Some(Duration::from_secs(8)));
/// assert_eq!(timing.worst_case_latency(Watching::Never), None);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct Timing {
    timeout: Duration,
    first_load: Duration,
    debounce: Duration,
    rescan_interval: Option<Duration>,
    heartbeat_timeout: Option<Duration>,
}

impl Timing {
    /// Loads within [`DEFAULT_TIMEOUT`], nothing that settles first, and a watch that may be silent
    /// for as long as nothing changes.
    pub fn new() -> Self {
        Self {
            timeout: DEFAULT_TIMEOUT,
            first_load: Duration::ZERO,
            debounce: Duration::ZERO,
            rescan_interval: None,
            heartbeat_timeout: None,
        }
    }

    /// How long one load may take. The engine leaves a load that takes longer to itself, reports
    /// it, and tries again on another thread.
    ///
    /// The first load may take longer where the start waits longer for it:
    /// [`Builder::load_timeout`](crate::Builder::load_timeout), or the time of
    /// [`Policy::optional_after`](crate::Policy::optional_after). A start that goes on asking
    /// ([`Policy::required_within`](crate::Policy::required_within),
    /// [`Policy::wait_forever`](crate::Policy::wait_forever)) gives each attempt this time.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long the first load may take at least, whatever the start waits for. The default is no
    /// more than [`timeout`](Self::timeout).
    ///
    /// For a source that gives up by itself when its store does not answer, and may take long while
    /// it does: an attempt that gets somewhere is not begun anew.
    pub fn first_load(mut self, limit: Duration) -> Self {
        self.first_load = limit;
        self
    }

    /// How long the source waits, at most, for a change to be complete before it tells of it.
    pub fn debounce(mut self, debounce: Duration) -> Self {
        self.debounce = debounce;
        self
    }

    /// How often a watch looks for changes that no event told it of.
    pub fn rescan_interval(mut self, every: Duration) -> Self {
        self.rescan_interval = Some(every);
        self
    }

    /// How long a watch may give no sign of life, by a call of anything that
    /// [`SourceContext`](crate::SourceContext) reports with, before the engine leaves it to itself and begins
    /// another.
    pub fn heartbeat_timeout(mut self, limit: Duration) -> Self {
        self.heartbeat_timeout = Some(limit);
        self
    }

    /// How late a change may be at the worst while the source answers; `None` for a source that
    /// brings no changes of its own accord, or whose store tells of each.
    ///
    /// Polls begin at whole intervals, so a change that one poll just misses is asked for an
    /// interval after that began, however long its answer took; only a timeout longer than the
    /// interval leaves intervals out. The first poll after the start, or after a failure, is spread
    /// over an interval instead and may come later by the time that the answer before it took.
    pub fn worst_case_latency(&self, watching: Watching) -> Option<Duration> {
        let interval = match watching {
            Watching::Never | Watching::Push => return None,
            Watching::Poll(every) => every.saturating_mul(self.intervals(every)),
            // What a dead watch has missed is found when its silence is noticed.
            Watching::Stream => self.rescan_interval.or(self.heartbeat_timeout)?,
        };
        Some(
            interval
                .saturating_add(self.debounce)
                .saturating_add(self.timeout),
        )
    }

    /// How many intervals may pass from the beginning of one poll to that of the next.
    fn intervals(&self, every: Duration) -> u32 {
        let whole = self.timeout.as_nanos().div_ceil(every.as_nanos().max(1));
        u32::try_from(whole).unwrap_or(u32::MAX).max(1)
    }

    /// The terms of [`worst_case_latency`](Self::worst_case_latency), for a person.
    pub(crate) fn arithmetic(&self, watching: Watching) -> String {
        let mut text = match (watching, self.rescan_interval, self.heartbeat_timeout) {
            (Watching::Poll(every), ..) => match self.intervals(every) {
                1 => format!("interval {every:?}"),
                more => format!("interval {every:?} × {more}"),
            },
            (_, Some(interval), _) => format!("rescan interval {interval:?}"),
            (_, None, limit) => format!("heartbeat timeout {:?}", limit.unwrap_or_default()),
        };
        if !self.debounce.is_zero() {
            text.push_str(&format!(" + debounce {:?}", self.debounce));
        }
        text.push_str(&format!(" + timeout {:?}", self.timeout));
        text
    }

    pub(crate) fn load_deadline(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn first_load_deadline(&self) -> Duration {
        self.first_load.max(self.timeout)
    }

    pub(crate) fn longest_silence(&self) -> Option<Duration> {
        self.heartbeat_timeout
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::new()
    }
}
