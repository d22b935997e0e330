//! Addresses of servers, in the form of ZooKeeper's own clients.

use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::sources::shared::address::parse_host_and_port;

const DEFAULT_PORT: u16 = 2181;

/// One server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Address {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// The prefix of all paths; empty if there is none.
    pub(super) chroot: String,
}

/// The servers of a list: `tls://a,b/chroot` is `tls://a/chroot` and `tls://b/chroot`.
pub(super) fn split(list: &str) -> Vec<String> {
    let scheme_ends = list.rfind("://").map_or(0, |at| at + 3);
    let (servers, chroot) = match list[scheme_ends..].find('/') {
        Some(at) => list.split_at(scheme_ends + at),
        None => (list, ""),
    };
    let scheme = match servers
        .split(',')
        .next()
        .and_then(|one| one.split_once("://"))
    {
        Some((scheme, _)) => format!("{}://", scheme.trim()),
        None => String::new(),
    };
    let complete = |server: &str| {
        let scheme = if server.contains("://") { "" } else { &scheme };
        format!("{scheme}{server}{chroot}")
    };
    servers.split(',').map(str::trim).map(complete).collect()
}

impl Address {
    /// Parses one server of a list.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        // The error does not quote the address, which may hold a password by mistake.
        let invalid = |why: &str| {
            let detail = format!("invalid address: {why}");
            Error::new(ErrorKind::InvalidConfig, detail)
        };
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "tcp" | "zk" | "zookeeper" | "http" => false,
            "tls" | "ssl" | "zks" | "https" | "tcp+tls" => true,
            _ => return Err(invalid("unknown scheme, expected `tcp` or `tls`")),
        };
        let (server, chroot) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (host, port) = parse_host_and_port(server).map_err(invalid)?;
        Ok(Self {
            tls,
            host,
            port: port.unwrap_or(DEFAULT_PORT),
            chroot: chroot.trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host, port, chroot, ..
        } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}{chroot}")
        } else {
            write!(f, "{host}:{port}{chroot}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_the_form_of_the_clients_of_the_store() {
        let shown = |list: &str| -> Vec<String> {
            let parsed = split(list).into_iter().map(|one| Address::parse(&one));
            parsed.map(|one| one.unwrap().to_string()).collect()
        };
        assert_eq!(shown("zk1"), ["zk1:2181"]);
        assert_eq!(shown("a:1, b/c/d/"), ["a:1/c/d", "b:2181/c/d"]);
        assert_eq!(shown("[::1]:7,[::2]"), ["[::1]:7", "[::2]:2181"]);
        assert_eq!(shown("tls://a:1,tls://b:2/c"), ["a:1/c", "b:2/c"]);
        assert_eq!(shown("http://localhost:2181/"), ["localhost:2181"]);
        let all = split("tls://a:1,b/c");
        assert!(all.iter().all(|one| Address::parse(one).unwrap().tls));
        assert_eq!(shown("tls://a:1,b/c"), ["a:1/c", "b:2181/c"]);
    }

    #[test]
    fn an_invalid_address_is_not_shown_by_its_error() {
        for bad in [
            "",
            "a:0",
            "a:x",
            "a:70000",
            "ftp://a",
            ":1",
            "me:s3cret@a",
            "a b",
        ] {
            let error = Address::parse(bad).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
