//! Heartbeats, which prove that the watch works while it waits for a change.
//!
//! The index of an agent moves with every change of its keys. A heartbeat asks for an index on a connection
//! of its own. If the watch does not deliver that index soon, its connection may be dead: the watch is stale,
//! and reads everything again on a new connection.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use ureq::Agent;

use crate::error::Error;
use crate::source::SourceContext;
use crate::sources::consul::Consul;
use crate::sources::consul::client::{Connection, PING_TIMEOUT, Probe};
use crate::sources::consul::response::Head;
use crate::sources::shared::kv::jittered;
use crate::sync::lock::{Condvar, Mutex};

/// The longest time from one heartbeat to the next; [`jittered`] shortens it by up to a quarter.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(3);

/// How long the watch may take to deliver an index that a heartbeat has seen.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// How long the watch may read, commit and pause before heartbeats stop: a watch that hangs has to be
/// noticed as if there were none.
const MAX_BUSY: Duration = Duration::from_secs(8);

/// After this many heartbeats in a row that had no use of the cheapest probe, the next ones omit it.
const MAX_USELESS: u32 = 2;
/// One of this many heartbeats tries the cheapest probe all the same.
const RETRY_EVERY: u32 = 8;

/// The state that the watch and its heartbeats share.
pub(super) struct WatchState {
    state: Mutex<HeartbeatState>,
    changed: Condvar,
    /// The client of the heartbeats.
    pings: Agent,
}

struct HeartbeatState {
    phase: Phase,
    /// The index of the last read, and whether it found no key.
    index: u64,
    is_empty: bool,
    /// The client of the watch.
    client: Agent,
    /// Why a heartbeat has ended the wait of the watch.
    interrupt: Option<Interrupt>,
    /// The error of the values that the watch has read; the connection works.
    fault: Option<Error>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// The watch waits for an answer.
    Waiting,
    /// The watch reads an answer, commits it, or pauses, since this moment.
    Busy(Instant),
    Ended,
}

/// Why a heartbeat ends the wait of the watch.
pub(super) enum Interrupt {
    /// The watch lacks changes, or may lack them.
    Stale,
    /// The agent did not answer the heartbeat.
    Failed(Error),
}

/// The result of a heartbeat.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Finding {
    /// The watch has all changes, or is about to read them.
    Current,
    Stale,
}

impl WatchState {
    /// The state before the first read, with the clients of the watch and of the heartbeats.
    pub(super) fn new(client: Agent, pings: Agent) -> Self {
        let state = HeartbeatState {
            phase: Phase::Busy(Instant::now()),
            index: 0,
            is_empty: true,
            client,
            interrupt: None,
            fault: None,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            pings,
        }
    }

    fn set_phase(&self, phase: Phase) {
        let mut state = self.state.lock();
        if state.phase != Phase::Ended {
            state.phase = phase;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Records that the watch is about to wait.
    pub(super) fn set_waiting(&self) {
        self.set_phase(Phase::Waiting);
    }

    /// Records that the watch no longer waits.
    pub(super) fn set_busy(&self) {
        self.set_phase(Phase::Busy(Instant::now()));
    }

    /// Records that the watch has read everything up to an index.
    pub(super) fn record_read(&self, index: u64, is_empty: bool, fault: Option<Error>) {
        let mut state = self.state.lock();
        (state.index, state.is_empty, state.fault) = (index, is_empty, fault);
        drop(state);
        self.changed.notify_all();
    }

    /// Takes the reason why a heartbeat has ended the wait of the watch, if one has.
    pub(super) fn take_interrupt(&self) -> Option<Interrupt> {
        self.state.lock().interrupt.take()
    }

    /// Sets the new client of the watch.
    pub(super) fn set_client(&self, client: Agent) {
        let mut state = self.state.lock();
        if state.phase == Phase::Ended {
            // Too late for `end` to see it.
            client.clone().shutdown();
        }
        state.client = client;
    }

    /// Ends the watch and the heartbeats.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.phase = Phase::Ended;
        let client = state.client.clone();
        drop(state);
        self.changed.notify_all();
        client.shutdown();
        self.pings.clone().shutdown();
    }

    /// Waits for the end of the watch, at most this long; returns whether it has ended.
    fn wait_for_end(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        while state.phase != Phase::Ended && Instant::now() < until {
            self.changed.wait_until(&mut state, until);
        }
        state.phase == Phase::Ended
    }

    /// Whether the watch still waits after [`GRACE`] without having read `index`.
    fn is_late(&self, index: u64) -> bool {
        let until = Instant::now() + GRACE;
        let mut state = self.state.lock();
        let is_late = |state: &HeartbeatState| state.phase == Phase::Waiting && state.index < index;
        while is_late(&state) && Instant::now() < until {
            self.changed.wait_until(&mut state, until);
        }
        is_late(&state)
    }

    /// Ends the wait of the watch, but nothing else that it does.
    fn interrupt(&self, interrupt: Interrupt) {
        let mut state = self.state.lock();
        if state.phase != Phase::Waiting {
            return;
        }
        state.interrupt = Some(interrupt);
        let client = state.client.clone();
        drop(state);
        client.shutdown();
    }
}

/// The results of the heartbeats of one watch.
#[derive(Default)]
struct ProbeHistory {
    /// For each probe, the last index at which the watch was known to have all changes.
    current_at: [Option<u64>; 3],
    /// The number of heartbeats in a row that had no use of the cheapest probe.
    useless: u32,
    count: u32,
}

impl ProbeHistory {
    /// The probes of the next heartbeat.
    fn probes(&mut self, is_empty: bool) -> &'static [Probe] {
        const ALL: [Probe; 3] = [Probe::Store, Probe::Siblings, Probe::Exact];
        self.count = self.count.wrapping_add(1);
        if is_empty {
            // A list of no keys costs nothing.
            &ALL[2..]
        } else if self.useless >= MAX_USELESS && self.count % RETRY_EVERY != 0 {
            &ALL[1..]
        } else {
            &ALL
        }
    }

    fn is_known(&self, probe: Probe, index: u64) -> bool {
        self.current_at[probe as usize] == Some(index)
    }

    /// Records the indexes of a heartbeat after which the watch is current.
    fn record(&mut self, seen: &[(Probe, u64)]) {
        for (probe, index) in seen {
            self.current_at[*probe as usize] = Some(*index);
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
    pub(super) fn send_heartbeats(&self, watch: &WatchState, updates: &SourceContext) {
        let mut connection = Connection::of_watch(watch.pings.clone(), updates);
        let mut history = ProbeHistory::default();
        while !watch.wait_for_end(jittered(HEARTBEAT)) {
            match self.heartbeat(&mut connection, &mut history, watch) {
                Ok(Finding::Current) => report_state(watch, updates),
                Ok(Finding::Stale) => watch.interrupt(Interrupt::Stale),
                Err(error) => watch.interrupt(Interrupt::Failed(error)),
            }
        }
    }

    fn heartbeat(
        &self,
        connection: &mut Connection,
        history: &mut ProbeHistory,
        watch: &WatchState,
    ) -> Result<Finding, Error> {
        let deadline = Instant::now() + PING_TIMEOUT;
        let mut seen = Vec::with_capacity(3);
        let is_empty = watch.state.lock().is_empty;
        for probe in history.probes(is_empty) {
            let Some(head) = self.probe(connection, *probe, deadline)? else {
                continue;
            };
            // Somebody has set the key that nobody should set. The answer has the index of that key only.
            if *probe == Probe::Store && !head.is_absent {
                continue;
            }
            seen.push((*probe, head.index));
            if self.is_unchanged(*probe, head, history, watch) {
                history.record(&seen);
                return Ok(Finding::Current);
            }
            if *probe == Probe::Exact {
                let finding = self.compare_index(head, watch);
                // A stale watch reads at least these indexes next.
                history.record(&seen);
                return Ok(finding);
            }
        }
        Ok(Finding::Current)
    }

    /// Whether an index shows that the watch has all changes.
    fn is_unchanged(
        &self,
        probe: Probe,
        head: Head,
        history: &ProbeHistory,
        watch: &WatchState,
    ) -> bool {
        let state = watch.state.lock();
        // An ACL token that loses or gets its rights moves no index, but hides or shows the keys.
        if probe != Probe::Store && head.is_absent != state.is_empty {
            return false;
        }
        let is_absent = probe == Probe::Exact && head.is_absent;
        is_absent || head.index == state.index || history.is_known(probe, head.index)
    }

    /// Compares an index with that of the watch.
    fn compare_index(&self, head: Head, watch: &WatchState) -> Finding {
        let known = watch.state.lock().index;
        let is_stale = match head.index.cmp(&known) {
            // The store is another one, or has forgotten deletions. With stale reads, the server may lag
            // behind.
            Ordering::Less => !self.options.stale,
            Ordering::Equal => true,
            Ordering::Greater => watch.is_late(head.index),
        };
        if is_stale {
            Finding::Stale
        } else {
            Finding::Current
        }
    }
}

/// Sends a heartbeat, or repeats the error of the values that the watch has read.
fn report_state(watch: &WatchState, updates: &SourceContext) {
    let (phase, fault) = {
        let state = watch.state.lock();
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
    fn the_cheapest_probe_is_omitted_while_other_keys_change_and_tried_again_now_and_then() {
        let mut history = ProbeHistory::default();
        let with_store = |history: &mut ProbeHistory| history.probes(false).contains(&Probe::Store);
        for _ in 0..MAX_USELESS {
            assert!(with_store(&mut history));
            history.record(&[(Probe::Store, 1), (Probe::Siblings, 1)]);
        }
        let tried = (0..4 * RETRY_EVERY)
            .filter(|_| with_store(&mut history))
            .count();
        assert_eq!(tried, 4);
        assert_eq!(history.probes(true), [Probe::Exact]);
        history.record(&[(Probe::Store, 2)]);
        assert!(with_store(&mut history));
        assert!(history.is_known(Probe::Store, 2) && history.is_known(Probe::Siblings, 1));
        assert!(!history.is_known(Probe::Store, 1) && !history.is_known(Probe::Exact, 1));
    }

    #[test]
    fn only_a_watch_that_waits_without_the_index_is_late() {
        let agent =
            || crate::sources::shared::http_client::tls::agent(&Default::default()).unwrap();
        let watch = WatchState::new(agent(), agent());
        watch.record_read(5, false, None);
        assert!(!watch.is_late(6), "it is busy");
        watch.set_waiting();
        assert!(!watch.is_late(5));
        assert!(watch.is_late(6));
        watch.interrupt(Interrupt::Stale);
        assert!(matches!(watch.take_interrupt(), Some(Interrupt::Stale)));
        watch.set_busy();
        watch.interrupt(Interrupt::Stale);
        assert!(watch.take_interrupt().is_none());
        assert!(!watch.wait_for_end(Duration::ZERO));
        watch.end();
        watch.set_waiting();
        assert!(watch.wait_for_end(Duration::from_secs(60)));
    }
}
