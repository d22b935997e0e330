//! The deadlines of a source, and the latency that follows from them.

use std::time::Duration;

use crate::source::Watching;

/// The default limit of one load once the program runs. The first load may take as long as the start
/// waits for it.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(4);

/// Limits the pause that the error of a source [requests](crate::Error::with_retry_after), so that no
/// server silences a program for an hour. The engine adds a random part of the source's interval, at most
/// 5 seconds, so that programs with the same pause do not return at the same time.
/// [`refresh_now`](crate::Properties::refresh_now) ignores the pause.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// The deadlines of a source, and how late a change may be seen.
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
    /// Loads within [`DEFAULT_TIMEOUT`], no debounce, and a watch that may be silent while nothing changes.
    pub fn new() -> Self {
        Self {
            timeout: DEFAULT_TIMEOUT,
            first_load: Duration::ZERO,
            debounce: Duration::ZERO,
            rescan_interval: None,
            heartbeat_timeout: None,
        }
    }

    /// Limits how long one load may take. The engine abandons a load that takes longer, reports it, and
    /// tries again on another thread.
    ///
    /// The first load may take longer where the start waits longer for it:
    /// [`Builder::load_timeout`](crate::Builder::load_timeout), or the time of
    /// [`Policy::optional_after`](crate::Policy::optional_after). A start that retries
    /// ([`Policy::required_within`](crate::Policy::required_within),
    /// [`Policy::wait_forever`](crate::Policy::wait_forever)) gives each attempt this time.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Allows the first load this time at least, however short the start waits. The default is
    /// [`timeout`](Self::timeout).
    ///
    /// It is for a source that itself gives up when its store does not respond, and may take long while it
    /// does: an attempt with progress is not restarted.
    pub fn first_load(mut self, limit: Duration) -> Self {
        self.first_load = limit;
        self
    }

    /// Sets how long, at most, the source waits for a change to be complete before it reports it.
    pub fn debounce(mut self, debounce: Duration) -> Self {
        self.debounce = debounce;
        self
    }

    /// Sets how often a watch looks for changes without an event.
    pub fn rescan_interval(mut self, every: Duration) -> Self {
        self.rescan_interval = Some(every);
        self
    }

    /// Limits how long a watch may make no report to its [`SourceContext`](crate::SourceContext), such as a
    /// heartbeat, before the engine abandons it and begins another.
    pub fn heartbeat_timeout(mut self, limit: Duration) -> Self {
        self.heartbeat_timeout = Some(limit);
        self
    }

    /// How late a change may be seen while the source responds. `None` for a source that delivers no
    /// changes by itself, or whose store reports each.
    ///
    /// Polls begin at whole intervals, so a change that one poll just misses is found one interval later,
    /// however long the response took; only a timeout longer than the interval skips intervals. The first
    /// poll after the start, or after a failure, is spread over an interval. It may come later by the time
    /// that the response before it took.
    pub fn worst_case_latency(&self, watching: Watching) -> Option<Duration> {
        let interval = match watching {
            Watching::Never | Watching::Push => return None,
            Watching::Poll(every) => every.saturating_mul(self.intervals(every)),
            // The changes that a dead watch missed are found at its timeout.
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

    /// The sum in [`worst_case_latency`](Self::worst_case_latency) as text.
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
