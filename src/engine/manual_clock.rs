//! A clock that a test moves by hand.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::clock::{Clock, FakeClock};

/// How long [`ManualClock::advance`] waits for a busy thread.
const PATIENCE: Duration = Duration::from_secs(2);

/// A clock that does not move until the test advances it, so that a test of polls, back-off, staleness
/// or the removal guard takes milliseconds.
///
/// Give it to [`Builder::manual_clock`](crate::Builder::manual_clock). These go by it: polls and
/// their pauses, the deadlines of sources, back-off, [`SourceContext::wait`](crate::SourceContext::wait),
/// [`Policy::max_stale`](crate::Policy::max_stale), the removal guard, and the damping of events.
/// These do not: file events and their debouncing, timeouts of network clients, waits of callers such
/// as [`Properties::wait_for`](crate::Properties::wait_for), and the times that health shows.
///
/// While the clock does not move, no deadline passes: a source that hangs in its first load keeps
/// [`build`](crate::Builder::build) waiting until another thread advances the clock.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use liveprops::test_util::ManualClock;
/// use liveprops::{Properties, sources::Env};
///
/// # fn main() -> Result<(), liveprops::Error> {
/// let clock = ManualClock::new();
/// let env = Env::prefix("APP_").vars([("APP_QPS", "100")]).reread(Duration::from_secs(5));
/// let props = Properties::builder().manual_clock(&clock).source(env).build()?;
///
/// let before = props.health().sources[0].last_success;
/// clock.advance(Duration::from_secs(6)); // the variables are read again by now
/// assert!(props.health().sources[0].last_success > before);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    fake: Arc<FakeClock>,
    clock: Clock,
}

impl ManualClock {
    /// Creates a clock that does not move.
    pub fn new() -> Self {
        let (fake, clock) = FakeClock::new();
        Self { fake, clock }
    }

    /// Moves the clock, and waits until the threads of all properties that use it have done what
    /// is due by then.
    ///
    /// `advance` waits at most two seconds for a thread that is busy, as in a call of a source that hangs, and
    /// not at all for the same call again.
    pub fn advance(&self, by: Duration) {
        // A thread that is about to wait counts its pause from the time before.
        self.fake.catch_up_within(PATIENCE);
        self.fake.advance(by);
        self.fake.catch_up_within(PATIENCE);
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock.clone()
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}
