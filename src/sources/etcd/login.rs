//! How a user is known to the store.

use ureq::http::HeaderValue;

use crate::error::{Error, ErrorKind};
use crate::sources::shared::tls::Credential;

/// What the store says where it checks no user.
pub(super) const OFF: &str = "authentication is not enabled";

#[derive(Clone)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) password: Credential,
}

/// What a log-in has led to. Credentials may be set up before authentication is enabled in the store, and
/// stay while it is disabled.
#[derive(Clone)]
pub(super) enum Login {
    Token(HeaderValue),
    /// The store checks no user: it gives no token, and takes none.
    Off,
}

impl Login {
    pub(super) fn token(&self) -> Option<HeaderValue> {
        match self {
            Self::Token(token) => Some(token.clone()),
            Self::Off => None,
        }
    }

    /// What a program that has set a user should know.
    pub(super) fn warning(&self) -> Option<Error> {
        match self {
            Self::Token(_) => None,
            Self::Off => {
                let detail = "authentication is off in the store, so that it lets anybody read: the user \
                              is not checked until it is enabled";
                Some(Error::new(ErrorKind::InvalidConfig, detail))
            }
        }
    }
}
