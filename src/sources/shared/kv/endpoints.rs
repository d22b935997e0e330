//! The servers of a store, any of which can answer.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, ErrorKind};
use crate::source::Credentials;
use crate::sources::shared::kv::locator::{Location, Locator};
use crate::value::origin::Origin;
use crate::value::secret::mask_text;

/// The servers of a store. One of them is the current one, until it fails.
#[derive(Debug)]
pub(crate) struct Endpoints {
    addresses: Addresses,
    /// The number of failures, which selects the current server.
    failures: AtomicUsize,
}

#[derive(Clone)]
enum Addresses {
    List(Vec<String>),
    Locator(Locator),
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(addresses) => {
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
    /// Where a locator found its parts.
    location: Option<Location>,
}

impl Endpoint {
    /// Its name for messages: the address as `mask` shows it, without a password, or the location.
    pub(crate) fn name(&self, mask: impl FnOnce(&str) -> String) -> String {
        match &self.location {
            Some(location) => location.to_string(),
            None => mask(&self.address),
        }
    }
}

/// Adds the source and the server to an error without an origin.
pub(crate) fn named(error: Error, origin: &Origin, server: &str) -> Error {
    match error.origin() {
        None => error.with_source_name(&format!("{origin} at {server}")),
        Some(_) => error,
    }
}

impl Endpoints {
    pub(crate) fn one(address: &str) -> Self {
        Self::of(Addresses::List(vec![address.to_owned()]))
    }

    pub(crate) fn all(addresses: Vec<String>) -> Self {
        Self::of(Addresses::List(addresses))
    }

    pub(crate) fn found_by(locator: Locator) -> Self {
        Self::of(Addresses::Locator(locator))
    }

    fn of(addresses: Addresses) -> Self {
        Self {
            addresses,
            failures: AtomicUsize::new(0),
        }
    }

    /// The number of servers.
    pub(crate) fn count(&self) -> usize {
        match &self.addresses {
            Addresses::List(addresses) => addresses.len(),
            Addresses::Locator(_) => 1,
        }
    }

    /// Adds the secrets of the addresses.
    pub(crate) fn add_credentials(&self, credentials: &Credentials) {
        if let Addresses::List(addresses) = &self.addresses {
            addresses.iter().for_each(|it| credentials.add_address(it));
        }
    }

    /// The current server; a locator looks for it each time.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if there is no address; the errors of [`Locator::find`].
    pub(crate) fn current(&self) -> Result<Endpoint, Error> {
        match &self.addresses {
            Addresses::Locator(locator) => {
                let location = locator.find()?;
                Ok(Endpoint {
                    address: location.url(),
                    location: Some(location),
                })
            }
            Addresses::List(addresses) => {
                // A counter: its order with other memory does not matter.
                let failures = self.failures.load(Ordering::Relaxed);
                let address = addresses.get(failures % addresses.len().max(1)).cloned();
                let none = || {
                    Error::new(
                        ErrorKind::InvalidConfig,
                        "no address was given; set at least one",
                    )
                };
                Ok(Endpoint {
                    address: address.ok_or_else(none)?,
                    location: None,
                })
            }
        }
    }

    /// Records that the current server has failed: the next one becomes current.
    pub(crate) fn next(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls `ask` until it succeeds, at most once for each server. A call that fails has called
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
        Self::of(self.addresses.clone())
    }
}
