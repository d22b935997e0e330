//! What of an update is not believed at once: that most of a layer's keys are gone.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use crate::engine::clock::Clock;
use crate::engine::health::Held;
use crate::error::{Error, ErrorKind};
use crate::source::Guard;
use crate::tree::diff;
use crate::tree::layer::SourceId;
use crate::value::node::Table;

/// Removals that come within this time count together: a prefix may be wiped key by key.
const WINDOW: Duration = Duration::from_secs(10);

/// The sources whose removals are looked at twice.
#[derive(Debug)]
pub(crate) struct Guards {
    clock: Clock,
    watched: HashMap<SourceId, Watched>,
}

#[derive(Debug)]
struct Watched {
    guard: Guard,
    /// What the layer held when the window began, or when something was first held.
    base: Table,
    since: Instant,
    held: Option<Holding>,
}

/// What a source says that is not in force.
#[derive(Debug)]
struct Holding {
    /// All that it says by now.
    says: Table,
    since: Instant,
    shown: Held,
}

impl Guards {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            watched: HashMap::new(),
        }
    }

    /// Looks after a source from now on.
    pub(crate) fn add(&mut self, source: SourceId, guard: Guard) {
        let watched = Watched {
            guard,
            base: Table::default(),
            since: self.clock.now(),
            held: None,
        };
        self.watched.insert(source, watched);
    }

    pub(crate) fn remove(&mut self, source: SourceId) {
        self.watched.remove(&source);
    }

    /// Whether removals of a source are looked at at all.
    pub(crate) fn watches(&self, source: SourceId) -> bool {
        self.watched.contains_key(&source)
    }

    /// What is held of a source.
    pub(crate) fn held(&self, source: SourceId) -> Option<Held> {
        let held = self.watched.get(&source)?.held.as_ref()?;
        Some(held.shown)
    }

    /// When what is held of a source has been repeated for long enough.
    pub(crate) fn believed_at(&self, source: SourceId) -> Option<Instant> {
        let watched = self.watched.get(&source)?;
        watched
            .held
            .as_ref()?
            .since
            .checked_add(watched.guard.repeated?)
    }

    /// All that a source says, if some of that is held.
    pub(crate) fn says(&self, source: SourceId) -> Option<&Table> {
        Some(&self.watched.get(&source)?.held.as_ref()?.says)
    }

    /// Judges what a layer would become, and holds it if too much would be gone.
    pub(crate) fn judge(
        &mut self,
        source: SourceId,
        now_there: &Table,
        next: &Table,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let Some(watched) = self.watched.get_mut(&source) else {
            return Ok(());
        };
        if watched.held.is_none() && now.saturating_duration_since(watched.since) >= WINDOW {
            (watched.base, watched.since) = (now_there.clone(), now);
        }
        if watched.base.is_empty() {
            (watched.base, watched.since) = (now_there.clone(), now);
        }
        let of = watched.base.leaves();
        let gone = diff::gone(&watched.base, next);
        if !watched.guard.holds(gone, of) {
            return Ok(());
        }
        let since = watched.held.as_ref().map(|held| (held.since, held.shown));
        let (since, shown_since) = match since {
            Some((since, shown)) => (since, shown.since),
            None => (now, SystemTime::now()),
        };
        let repeated = watched.guard.repeated;
        if repeated.is_some_and(|time| now.saturating_duration_since(since) >= time) {
            return Ok(());
        }
        watched.held = Some(Holding {
            says: next.clone(),
            since,
            shown: Held {
                gone,
                of,
                since: shown_since,
            },
        });
        Err(too_much(gone, of))
    }

    /// Whether what a layer would become would be held; changes nothing.
    pub(crate) fn would_hold(
        &self,
        source: SourceId,
        now_there: &Table,
        next: &Table,
    ) -> Result<(), Error> {
        let Some(watched) = self.watched.get(&source) else {
            return Ok(());
        };
        let (gone, of) = (diff::gone(now_there, next), now_there.leaves());
        match watched.guard.holds(gone, of) {
            true => Err(too_much(gone, of)),
            false => Ok(()),
        }
    }

    /// A layer is what its source says.
    pub(crate) fn accepted(&mut self, source: SourceId, now_there: &Table) {
        let now = self.clock.now();
        if let Some(watched) = self.watched.get_mut(&source) {
            if watched.held.take().is_some() || watched.base.is_empty() {
                (watched.base, watched.since) = (now_there.clone(), now);
            }
        }
    }
}

fn too_much(gone: usize, of: usize) -> Error {
    let detail = format!(
        "would take away {gone} of {of} keys; they stay until they come back, or until \
         `Properties::confirm` says that it is meant"
    );
    Error::new(ErrorKind::Held, detail)
}
