//! The servers of a store, of which any will do.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, ErrorKind};
use crate::source::Credentials;
use crate::sources::shared::kv::locator::{Location, Locator};
use crate::value::origin::Origin;
use crate::value::secret::mask_text;

/// The servers of a store, one of which is asked at a time.
#[derive(Debug)]
pub(crate) struct Endpoints {
    given: Given,
    /// Counts those that failed, so that another one is next.
    turn: AtomicUsize,
}

#[derive(Clone)]
enum Given {
    Addresses(Vec<String>),
    Locator(Locator),
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(addresses) => {
                let shown = addresses.iter().map(|it| mask_text(it));
                f.debug_list().entries(shown).finish()
            }
            Self::Locator(locator) => locator.fmt(f),
        }
    }
}

/// A server.
pub(crate) struct Endpoint {
    pub(crate) address: String,
    /// Where its parts were found, if it was looked for.
    found: Option<Location>,
}

impl Endpoint {
    /// Where this is, for a person: as the store shows its address, which may hold a password, or
    /// with where each part was found.
    pub(crate) fn place(&self, shown: impl FnOnce(&str) -> String) -> String {
        match &self.found {
            Some(location) => location.to_string(),
            None => shown(&self.address),
        }
    }
}

/// An error of a server, with where that is.
pub(crate) fn named(error: Error, origin: &Origin, place: &str) -> Error {
    match error.origin() {
        None => error.with_source_name(&format!("{origin} at {place}")),
        Some(_) => error,
    }
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

    /// Adds what is secret in the addresses.
    pub(crate) fn add_credentials(&self, credentials: &Credentials) {
        if let Given::Addresses(addresses) = &self.given {
            addresses.iter().for_each(|it| credentials.add_address(it));
        }
    }

    /// The one whose turn it is, looked for anew.
    ///
    /// # Errors
    ///
    /// If none was given, or none can be found.
    pub(crate) fn current(&self) -> Result<Endpoint, Error> {
        match &self.given {
            Given::Locator(locator) => {
                let location = locator.find()?;
                Ok(Endpoint {
                    address: location.url(),
                    found: Some(location),
                })
            }
            Given::Addresses(addresses) => {
                // A counter: its order with other memory does not matter.
                let turn = self.turn.load(Ordering::Relaxed);
                let address = addresses.get(turn % addresses.len().max(1)).cloned();
                let none = || Error::new(ErrorKind::InvalidConfig, "no address was given");
                Ok(Endpoint {
                    address: address.ok_or_else(none)?,
                    found: None,
                })
            }
        }
    }

    /// The one whose turn it was has failed.
    pub(crate) fn next(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks until one answers, each once at the most; a call that fails has called
    /// [`next`](Self::next).
    #[allow(dead_code)] // by those that block
    pub(crate) fn first<T>(&self, mut ask: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        let mut outcome = ask();
        for _ in 1..self.count() {
            if outcome.is_ok() {
                break;
            }
            outcome = ask();
        }
        outcome
    }
}

impl Clone for Endpoints {
    fn clone(&self) -> Self {
        Self::of(self.given.clone())
    }
}
