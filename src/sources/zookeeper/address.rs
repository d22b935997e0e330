//! Where servers of ZooKeeper are, as its own clients take it.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// The port of a server by default.
const PORT: u16 = 2181;

/// One server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Address {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// The path that all others begin with; empty if there is none.
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
    let whole = |server: &str| match server.contains("://") {
        true => format!("{server}{chroot}"),
        false => format!("{scheme}{server}{chroot}"),
    };
    servers.split(',').map(str::trim).map(whole).collect()
}

impl Address {
    /// Parses one server of a list.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        // Not shown: who writes a password here should not read it in a log.
        let bad = |why: &str| {
            let detail = format!("the address is not valid: {why}");
            Error::new(ErrorKind::InvalidConfig, detail)
        };
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "tcp" | "zk" | "zookeeper" | "http" => false,
            "tls" | "ssl" | "zks" | "https" | "tcp+tls" => true,
            _ => return Err(bad("its scheme is not known")),
        };
        let (server, chroot) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (host, port) = match server.strip_prefix('[').and_then(|six| six.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => match server.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (server, None),
            },
        };
        let plain = |c: char| c.is_alphanumeric() || "-._:%".contains(c);
        if host.is_empty() || !host.chars().all(plain) {
            return Err(bad("a host is missing, or is none"));
        }
        let port = match port.filter(|port| !port.is_empty()) {
            None => PORT,
            Some(port) => match port.parse() {
                Ok(port @ 1..) => port,
                _ => return Err(bad("a port is 1 to 65535")),
            },
        };
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
            chroot: chroot.trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}{}", self.host, self.port, self.chroot),
            false => write!(f, "{}:{}{}", self.host, self.port, self.chroot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_as_clients_of_the_store_take_it() {
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
    fn what_is_no_address_is_told_without_showing_it() {
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
            let told = Address::parse(bad).unwrap_err().to_string();
            assert!(!told.contains("s3cret"), "{told}");
        }
    }
}
