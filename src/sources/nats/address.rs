//! The address of a server.
//!
//! A password stays out of an [`Address`] and of every error.

use crate::error::{Error, ErrorKind};
use crate::sources::nats::login::Login;
use crate::sources::shared::address::parse_host_and_port;

const DEFAULT_PORT: u16 = 4222;

/// Where a server is.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Address {
    /// Whether the server has to speak TLS.
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    /// Parses an address, and the login before its `@`. The scheme `nats` may be missing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if it is not valid. The error quotes only a scheme, because the rest may hold a
    /// password.
    pub(super) fn parse(text: &str) -> Result<(Self, Option<Login>), Error> {
        let invalid = |why: &str| {
            let detail = format!("invalid address: {why}");
            Error::new(ErrorKind::InvalidConfig, detail)
        };
        let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "nats" | "http" => false,
            "tls" | "https" => true,
            other if !other.is_empty() && other.chars().all(|c| c.is_ascii_alphanumeric()) => {
                return Err(invalid(&format!(
                    "its scheme is `{scheme}`, not `nats` or `tls`"
                )));
            }
            // The text before `://` may be a part of a login, so the message does not show it.
            _ => return Err(invalid("its scheme is empty or invalid")),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user_info, server) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (host, port) = parse_host_and_port(server).map_err(invalid)?;
        let login = match user_info {
            "" => None,
            user_info => Some(Login::of_user_info(user_info).ok_or_else(|| {
                invalid(
                    "the user and password before the `@` have a `%` without two hexadecimal digits, or are not UTF-8",
                )
            })?),
        };
        let port = port.unwrap_or(DEFAULT_PORT);
        Ok((Self { tls, host, port }, login))
    }
}

/// An address without the login, for messages.
pub(super) fn without_login(address: &str) -> String {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), address),
    };
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.contains('@') {
        host.to_owned()
    } else {
        format!("{scheme}{host}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_login() {
        assert!(!without_login("s3cret@h://x").contains("s3cret"));
        assert_eq!(without_login("tls://me:pw@h:1"), "tls://h:1");
        assert_eq!(without_login("nats://t0ken@h"), "nats://h");
    }

    #[test]
    fn an_address_asks_for_tls_or_does_not_and_other_schemes_are_rejected() {
        let all = [
            ("h:1", false, "h", 1),
            ("nats://h", false, "h", 4222),
            ("NATS://h/", false, "h", 4222),
            ("http://h:1", false, "h", 1),
            ("tls://me:pw@h", true, "h", 4222),
            ("TLS://[::1]:7", true, "::1", 7),
            ("Https://h?x", true, "h", 4222),
        ];
        for (given, tls, host, port) in all {
            let host = host.to_owned();
            let (address, _) = Address::parse(given).unwrap();
            assert_eq!(address, Address { tls, host, port }, "{given}");
        }
        for wrong in [
            "wss://s3cret@h",
            "WS://h",
            "://h",
            "w\tss://h",
            "s3cret@h://h",
            "me:s3cret@",
            "nats://me:s3cret@h:0",
            "nats://me:s3cret@h:x",
            "nats://me:s3cret@a b",
            "nats://me:%ff@h",
            "nats://me:s3cret%+1@h",
        ] {
            let error = Address::parse(wrong).err().unwrap().to_string();
            assert!(error.contains("invalid address"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        let error = Address::parse("wss://h").err().unwrap().to_string();
        assert!(error.contains("`wss`"), "{error}");
    }
}
