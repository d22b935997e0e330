//! Documents on web servers: fetched by `GET`, revalidated, and merged.
//!
//! `load` loads all documents; the engine polls it, so there is no watch. `client` sends the requests, `framing`
//! checks how a response marks its end, and `proxy` reads the proxy of the environment.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::Error;
use crate::format::Format;
use crate::source::{
    Credentials, DEFAULT_POLL, DEFAULT_TIMEOUT, Policy, RemovalGuard, Source, Timing, Watching,
};
use crate::sources::fs::watch::absolute;
use crate::sources::http::load::Memory;
use crate::sources::shared::http_client::url::{Address, shown_invalid};
use crate::sources::shared::tls::{Credential, Files};
use crate::sync::lock::Mutex;
use crate::value::document::Document;
use crate::value::origin::Origin;
use crate::value::secret::Secret;

mod client;
mod framing;
mod load;
mod proxy;

/// How long a connection may take, name resolution and TLS each included.
const CONNECT: Duration = Duration::from_secs(2);

/// How long the response's headers may take.
const RESPONSE: Duration = Duration::from_secs(3);

/// Each poll of this number is unconditional.
const UNCONDITIONAL: u32 = 12;

/// Documents on web servers.
///
/// The source sends a `GET` to each address every 5 seconds, with `If-None-Match` and `If-Modified-Since`
/// where the server sent an entity tag or a date. So an unchanged document costs neither a transfer nor a
/// parse. A 304 may be wrong, so each 12th poll is unconditional. Content decides what changed: the same bytes
/// are never parsed twice, and cause no generation.
///
/// Several addresses make one union: later ones override earlier ones, and a failure of one is a
/// failure of all. The source reads a `file:` address from disk.
///
/// Only a 200 with a complete body is a document. Everything else is an error: any other status, a body that
/// is cut off, over 10 MiB (unpacked, where it is gzip) or of unknown length, a web page, a late answer. The
/// values stay as they are, and the source's health shows the error. A body is complete if its length is that
/// of `Content-Length`, or if `Transfer-Encoding: chunked` in HTTP/1.1 brings its last chunk. The source rejects
/// a response with both, with another transfer coding, or with neither: a part of a document is often a
/// document too. Have such a server send `Content-Length`, as Python's `http.server` does.
///
/// A response that the client rejects takes at most 20 MiB of memory. A document that its format rejects may
/// take as much as any other ([`Format`]). The removal guard withholds an update that removes most keys; see
/// [`RemovalGuard`]. After a 429 or 5xx with `Retry-After`, in seconds or as a date, the source waits that
/// long, up to [`MAX_RETRY_AFTER`](crate::source::MAX_RETRY_AFTER).
///
/// At most 5 redirects are followed, and only within the scheme, host and port of the address, so
/// credentials never reach another server. With credentials or headers, all addresses must have
/// one origin. Certificates are checked against Mozilla's roots, or those of [`ca`](Http::ca);
/// nothing switches that off.
///
/// The format is the one given by [`format`](Http::format), else the one of the response's
/// `Content-Type`, else that of the path's extension.
///
/// Each poll opens new connections, resolves names, and reads the files of certificates and tokens. Name
/// resolution that timed out continues on a thread until the system's resolver returns.
///
/// In a program that turns on the `gzip` feature of the crate `ureq`, the source rejects an answer that is
/// compressed against its request and has no chunks: the length is no longer known.
///
/// An invalid address or header is no panic but the error of each load.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use liveprops::{Source, Watching, sources::Http};
///
/// let http = Http::new("https://me:hunter2@config.example.com/checkout.toml")
///     .and("https://config.example.com/checkout-eu.toml")
///     .poll(Duration::from_secs(2))
///     .timeout(Duration::from_secs(3));
/// assert_eq!(http.watching(), Watching::Poll(Duration::from_secs(2)));
/// assert_eq!(
///     http.origin().to_string(),
///     "url https://******@config.example.com/checkout.toml, \
///      https://config.example.com/checkout-eu.toml",
/// );
/// ```
pub struct Http {
    targets: Vec<Target>,
    options: Options,
    /// Behind a lock because an abandoned load may still run.
    memory: Mutex<Memory>,
}

/// One document, and its locations, any of which can serve it.
#[derive(Clone)]
struct Target {
    locations: Vec<Location>,
}

/// One address, and its name in messages.
#[derive(Clone)]
struct Location {
    address: Result<Address, &'static str>,
    origin: Origin,
}

#[derive(Clone)]
struct Options {
    format: Option<Format>,
    poll: Duration,
    timeout: Duration,
    connect: Duration,
    response: Duration,
    unconditional: u32,
    proxy: bool,
    bearer: Option<Credential>,
    headers: Vec<(String, Secret<String>)>,
    tls: Files,
    credentials: Credentials,
}

impl Http {
    /// Creates a source over one address: `https:`, `http:` or `file:`. Touches nothing until the
    /// first load.
    pub fn new(url: impl AsRef<str>) -> Self {
        Self::union([url])
    }

    /// Creates a source over several addresses: later ones override earlier ones, and one that
    /// fails fails all.
    ///
    /// # Examples
    ///
    /// ```
    /// use liveprops::{Source, sources::Http};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let at = |name: &str| format!("file://{}/{name}", dir.path().display());
    /// # let text = |qps: u32| format!("ratelimit.qps={qps}\n");
    /// std::fs::write(dir.path().join("app.flat"), text(100)).unwrap();
    /// std::fs::write(dir.path().join("app-eu.flat"), text(500)).unwrap();
    /// # use liveprops::{Document, Error, Format, Origin};
    /// # fn flat(text: &str, origin: &Origin) -> Result<Document, Error> {
    /// #     let mut document = Document::new();
    /// #     let (key, value) = text.trim().split_once('=').unwrap();
    /// #     document.set(key, value.parse::<i64>().unwrap(), origin.at(1, 1))?;
    /// #     Ok(document)
    /// # }
    /// # let format = Format::new("flat", flat);
    /// let http = Http::union([at("app.flat"), at("app-eu.flat")]).format(format);
    /// assert_eq!(http.load()?.get("ratelimit.qps"), Some(&500.into()));
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    pub fn union<U: AsRef<str>>(urls: impl IntoIterator<Item = U>) -> Self {
        Self {
            targets: urls
                .into_iter()
                .map(|url| Target::new(url.as_ref()))
                .collect(),
            options: Options {
                format: None,
                poll: DEFAULT_POLL,
                timeout: DEFAULT_TIMEOUT,
                connect: CONNECT,
                response: RESPONSE,
                unconditional: UNCONDITIONAL,
                proxy: true,
                bearer: None,
                headers: Vec::new(),
                tls: Files::default(),
                credentials: Credentials::new(),
            },
            memory: Mutex::default(),
        }
    }

    /// Adds an address whose document overrides those before it.
    #[must_use]
    pub fn and(mut self, url: impl AsRef<str>) -> Self {
        self.targets.push(Target::new(url.as_ref()));
        self
    }

    /// Adds another address of the document that was added last. When one fails, the source uses the next
    /// within the same time, and keeps it as long as it answers. It sends tokens and headers to all of them.
    ///
    /// ```
    /// use liveprops::sources::Http;
    ///
    /// let http = Http::new("https://a.config.example.com/checkout.toml")
    ///     .or("https://b.config.example.com/checkout.toml")
    ///     .or("https://c.config.example.com/checkout.toml");
    /// ```
    #[must_use]
    pub fn or(mut self, url: impl AsRef<str>) -> Self {
        match self.targets.last_mut() {
            Some(target) => target.locations.push(Location::new(url.as_ref())),
            None => self.targets.push(Target::new(url.as_ref())),
        }
        self
    }

    /// Sets the format of all addresses, regardless of the responses and the paths. A web page is rejected
    /// all the same.
    #[must_use]
    pub fn format(mut self, format: Format) -> Self {
        self.options.format = Some(format);
        self
    }

    /// Sets the pause between two polls. The default is 5 seconds; less than 1 millisecond counts
    /// as that.
    #[must_use]
    pub fn poll(mut self, every: Duration) -> Self {
        self.options.poll = every.max(Duration::from_millis(1));
        self
    }

    /// Sets how long one poll of all addresses may take: resolving, connecting, waiting, redirects
    /// and bodies together. The default is 4 seconds. The source itself stops a twentieth earlier, and
    /// reports what was missing.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// Sets how long resolving a name may take, and after that connecting with TLS. The default is
    /// 2 seconds; the whole stays within [`timeout`](Http::timeout).
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect = timeout.max(Duration::from_millis(1));
        self
    }

    /// Sets how long the headers of a response may take once the request is sent. The default is 3
    /// seconds; the whole stays within [`timeout`](Http::timeout).
    #[must_use]
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.options.response = timeout.max(Duration::from_millis(1));
        self
    }

    /// Makes each `n`th poll unconditional, for servers whose 304 is wrong. The default is 12; 1 makes all
    /// polls unconditional, and 0 counts as 1.
    #[must_use]
    pub fn unconditional_every(mut self, n: u32) -> Self {
        self.options.unconditional = n.max(1);
        self
    }

    /// Sends `Authorization: Bearer` with this token: a `String` or a `Secret<String>`.
    ///
    /// Over `http:` everybody on the network path can read it.
    ///
    /// # Examples
    ///
    /// ```
    /// use liveprops::{Secret, sources::Http};
    ///
    /// let token = Secret::new("hunter2".to_owned());
    /// let http = Http::new("https://config.example.com/app.toml").bearer(token);
    /// assert!(!format!("{http:?}").contains("hunter2"));
    /// ```
    #[must_use]
    pub fn bearer(mut self, token: impl Into<Secret<String>>) -> Self {
        self.options.bearer = Some(Credential::Given(token.into()));
        self
    }

    /// Sends `Authorization: Bearer` with the token in a file, which is read for each poll; white space
    /// around it does not count. A file that is missing or empty is the error of that poll.
    #[must_use]
    pub fn bearer_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.options.bearer = Some(Credential::File(absolute(&path.into())));
        self
    }

    /// Adds a header to each request. Its value is never shown.
    ///
    /// A name or a value that no header may have, such as one with a line break, is the error of each load.
    /// So is a header that the source sets, such as `Host` and `If-None-Match`.
    ///
    /// # Examples
    ///
    /// ```
    /// use liveprops::{Source, sources::Http};
    ///
    /// let http = Http::new("http://127.0.0.1:9/app.toml").header("X-Team", "a\r\nX-Admin: yes");
    /// let error = http.load().unwrap_err();
    /// assert!(error.to_string().contains("`X-Team` cannot be sent"), "{error}");
    /// ```
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let value = Secret::new(value.into());
        self.options.headers.push((name.into(), value));
        self
    }

    /// Trusts the certificates in a PEM file, and no other: Mozilla's roots no longer count. The
    /// file is read for each poll.
    #[must_use]
    pub fn ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.options.tls.ca = Some(absolute(&path.into()));
        self
    }

    /// Presents a client certificate: PEM files of the chain, its own certificate first,
    /// and of the private key. Both are read for each poll; a pair that does not match is the
    /// error of that poll.
    #[must_use]
    pub fn client_certificate(
        mut self,
        chain: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.options.tls.client = Some((absolute(&chain.into()), absolute(&key.into())));
        self
    }

    /// Uses no proxy.
    ///
    /// By default the first of the environment variables `ALL_PROXY`, `HTTPS_PROXY` and
    /// `HTTP_PROXY`, or their lower-case forms, that is not empty names the proxy. All requests use
    /// it by `CONNECT`. The source reads the variables before its first request. An error of such
    /// a request names the proxy and the variable.
    ///
    /// `NO_PROXY` or `no_proxy` lists the hosts without a proxy, separated by commas or white space:
    ///
    /// | entry | is for |
    /// |---|---|
    /// | `*` | all hosts |
    /// | `example.com` | this host and all hosts below it, as curl and Go read it |
    /// | `.example.com`, `*.example.com` | all hosts below it |
    /// | `10.*` | all hosts whose name begins with that |
    /// | `10.1.2.3`, `::1` | this address |
    /// | `10.1.0.0/16`, `fd00::/8` | the addresses of this network; names are not resolved for that |
    /// | `example.com:8080`, `[::1]:8080` | the host on this port only |
    ///
    /// The stores (Consul, etcd, NATS, ZooKeeper) use no proxy.
    #[must_use]
    pub fn without_proxy(mut self) -> Self {
        self.options.proxy = false;
        self
    }
}

impl Target {
    fn new(url: &str) -> Self {
        Self {
            locations: vec![Location::new(url)],
        }
    }

    /// The name of the first location.
    fn origin(&self) -> &Origin {
        &self.locations[0].origin
    }
}

impl Location {
    fn new(url: &str) -> Self {
        let address = Address::parse(url.trim());
        let name = match &address {
            Ok(address) => address.to_string(),
            Err(_) => shown_invalid(url.trim())
                .unwrap_or("an invalid address")
                .to_owned(),
        };
        Self {
            address,
            origin: Origin::new("url", name),
        }
    }
}

impl Clone for Http {
    /// The same addresses and options with a memory of its own.
    fn clone(&self) -> Self {
        Self {
            targets: self.targets.clone(),
            options: self.options.clone(),
            memory: Mutex::default(),
        }
    }
}

impl fmt::Debug for Http {
    /// Shows addresses without their secrets, and no header's value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.options;
        let locations = self.targets.iter().flat_map(|it| &it.locations);
        let names: Vec<_> = locations.map(|it| it.origin.name()).collect();
        let headers: Vec<_> = options.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Http")
            .field("urls", &names)
            .field("format", &options.format)
            .field("poll", &options.poll)
            .field("timeout", &options.timeout)
            .field("headers", &headers)
            .field("bearer", &options.bearer.is_some())
            .field("ca", &options.tls.ca)
            .field("client_certificate", &options.tls.client)
            .field("proxy", &options.proxy)
            .finish_non_exhaustive()
    }
}

impl Source for Http {
    fn origin(&self) -> Origin {
        match self.targets.as_slice() {
            [one] => one.origin().clone(),
            all => {
                let names: Vec<_> = all.iter().map(|it| it.origin().name()).collect();
                Origin::new("url", names.join(", "))
            }
        }
    }

    fn load(&self) -> Result<Document, Error> {
        let credentials = self.credentials();
        let mut document = self
            .load_all()
            .map_err(|error| credentials.mask_error(error))?;
        // The name of a version may contain a credential.
        document.mask(&credentials);
        Ok(document)
    }

    fn watching(&self) -> Watching {
        Watching::Poll(self.options.poll)
    }

    fn timing(&self) -> Timing {
        Timing::new().timeout(self.options.timeout)
    }

    /// Required, and guarded: an expired bucket or a wiped directory looks like a mass removal.
    fn policy(&self) -> Policy {
        Policy::new().guarded(RemovalGuard::new())
    }

    fn credentials(&self) -> Credentials {
        let credentials = &self.options.credentials;
        for location in self.targets.iter().flat_map(|target| &target.locations) {
            if let Some(url) = location.address.as_ref().ok().and_then(Address::web) {
                credentials.add_address(&url.with_secrets());
            }
        }
        credentials.clone()
    }
}
