//! The proxy of the environment, and the hosts that are reached without it.

use std::fmt;
use std::net::IpAddr;

use crate::error::{Error, ErrorKind};
use crate::sources::shared::http_client::url::Url;

/// The variables that name a proxy; the first one wins.
const VARIABLES: [&str; 6] = [
    "ALL_PROXY",
    "all_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
];

/// The variables that list the hosts without a proxy; the first one wins.
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The proxy that the environment names.
pub(super) struct Proxy {
    client: ureq::Proxy,
    variable: &'static str,
    exceptions: Vec<Exception>,
    /// The entries of `NO_PROXY` without a known form.
    unknown: Vec<String>,
}

impl Proxy {
    /// Reads the environment.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if a variable names something that is no usable proxy.
    pub(super) fn of_environment() -> Result<Option<Self>, Error> {
        Self::of(&|name| std::env::var(name).ok())
    }

    fn of(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let set = VARIABLES.iter().find_map(|name| {
            let value = variable(name)?;
            (!value.trim().is_empty()).then_some((*name, value))
        });
        let Some((name, value)) = set else {
            return Ok(None);
        };
        // The value may hold a password, so the error does not show it.
        let unusable = |why: &str| {
            let detail = format!(
                "the proxy that `{name}` names cannot be used: {why}; \
                 set it to `http://host:port` or `https://host:port`, or call `without_proxy`"
            );
            Error::new(ErrorKind::InvalidConfig, detail)
        };
        let client = ureq::Proxy::new(value.trim());
        let client = client.map_err(|_| unusable("its address is not valid"))?;
        if !matches!(
            client.protocol(),
            ureq::ProxyProtocol::Http | ureq::ProxyProtocol::Https
        ) {
            return Err(unusable("only proxies by HTTP and HTTPS are supported"));
        }
        let list = EXCEPTIONS.iter().find_map(|name| variable(name));
        let (mut exceptions, mut unknown) = (Vec::new(), Vec::new());
        let list = list.unwrap_or_default();
        for entry in list
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|entry| !entry.is_empty())
        {
            match Exception::parse(entry) {
                Some(exception) => exceptions.push(exception),
                None => unknown.push(entry.to_owned()),
            }
        }
        Ok(Some(Self {
            client,
            variable: name,
            exceptions,
            unknown,
        }))
    }

    /// The proxy for an address, unless that address is an exception.
    pub(super) fn for_url(&self, url: &Url) -> Option<&ureq::Proxy> {
        let is_exception = self
            .exceptions
            .iter()
            .any(|entry| entry.matches(url.host(), url.port()));
        (!is_exception).then_some(&self.client)
    }

    /// Adds the proxy to the error of a request.
    pub(super) fn name_in(&self, error: &Error) -> Error {
        Error::new(error.kind(), format!("{error} ({self})"))
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (self.client.host(), self.client.port());
        let variable = self.variable;
        write!(
            f,
            "through the proxy {host}:{port} that `{variable}` names; hosts in `NO_PROXY` are reached directly"
        )?;
        match self.unknown.as_slice() {
            [] => Ok(()),
            unknown => write!(f, ", where `{}` is of no known form", unknown.join("`, `")),
        }
    }
}

/// One entry of `NO_PROXY`.
#[derive(Debug, Eq, PartialEq)]
struct Exception {
    hosts: Hosts,
    /// The only port that it matches.
    port: Option<u16>,
}

#[derive(Debug, Eq, PartialEq)]
enum Hosts {
    All,
    /// This host and all below it, as curl and Go read such an entry.
    Domain(String),
    EndingWith(String),
    BeginningWith(String),
    Address(IpAddr),
    /// Addresses whose first bits are those of this one.
    Network(IpAddr, u32),
}

impl Exception {
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.to_ascii_lowercase();
        if let Some((address, bits)) = entry.split_once('/') {
            let address: IpAddr = unbracketed(address).parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.parse().ok().filter(|bits| *bits <= most)?;
            let hosts = Hosts::Network(address, bits);
            return Some(Self { hosts, port: None });
        }
        let (host, port) = match entry.rsplit_once(':') {
            // Without brackets, several colons are those of an IPv6 address.
            Some((host, port)) if host.ends_with(']') || !host.contains(':') => {
                (host, Some(port.parse().ok()?))
            }
            _ => (entry.as_str(), None),
        };
        let hosts = match host {
            "*" => Hosts::All,
            host if host.starts_with('*') => Hosts::EndingWith(host[1..].to_owned()),
            host if host.starts_with('.') => Hosts::EndingWith(host.to_owned()),
            host if host.ends_with('*') => Hosts::BeginningWith(host[..host.len() - 1].to_owned()),
            host if host.ends_with('.') => Hosts::BeginningWith(host.to_owned()),
            host => match unbracketed(host).parse() {
                Ok(address) => Hosts::Address(address),
                Err(_) => Hosts::Domain(host.to_owned()),
            },
        };
        Some(Self { hosts, port })
    }

    fn matches(&self, host: &str, port: u16) -> bool {
        if self.port.is_some_and(|only| only != port) {
            return false;
        }
        let address = || unbracketed(host).parse::<IpAddr>().ok();
        match &self.hosts {
            Hosts::All => true,
            Hosts::Domain(name) => host
                .strip_suffix(name.as_str())
                .is_some_and(|below| below.is_empty() || below.ends_with('.')),
            Hosts::EndingWith(end) => host.ends_with(end.as_str()),
            Hosts::BeginningWith(begin) => host.starts_with(begin.as_str()),
            Hosts::Address(only) => address().as_ref() == Some(only),
            Hosts::Network(network, bits) => {
                address().is_some_and(|address| same_network(address, *network, *bits))
            }
        }
    }
}

fn same_network(one: IpAddr, other: IpAddr, bits: u32) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            let differ = one.to_bits() ^ other.to_bits();
            differ.leading_zeros() >= bits
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            let differ = one.to_bits() ^ other.to_bits();
            differ.leading_zeros() >= bits
        }
        _ => false,
    }
}

fn unbracketed(host: &str) -> &str {
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(variables: &[(&str, &str)]) -> Result<Option<Proxy>, Error> {
        Proxy::of(&|name| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn goes_directly(exceptions: &str, url: &str) -> bool {
        let proxy = proxy(&[("HTTP_PROXY", "http://p:1"), ("NO_PROXY", exceptions)]);
        let url = Url::parse(url).unwrap();
        proxy.unwrap().unwrap().for_url(&url).is_none()
    }

    #[test]
    fn each_form_of_an_exception_matches_its_hosts_and_no_others() {
        let cases = [
            ("*", "http://a.b/", "", ""),
            ("a.b", "http://A.b/", "http://xa.b/", "http://a.bc/"),
            ("a.b", "http://x.y.a.b/", "http://b/", ""),
            (".a.b", "http://x.a.b/", "http://a.b/", "http://xa.b/"),
            ("*.a.b", "https://x.y.a.b/", "http://a.b/", ""),
            ("10.*", "http://10.1.2.3/", "http://100.1.2.3/", ""),
            (
                "a.b:8080",
                "http://a.b:8080/",
                "http://a.b/",
                "https://a.b/",
            ),
            ("a.b:443", "https://a.b/", "http://a.b/", ""),
            (".a.b:80", "http://x.a.b/", "https://x.a.b/", ""),
            ("127.0.0.1", "http://127.0.0.1:9/", "http://127.0.0.2/", ""),
            (
                "10.1.0.0/16",
                "http://10.1.255.1/",
                "http://10.2.0.1/",
                "http://a.b/",
            ),
            (
                "10.1.2.3/8",
                "http://10.9.9.9/",
                "http://11.1.2.3/",
                "http://[::1]/",
            ),
            ("0.0.0.0/0", "http://1.2.3.4/", "http://a.b/", ""),
            (
                "fd00::/8",
                "http://[fd12::1]/",
                "http://[fe80::1]/",
                "http://10.0.0.1/",
            ),
            ("::1", "http://[::1]/", "http://[::2]/", ""),
            ("[::1]:8080", "http://[::1]:8080/", "http://[::1]/", ""),
            ("x, a.b \t\nc.d,", "http://c.d/", "http://e.f/", ""),
        ];
        for (exceptions, direct, other, another) in cases {
            assert!(goes_directly(exceptions, direct), "{exceptions} {direct}");
            for other in [other, another].into_iter().filter(|url| !url.is_empty()) {
                assert!(!goes_directly(exceptions, other), "{exceptions} {other}");
            }
        }
    }

    #[test]
    fn an_exception_of_no_known_form_is_named() {
        for entry in ["10.0.0.0/33", "a.b/8", "10.0.0.0/x", "a.b:port"] {
            let variables = [("https_proxy", "p:1"), ("no_proxy", entry)];
            let proxy = proxy(&variables).unwrap().unwrap();
            let named = format!("`{entry}` is of no known form");
            assert!(proxy.to_string().contains(&named), "{proxy}");
        }
    }

    #[test]
    fn the_first_variable_that_is_set_names_the_proxy_and_must_be_usable() {
        let both = [
            ("ALL_PROXY", ""),
            ("HTTPS_PROXY", "one:1"),
            ("HTTP_PROXY", "two:2"),
        ];
        let shown = proxy(&both).unwrap().unwrap().to_string();
        assert!(shown.starts_with("through the proxy one:1 that `HTTPS_PROXY` names"));
        assert!(proxy(&[("NO_PROXY", "*")]).unwrap().is_none());
        for wrong in ["socks5://user:hunter2@p:1", "ftp://hunter2:x@p", "http://"] {
            let error = proxy(&[("HTTP_PROXY", wrong)]).err().unwrap().to_string();
            assert!(
                error.contains("`HTTP_PROXY`") && !error.contains("hunter2"),
                "{error}"
            );
        }
        let secret = proxy(&[("HTTP_PROXY", "http://user:hunter2@p:1")]);
        assert!(!secret.unwrap().unwrap().to_string().contains("hunter2"));
    }
}
