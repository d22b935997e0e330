//! Addresses: parsed, compared by origin, and shown without their secrets.

use std::fmt;
use std::path::PathBuf;

use http::Uri;

use crate::error::MASK;
use crate::sources::shared::address::parse_host_and_port;
use crate::value::percent;
use crate::value::secret::{mask_text, parameter_looks_secret};

/// The longest address, in bytes.
const MAX_LENGTH: usize = 8 * 1024;

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

/// An address without its secrets, for messages.
#[cfg(any(feature = "consul", feature = "etcd"))]
pub(crate) fn masked(address: &str) -> String {
    match Url::parse(address) {
        Ok(url) => url.to_string(),
        Err(_) => shown_invalid(address)
            .unwrap_or("an invalid address")
            .to_owned(),
    }
}

/// The part before the path of an address that is not valid, if no part of it may be a password.
pub(crate) fn shown_invalid(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let server = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_plain = |text: &str| {
        let mut bytes = text.bytes();
        bytes.all(|b| b.is_ascii_alphanumeric() || b"+-._[]:".contains(&b))
    };
    // A colon precedes a port, or a password.
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
    /// Parses an address. The error does not quote it.
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
    /// Parses an address by the rules of [`Uri`]. Besides, it has no characters that a browser or a proxy may
    /// read as another address, a host and a port of [`parse_host_and_port`], and no fragment.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let is_unsafe = |b: u8| !b.is_ascii_graphic() || matches!(b, b'\\' | b'"' | b'<' | b'>');
        if text.len() > MAX_LENGTH {
            return Err("longer than 8 KiB");
        }
        if text.bytes().any(is_unsafe) {
            return Err("it holds characters that must be percent-encoded");
        }
        let (scheme, _) = text
            .split_once("://")
            .ok_or("no scheme: begin it with `https://` or `http://`")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("only `https` and `http` are supported"),
        };
        let uri: Uri = text
            .parse()
            .map_err(|_| "the host, the port or the path is not valid")?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let (user_info, server) = match authority.rsplit_once('@') {
            Some((user_info, server)) => (Some(user_info.to_owned()), server),
            None => (None, authority),
        };
        let (host, port) = parse_host_and_port(server)?;
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host
        };
        let query = uri
            .query()
            .map_or_else(String::new, |query| format!("?{query}"));
        Ok(Self {
            secure,
            user_info,
            host: host.to_ascii_lowercase(),
            port: port.unwrap_or(if secure { 443 } else { 80 }),
            path: format!("{}{query}", uri.path()),
        })
    }

    /// The target of a redirect.
    ///
    /// # Errors
    ///
    /// If it is not valid, leads to another origin, or gives up TLS.
    pub(crate) fn redirect(&self, location: &str) -> Result<Self, String> {
        let whole = match location {
            it if it.starts_with("//") => format!("{}:{it}", self.scheme()),
            it if scheme_of(it).is_some() => it.to_owned(),
            it => format!("{}{}", self.origin(), self.resolve(it)),
        };
        let mut next = Self::parse(&whole).map_err(|why| format!("an invalid redirect: {why}"))?;
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

    /// The path of a reference without an origin.
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

    /// Whether it uses TLS.
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

    /// The address of another path, with its query, on the same server.
    #[cfg(any(feature = "consul", feature = "etcd"))]
    pub(crate) fn at(&self, path: &str) -> Self {
        let base = self.bare_path().trim_end_matches('/');
        Self {
            path: format!("{base}{path}"),
            ..self.clone()
        }
    }

    /// The address with its secrets, for the client.
    pub(crate) fn with_secrets(&self) -> String {
        let user_info = match &self.user_info {
            Some(it) => format!("{it}@"),
            None => String::new(),
        };
        let (scheme, server) = (self.scheme(), self.server());
        format!("{scheme}://{user_info}{server}{}", self.path)
    }

    fn origin(&self) -> String {
        format!("{}://{}", self.scheme(), self.server())
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    fn server(&self) -> String {
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
    /// Masks the user, the password, and query parameters that look secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user_info = match self.user_info {
            Some(_) => format!("{MASK}@"),
            None => String::new(),
        };
        let (scheme, server, path) = (self.scheme(), self.server(), self.bare_path());
        f.write_str(&mask_text(&format!("{scheme}://{user_info}{server}{path}")))?;
        let Some((_, query)) = self.path.split_once('?') else {
            return Ok(());
        };
        let mut gap = '?';
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some((name, _)) if parameter_looks_secret(name) => write!(f, "{gap}{name}={MASK}")?,
                // A pair without a name may be a token.
                None if !pair.is_empty() => write!(f, "{gap}{MASK}")?,
                // A pair may hold several: `a=1;sig=S`.
                _ => f.write_str(&mask_text(&format!("{gap}{pair}")))?,
            }
            gap = '&';
        }
        Ok(())
    }
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
    let bytes = percent::decode(path).ok_or("a percent sign that escapes nothing")?;
    let text = String::from_utf8(bytes).map_err(|_| "the path is not UTF-8")?;
    if text.contains('\0') {
        return Err("the path holds a NUL character");
    }
    #[cfg(windows)]
    let text = text.trim_start_matches('/').to_owned();
    Ok(PathBuf::from(text))
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
    fn unsafe_addresses_are_rejected() {
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
            assert!(Address::parse(text).is_err(), "{text:?} was accepted");
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
            assert_eq!(base.redirect(location).unwrap().with_secrets(), wanted);
        }
    }

    #[test]
    fn a_redirect_to_another_origin_is_rejected() {
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
