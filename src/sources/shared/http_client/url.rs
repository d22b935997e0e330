//! Addresses: taken apart, compared by origin, and shown without what may be secret.

use std::fmt;
use std::path::PathBuf;

use crate::error::MASK;
use crate::value::secret::{mask_text, parameter_looks_secret};

/// The longest address, in bytes.
const LONGEST: usize = 8 * 1024;

/// The address of one document.
#[derive(Clone, Eq, PartialEq)]
pub(crate) enum Address {
    Web(Url),
    File(PathBuf),
}

/// An `http` or `https` address.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Url {
    secure: bool,
    /// User and password, as they were written.
    user_info: Option<String>,
    /// In lower case; an IPv6 address in its brackets.
    host: String,
    port: u16,
    /// Begins with a slash; with the query, without the fragment.
    path: String,
}

/// An address that cannot be taken apart, up to its path, if no part of it may be a password.
pub(crate) fn shown_invalid(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let server = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_plain = |text: &str| {
        let mut bytes = text.bytes();
        bytes.all(|b| b.is_ascii_alphanumeric() || b"+-._[]:".contains(&b))
    };
    // Behind a colon stands a port, or a password.
    let is_port = |port: &str| port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    let is_server = match server.rsplit_once(':') {
        Some((host, port)) => is_port(port) && (!host.contains(':') || host.starts_with('[')),
        None => true,
    };
    let is_short = text.len() <= 256;
    let end = text.len() - rest.len() + server.len();
    (is_short && is_plain(scheme) && is_plain(server) && is_server && !text.contains('@'))
        .then(|| &text[..end])
        .filter(|shown| !shown.is_empty())
}

impl Address {
    /// Takes an address apart. The error says what is wrong with it, and quotes nothing of it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err("no scheme: begin it with `https://`, `http://` or `file:`");
        };
        match scheme.to_ascii_lowercase().as_str() {
            "file" => file(rest).map(Address::File),
            "https" | "http" => Url::parse(text).map(Address::Web),
            _ => Err("only `https`, `http` and `file` are supported"),
        }
    }

    /// The path whose extension may name the format.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Address::Web(url) => url.bare_path().into(),
            Address::File(path) => path.clone(),
        }
    }

    pub(crate) fn web(&self) -> Option<&Url> {
        match self {
            Address::Web(url) => Some(url),
            Address::File(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Web(url) => url.fmt(f),
            Address::File(path) => write!(f, "file://{}", path.display()),
        }
    }
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let strange = |b: u8| !b.is_ascii_graphic() || matches!(b, b'\\' | b'"' | b'<' | b'>');
        if text.len() > LONGEST {
            return Err("longer than 8 KiB");
        }
        if text.bytes().any(strange) {
            return Err("it holds characters that must be percent-encoded");
        }
        let (scheme, rest) = text
            .split_once("://")
            .ok_or("no scheme: begin it with `https://` or `http://`")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("only `https` and `http` are supported"),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user_info, place) = match authority.rsplit_once('@') {
            Some((user_info, place)) => (Some(user_info.to_owned()), place),
            None => (None, authority),
        };
        let (host, port) = match place.rfind(':') {
            // A colon inside the brackets of an IPv6 address is no port.
            Some(at) if !place[at..].contains(']') => (&place[..at], Some(&place[at + 1..])),
            _ => (place, None),
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        let inner = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let valid = match inner {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(plain),
        };
        if !valid {
            return Err("the host is not valid");
        }
        let port = match port {
            None | Some("") if secure => 443,
            None | Some("") => 80,
            Some(port) => port.parse().unwrap_or(0),
        };
        if port == 0 {
            return Err("the port is not a number from 1 to 65535");
        }
        let path = path.split('#').next().unwrap_or_default();
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            secure,
            user_info,
            host: host.to_ascii_lowercase(),
            port,
            path: format!("{slash}{path}"),
        })
    }

    /// Where a redirect from here leads; what is wrong with it if it may not be followed.
    pub(crate) fn redirect(&self, location: &str) -> Result<Self, String> {
        let whole = match location {
            it if it.starts_with("//") => format!("{}:{it}", self.scheme()),
            it if scheme_of(it).is_some() => it.to_owned(),
            it => format!("{}{}", self.origin(), self.resolve(it)),
        };
        let mut next =
            Self::parse(&whole).map_err(|why| format!("a redirect that is not valid: {why}"))?;
        if self.secure && !next.secure {
            return Err(format!(
                "a redirect from https to http, to {}, is not followed",
                next.origin()
            ));
        }
        if !self.same_origin(&next) || next.user_info.is_some() {
            return Err(format!(
                "a redirect to another origin, {}, is not followed; name the final address",
                next.origin()
            ));
        }
        next.user_info.clone_from(&self.user_info);
        Ok(next)
    }

    /// A reference without an origin, as a path.
    fn resolve(&self, reference: &str) -> String {
        let reference = reference.split('#').next().unwrap_or_default();
        let base = self.bare_path();
        if reference.starts_with('/') {
            return reference.to_owned();
        }
        if reference.is_empty() || reference.starts_with('?') {
            return format!("{base}{reference}");
        }
        let (path, query) = match reference.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (reference, String::new()),
        };
        let mut parts: Vec<&str> = base.split('/').skip(1).collect();
        parts.pop();
        for part in path.split('/') {
            match part {
                "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        format!("/{}{query}", parts.join("/"))
    }

    /// Whether both are of one scheme, host and port.
    pub(crate) fn same_origin(&self, other: &Self) -> bool {
        self.secure == other.secure && self.host == other.host && self.port == other.port
    }

    /// Whether it is by TLS.
    #[cfg(any(feature = "consul", feature = "etcd"))]
    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether the path goes into an HTTP interface of this version, as in `/v1` or `/v1/kv/app`.
    #[cfg(any(feature = "consul", feature = "etcd"))]
    pub(crate) fn enters_api(&self, version: &str) -> bool {
        let path = self.bare_path().trim_end_matches('/');
        let begins = path.ends_with(&format!("/{version}"));
        begins || format!("{path}/").contains(&format!("/{version}/kv/"))
    }

    /// The host, of an IPv6 address with its brackets.
    #[cfg(feature = "http")]
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    #[cfg(feature = "http")]
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn has_user_info(&self) -> bool {
        self.user_info.is_some()
    }

    /// Another place on the same server, with its query.
    #[cfg(any(feature = "consul", feature = "etcd"))]
    pub(crate) fn at(&self, path: &str) -> Self {
        let base = self.bare_path().trim_end_matches('/');
        Self {
            path: format!("{base}{path}"),
            ..self.clone()
        }
    }

    /// The address as it goes to the client, secrets and all.
    pub(crate) fn whole(&self) -> String {
        let user_info = match &self.user_info {
            Some(it) => format!("{it}@"),
            None => String::new(),
        };
        let (scheme, place) = (self.scheme(), self.place());
        format!("{scheme}://{user_info}{place}{}", self.path)
    }

    fn origin(&self) -> String {
        format!("{}://{}", self.scheme(), self.place())
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    fn place(&self) -> String {
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    fn bare_path(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }
}

impl fmt::Display for Url {
    /// Without user and password, and without the values of query parameters that look secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user_info = match self.user_info {
            Some(_) => format!("{MASK}@"),
            None => String::new(),
        };
        let (scheme, place, path) = (self.scheme(), self.place(), self.bare_path());
        f.write_str(&mask_text(&format!("{scheme}://{user_info}{place}{path}")))?;
        let Some((_, query)) = self.path.split_once('?') else {
            return Ok(());
        };
        let mut gap = '?';
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some((name, _)) if parameter_looks_secret(name) => write!(f, "{gap}{name}={MASK}")?,
                // Without a name, it may be a token itself.
                None if !pair.is_empty() => write!(f, "{gap}{MASK}")?,
                // Several may stand in it: `a=1;sig=S`.
                _ => f.write_str(&mask_text(&format!("{gap}{pair}")))?,
            }
            gap = '&';
        }
        Ok(())
    }
}

/// A part of a path or of a query with what has a meaning there escaped.
#[cfg(feature = "consul")]
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => escaped.push(char::from(byte)),
            false => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// The scheme that a reference begins with, if it does.
fn scheme_of(reference: &str) -> Option<&str> {
    let end = reference.find([':', '/', '?', '#'])?;
    (end > 0 && reference[end..].starts_with(':')).then(|| &reference[..end])
}

/// The path in what follows `file:`.
fn file(rest: &str) -> Result<PathBuf, &'static str> {
    let path = match rest.strip_prefix("//") {
        Some(after) => {
            let end = after
                .find('/')
                .ok_or("no path: write it as `file:///path`")?;
            if !matches!(&after[..end], "" | "localhost") {
                return Err("a file on another host: write it as `file:///path`");
            }
            &after[end..]
        }
        None => rest,
    };
    if !path.starts_with('/') {
        return Err("the path of a `file:` address is absolute: write it as `file:///path`");
    }
    if path.contains(['?', '#']) {
        return Err("a `file:` address has no query and no fragment: percent-encode `?` and `#`");
    }
    let bytes = unescape(path).ok_or("a percent sign that escapes nothing")?;
    let text = String::from_utf8(bytes).map_err(|_| "the path is not UTF-8")?;
    if text.contains('\0') {
        return Err("the path holds a NUL character");
    }
    #[cfg(windows)]
    let text = text.trim_start_matches('/').to_owned();
    Ok(PathBuf::from(text))
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| char::from(b?).to_digit(16);
        let high = digit(rest.next())?;
        let low = digit(rest.next())?;
        bytes.push((high * 16 + low) as u8);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Address::parse(text).unwrap().to_string()
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn secrets_in_an_address_are_never_shown() {
        for (text, wanted) in [
            ("https://me:word@h/a.toml", "https://******@h/a.toml"),
            (
                "http://h?token=abc&env=prod",
                "http://h/?token=******&env=prod",
            ),
            ("http://h/a?abc", "http://h/a?******"),
            (
                "http://h/a?X-Amz-Signature=abc#frag",
                "http://h/a?X-Amz-Signature=******",
            ),
            ("HTTPS://H:443/a", "https://h/a"),
            ("http://[::1]:80/a", "http://[::1]/a"),
            ("http://h/?a=1;sig=s", "http://h/?a=1;sig=******"),
            ("http://h/?sig[]=s&b=2", "http://h/?sig[]=******&b=2"),
            ("http://h/?u[password]=s", "http://h/?u[password]=******"),
            ("http://h/a;sig=s?b=2", "http://h/a;sig=******?b=2"),
            (
                "http://me:pw@h/a;jsessionid=s",
                "http://******@h/a;jsessionid=******",
            ),
            ("http://a@b@h:81", "http://******@h:81/"),
        ] {
            assert_eq!(shown(text), wanted);
        }
    }

    #[test]
    fn addresses_that_could_smuggle_something_are_refused() {
        for text in [
            "app.toml",
            "http:/h",
            "http://",
            "http://h\r\nX: y/",
            "http://h/a b",
            "http://h/\u{e9}",
            "http://h:0/",
            "http://h:99999/",
            "http://h:80:80/",
            "http://[::1/",
            "http://h\\@other/",
            "ftp://h/",
            "file:relative.toml",
            "file://other/etc/app.toml",
            "file:///a%zz",
            "file:///a%00",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn an_invalid_address_is_shown_unless_it_may_hold_a_password() {
        for (text, wanted) in [
            ("htp://127.0.0.1:8500/v1", Some("htp://127.0.0.1:8500")),
            ("localhost:8500", Some("localhost:8500")),
            ("file:///etc", Some("file://")),
            ("ftp://[::1]:21/a", Some("ftp://[::1]:21")),
            ("", None),
            ("me:s3cret", None),
            ("htp://me:s3cret@h", None),
            ("htp://h/a@b", None),
            ("htp://h s3cret", None),
            ("htp://me:12:80", None),
        ] {
            assert_eq!(shown_invalid(text), wanted, "{text}");
        }
    }

    #[test]
    fn file_addresses_are_unescaped() {
        for (text, wanted) in [
            ("file:///etc/app%20one.toml", "/etc/app one.toml"),
            ("file:/etc/app.toml", "/etc/app.toml"),
            ("file://localhost/etc/app.toml", "/etc/app.toml"),
        ] {
            assert_eq!(Address::parse(text).unwrap().path(), PathBuf::from(wanted));
        }
    }

    #[test]
    fn a_redirect_stays_at_its_origin_with_its_credentials() {
        let base = url("https://me:word@h/a/b.toml?x=1");
        for (location, wanted) in [
            ("c.toml", "https://me:word@h/a/c.toml"),
            ("../c.toml?y=a:b", "https://me:word@h/c.toml?y=a:b"),
            ("../../../c", "https://me:word@h/c"),
            ("/c", "https://me:word@h/c"),
            ("?y=2", "https://me:word@h/a/b.toml?y=2"),
            ("//h:443/c", "https://me:word@h/c"),
            ("https://H/c#d", "https://me:word@h/c"),
        ] {
            assert_eq!(base.redirect(location).unwrap().whole(), wanted);
        }
    }

    #[test]
    fn a_redirect_to_another_origin_is_refused() {
        let base = url("https://h/a");
        for location in [
            "http://h/a",
            "https://h:8443/a",
            "https://other/a",
            "//other/a",
            "https://h@other/a",
            "https://u:p@h/a",
            "file:///etc/passwd",
            "https://169.254.169.254/latest",
            "javascript:alert(1)",
            "/a\r\nX: y",
        ] {
            assert!(
                base.redirect(location).is_err(),
                "{location:?} was followed"
            );
        }
    }
}
