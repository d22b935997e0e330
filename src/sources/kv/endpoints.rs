//! The servers of a store, of which any will do.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, ErrorKind};
use crate::sources::kv::locator::Locator;

/// The servers of a store, one of which is asked at a time.
#[derive(Debug)]
pub(crate) struct Endpoints {
    given: Given,
    /// Counts those that failed, so that another one is next.
    turn: AtomicUsize,
}

#[derive(Clone, Debug)]
enum Given {
    Addresses(Vec<String>),
    Locator(Locator),
}

impl Endpoints {
    pub(crate) fn one(address: &str) -> Self {
        Self::of(Given::Addresses(vec![address.to_owned()]))
    }

    pub(crate) fn all(addresses: Vec<String>) -> Self {
        Self::of(Given::Addresses(addresses))
    }

    pub(crate) fn found_by(locator: Locator) -> Self {
        Self::of(Given::Locator(locator))
    }

    fn of(given: Given) -> Self {
        Self {
            given,
            turn: AtomicUsize::new(0),
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        match &self.given {
            Given::Addresses(addresses) => addresses.len(),
            Given::Locator(_) => 1,
        }
    }

    /// The one whose turn it is, looked for anew.
    ///
    /// # Errors
    ///
    /// If none was given, or none can be found.
    pub(crate) fn current(&self) -> Result<String, Error> {
        match &self.given {
            Given::Locator(locator) => Ok(locator.find()?.url()),
            Given::Addresses(addresses) => {
                // A counter: its order with other memory does not matter.
                let turn = self.turn.load(Ordering::Relaxed);
                let address = addresses.get(turn % addresses.len().max(1)).cloned();
                address.ok_or_else(|| Error::new(ErrorKind::Other, "no address was given"))
            }
        }
    }

    /// The one whose turn it was has failed.
    pub(crate) fn next(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }
}

impl Clone for Endpoints {
    fn clone(&self) -> Self {
        Self::of(self.given.clone())
    }
}
