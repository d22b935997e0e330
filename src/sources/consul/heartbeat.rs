//! Heartbeats, which prove that the watch works while it waits for a change.
//!
//! The index of an agent moves with every change of its keys. A heartbeat asks for an index on a connection
//! of its own. An index that the watch does not deliver soon puts the watch in doubt: its connection
//! may be dead. In doubt the watch reads everything again on a new connection.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use ureq::Agent;

use crate::error::Error;
use crate::source::SourceContext;
use crate::sources::consul::Consul;
use crate::sources::consul::answer::Head;
use crate::sources::consul::client::{Link, PING_TIMEOUT, Probe};
use crate::sources::shared::kv::about;
use crate::sync::lock::{Condvar, Mutex};

/// The longest time from one heartbeat to the next; [`about`] takes up to a quarter off.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(3);

/// How long the watch may take to deliver what a heartbeat has seen.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// How long the watch may read, commit and pause before heartbeats stop vouching for it: a watch that
/// hangs has to be noticed as if there were no heartbeats.
const MAX_BUSY: Duration = Duration::from_secs(8);

/// So many heartbeats in a row whose cheapest probe was of no use make the next ones leave it out.
const USELESS: u32 = 2;
/// One heartbeat of so many tries the cheapest probe all the same.
const RETRY: u32 = 8;

/// What the watch and its heartbeats share.
pub(super) struct Pulse {
    state: Mutex<State>,
    changed: Condvar,
    /// The client of the heartbeats.
    pings: Agent,
}

struct State {
    phase: Phase,
    /// The index of the last read, and whether that brought no key.
    index: u64,
    is_empty: bool,
    /// The client of the watch.
    watch: Agent,
    /// Why the watch was ended by a heartbeat.
    verdict: Option<Verdict>,
    /// What is wrong with the values that the watch has read, which is no fault of the connection.
    fault: Option<Error>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// The watch waits for the agent's answer.
    Waiting,
    /// The watch reads an answer, commits it, or pauses, since then.
    Busy(Instant),
    Ended,
}

/// Why a heartbeat ends the watch's wait.
pub(super) enum Verdict {
    /// The index is not the one that the watch has.
    Doubt,
    /// The agent did not answer the heartbeat.
    Failed(Error),
}

/// What a heartbeat shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sign {
    /// The watch has all changes, or is about to read them.
    Healthy,
    Doubt,
}

impl Pulse {
    /// Begins after the first read, with the clients of the watch and of the heartbeats.
    pub(super) fn new(watch: Agent, pings: Agent) -> Self {
        let state = State {
            phase: Phase::Busy(Instant::now()),
            index: 0,
            is_empty: true,
            watch,
            verdict: None,
            fault: None,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            pings,
        }
    }

    fn set(&self, phase: Phase) {
        let mut state = self.state.lock();
        if state.phase != Phase::Ended {
            state.phase = phase;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The watch is about to wait.
    pub(super) fn waits(&self) {
        self.set(Phase::Waiting);
    }

    /// The watch does not wait any more.
    pub(super) fn is_busy(&self) {
        self.set(Phase::Busy(Instant::now()));
    }

    /// The watch has read everything up to an index.
    pub(super) fn has_read(&self, index: u64, is_empty: bool, fault: Option<Error>) {
        let mut state = self.state.lock();
        (state.index, state.is_empty, state.fault) = (index, is_empty, fault);
        drop(state);
        self.changed.notify_all();
    }

    /// Why a heartbeat has ended the watch's wait, if one has; the watch goes on with a new client.
    pub(super) fn take_verdict(&self) -> Option<Verdict> {
        self.state.lock().verdict.take()
    }

    /// The watch uses a new client.
    pub(super) fn renew(&self, watch: Agent) {
        let mut state = self.state.lock();
        if state.phase == Phase::Ended {
            // Too late for `end` to see it.
            watch.clone().shutdown();
        }
        state.watch = watch;
    }

    /// Ends the watch and the heartbeats.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.phase = Phase::Ended;
        let watch = state.watch.clone();
        drop(state);
        self.changed.notify_all();
        watch.shutdown();
        self.pings.clone().shutdown();
    }

    /// Waits for the end, at most this long; says whether it came.
    fn ends_within(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        while state.phase != Phase::Ended && Instant::now() < until {
            self.changed.wait_until(&mut state, until);
        }
        state.phase == Phase::Ended
    }

    /// Whether the watch goes on waiting for [`GRACE`] without an index of at least `index`.
    fn is_late(&self, index: u64) -> bool {
        let until = Instant::now() + GRACE;
        let mut state = self.state.lock();
        let is_late = |state: &State| state.phase == Phase::Waiting && state.index < index;
        while is_late(&state) && Instant::now() < until {
            self.changed.wait_until(&mut state, until);
        }
        is_late(&state)
    }

    /// Ends the watch's wait, and nothing else that the watch does.
    fn interrupt(&self, verdict: Verdict) {
        let mut state = self.state.lock();
        if state.phase != Phase::Waiting {
            return;
        }
        state.verdict = Some(verdict);
        let watch = state.watch.clone();
        drop(state);
        watch.shutdown();
    }
}

/// What the heartbeats of one watch have found so far.
#[derive(Default)]
struct Checked {
    /// For each probe, the last index at which the watch was known to have all changes.
    indexes: [Option<u64>; 3],
    /// How many heartbeats in a row had no use of the cheapest probe.
    useless: u32,
    count: u32,
}

impl Checked {
    /// The probes of the next heartbeat.
    fn probes(&mut self, is_empty: bool) -> &'static [Probe] {
        const ALL: [Probe; 3] = [Probe::Store, Probe::Siblings, Probe::Exact];
        self.count = self.count.wrapping_add(1);
        if is_empty {
            // To list no keys costs nothing.
            &ALL[2..]
        } else if self.useless >= USELESS && self.count % RETRY != 0 {
            &ALL[1..]
        } else {
            &ALL
        }
    }

    fn is_known(&self, probe: Probe, index: u64) -> bool {
        self.indexes[probe as usize] == Some(index)
    }

    /// Remembers the indexes of a heartbeat that settled the question.
    fn remember(&mut self, seen: &[(Probe, u64)]) {
        for (probe, index) in seen {
            self.indexes[*probe as usize] = Some(*index);
        }
        match seen {
            [(Probe::Store, _)] => self.useless = 0,
            [(Probe::Store, _), ..] => self.useless += 1,
            _ => {}
        }
    }
}

impl Consul {
    /// Sends heartbeats until the watch ends.
    pub(super) fn send_heartbeats(&self, pulse: &Pulse, updates: &SourceContext) {
        let mut link = Link::of_watch(pulse.pings.clone(), updates);
        let mut checked = Checked::default();
        while !pulse.ends_within(about(HEARTBEAT)) {
            match self.heartbeat(&mut link, &mut checked, pulse) {
                Ok(Sign::Healthy) => report(pulse, updates),
                Ok(Sign::Doubt) => pulse.interrupt(Verdict::Doubt),
                Err(error) => pulse.interrupt(Verdict::Failed(error)),
            }
        }
    }

    fn heartbeat(
        &self,
        link: &mut Link,
        checked: &mut Checked,
        pulse: &Pulse,
    ) -> Result<Sign, Error> {
        let deadline = Instant::now() + PING_TIMEOUT;
        let mut seen = Vec::with_capacity(3);
        let is_empty = pulse.state.lock().is_empty;
        for probe in checked.probes(is_empty) {
            let Some(head) = self.probe(link, *probe, deadline)? else {
                continue;
            };
            // A key that somebody has set after all has an index of its own.
            if *probe == Probe::Store && !head.is_absent {
                continue;
            }
            seen.push((*probe, head.index));
            if self.is_unchanged(*probe, head, checked, pulse) {
                checked.remember(&seen);
                return Ok(Sign::Healthy);
            }
            if *probe == Probe::Exact {
                let sign = self.judge(head, pulse);
                // What the watch reads in doubt is as new as this.
                checked.remember(&seen);
                return Ok(sign);
            }
        }
        Ok(Sign::Healthy)
    }

    /// Whether an index shows that the watch has all changes.
    fn is_unchanged(&self, probe: Probe, head: Head, checked: &Checked, pulse: &Pulse) -> bool {
        let state = pulse.state.lock();
        // An ACL token that loses or gets its rights moves no index, but hides or shows the keys.
        if probe != Probe::Store && head.is_absent != state.is_empty {
            return false;
        }
        let is_absent = probe == Probe::Exact && head.is_absent;
        is_absent || head.index == state.index || checked.is_known(probe, head.index)
    }

    /// What an index shows that is not the one of the watch.
    fn judge(&self, head: Head, pulse: &Pulse) -> Sign {
        let known = pulse.state.lock().index;
        let is_doubtful = match head.index.cmp(&known) {
            // The store is another one, or has forgotten deletions. Any server may lag behind
            // where a stale one may answer.
            Ordering::Less => !self.options.stale,
            Ordering::Equal => true,
            Ordering::Greater => pulse.is_late(head.index),
        };
        if is_doubtful {
            Sign::Doubt
        } else {
            Sign::Healthy
        }
    }
}

/// Reports that the agent answers, or once more what is wrong with the values that it has.
fn report(pulse: &Pulse, updates: &SourceContext) {
    let (phase, fault) = {
        let state = pulse.state.lock();
        (state.phase, state.fault.clone())
    };
    if matches!(phase, Phase::Busy(since) if since.elapsed() > MAX_BUSY) {
        return;
    }
    match fault {
        Some(fault) => updates.report_error(fault),
        None => updates.heartbeat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_probe_is_left_out_while_other_keys_change_and_tried_again_now_and_then() {
        let mut checked = Checked::default();
        let with_store = |checked: &mut Checked| checked.probes(false).contains(&Probe::Store);
        for _ in 0..USELESS {
            assert!(with_store(&mut checked));
            checked.remember(&[(Probe::Store, 1), (Probe::Siblings, 1)]);
        }
        let tried = (0..4 * RETRY).filter(|_| with_store(&mut checked)).count();
        assert_eq!(tried, 4);
        assert_eq!(checked.probes(true), [Probe::Exact]);
        checked.remember(&[(Probe::Store, 2)]);
        assert!(with_store(&mut checked));
        assert!(checked.is_known(Probe::Store, 2) && checked.is_known(Probe::Siblings, 1));
        assert!(!checked.is_known(Probe::Store, 1) && !checked.is_known(Probe::Exact, 1));
    }

    #[test]
    fn only_a_watch_that_waits_without_the_index_is_late() {
        let agent =
            || crate::sources::shared::http_client::tls::agent(&Default::default()).unwrap();
        let pulse = Pulse::new(agent(), agent());
        pulse.has_read(5, false, None);
        assert!(!pulse.is_late(6), "it is busy");
        pulse.waits();
        assert!(!pulse.is_late(5));
        assert!(pulse.is_late(6));
        pulse.interrupt(Verdict::Doubt);
        assert!(matches!(pulse.take_verdict(), Some(Verdict::Doubt)));
        pulse.is_busy();
        pulse.interrupt(Verdict::Doubt);
        assert!(pulse.take_verdict().is_none());
        assert!(!pulse.ends_within(Duration::ZERO));
        pulse.end();
        pulse.waits();
        assert!(pulse.ends_within(Duration::from_secs(60)));
    }
}
