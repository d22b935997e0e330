//! The login of a user.

use ureq::http::HeaderValue;

use crate::error::{Error, ErrorKind};
use crate::sources::shared::tls::Credential;

/// The message of a store that checks no user.
pub(super) const AUTH_DISABLED: &str = "authentication is not enabled";

#[derive(Clone)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) password: Credential,
}

/// The result of a login. A program may have credentials before authentication is enabled in the store, and
/// while it is disabled.
#[derive(Clone)]
pub(super) enum Login {
    Token(HeaderValue),
    /// The store checks no user: it issues no token and accepts none.
    Disabled,
}

impl Login {
    pub(super) fn token(&self) -> Option<HeaderValue> {
        match self {
            Self::Token(token) => Some(token.clone()),
            Self::Disabled => None,
        }
    }

    /// The warning for a program that has set a user.
    pub(super) fn warning(&self) -> Option<Error> {
        match self {
            Self::Token(_) => None,
            Self::Disabled => {
                let detail = "authentication is off in the store, so that it lets anybody read: the user \
                              is not checked until it is enabled";
                Some(Error::new(ErrorKind::InvalidConfig, detail))
            }
        }
    }
}
