//! Documents behind addresses: fetched by `GET`, revalidated, and joined to one.
//!
//! `url` takes addresses apart and shows them, `client` speaks to servers, and here is what the
//! engine sees: what was answered before, which answers are the same, and the union.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind};
use crate::format::Format;
use crate::source::{DEFAULT_POLL, DEFAULT_TIMEOUT, Guard, Policy, Source, Timing, Watching};
use crate::sources::disk::absolute;
use crate::sources::disk::follow::QUIET;
use crate::sources::disk::read::{self, Digest};
use crate::sources::http::client::{Answer, Ask, Fetched, Marks};
use crate::sources::trust::{Credential, Files};
use crate::sources::web::url::Address;
use crate::sources::web::{self, Limits};
use crate::value::document::Document;
use crate::value::origin::Origin;
use crate::value::secret::Secret;

mod client;

/// How long a connection may take, name resolution and TLS each included.
const CONNECT: Duration = Duration::from_secs(2);

/// How long the response's headers may take.
const RESPONSE: Duration = Duration::from_secs(3);

/// Which poll asks for the document whatever the server says.
const UNCONDITIONAL: u32 = 12;

/// How long a `file:` that is being written is waited for.
const SETTLES: Duration = Duration::from_millis(300);

/// Documents on web servers.
///
/// Each address is asked by `GET` every 5 seconds, with `If-None-Match` and `If-Modified-Since`
/// where the server gave an entity tag or a date, so that what has not changed costs neither a
/// transfer nor a parse. As a 304 may lie, each 12th poll asks without condition. Content decides
/// what changed: the same bytes are never parsed twice, and cause no generation.
///
/// Several addresses make one union: later ones override earlier ones, and a failure of one is a
/// failure of all. A `file:` address is read from disk.
///
/// Only a 200 with a complete body is a document. Everything else, any other status, a body that
/// is cut off, over 10 MiB (unpacked, where it is gzip) or of unknown length, a web page, an answer
/// that comes too late, is an error: the values stay as they are and the source's health says why.
/// An update that takes most keys away is held; see [`Guard`]. A server that answers 429 or 5xx
/// with `Retry-After`, in seconds or as a date, is not asked again before that, up to
/// [`MAX_RETRY_AFTER`](crate::source::MAX_RETRY_AFTER).
///
/// At most 5 redirects are followed, and only within the scheme, host and port of the address, so
/// credentials never reach another server. With credentials or headers, all addresses must be of
/// one origin. Certificates are checked against Mozilla's roots, or those of [`ca`](Http::ca);
/// there is no way to switch that off.
///
/// The format is the one given by [`format`](Http::format), else the one of the response's
/// `Content-Type`, else that of the path's extension.
///
/// Connections are not kept: a name is resolved anew, and files of certificates and tokens are read
/// anew, for each poll. Name resolution that is given up goes on by itself on a thread until the
/// system's resolver returns.
///
/// In a program that turns on the `gzip` feature of the crate `ureq`, an answer that is compressed
/// though the source asked for none, and has no chunks, is refused: its length is no longer known.
///
/// A faulty address or header is no panic but the error of each load.
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
    /// Shared with nobody; behind a lock because a load that was left to itself may still run.
    memory: Mutex<Memory>,
}

/// One document, and the places where it is to be had, of which any will do.
#[derive(Clone)]
struct Target(Vec<Place>);

/// One address, and the name it goes by.
#[derive(Clone)]
struct Place {
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
}

/// What was seen so far.
#[derive(Default)]
struct Memory {
    digest: Digest,
    /// How many loads have begun.
    loads: u64,
    /// How many polls have asked with a condition since one that did not.
    conditional: u32,
    /// The newest answer of each address, and the load it is of.
    seen: Vec<Seen>,
    /// The union of the documents of these digests.
    union: Option<(Vec<u64>, Document)>,
    /// The client for the files that it was made of.
    agent: Option<(u64, ureq::Agent)>,
}

#[derive(Clone, Default)]
struct Seen {
    load: u64,
    /// Which of its places answered.
    place: usize,
    marks: Marks,
    /// The digest of what came and the format it was read in, and what that said.
    said: Option<(u64, Result<Document, Error>)>,
    /// Whether compressed answers cannot be trusted to have a length.
    plain: bool,
}

impl Seen {
    /// What a 304 may stand for.
    fn good(&self) -> Option<(u64, Document)> {
        match &self.said {
            Some((digest, Ok(document))) => Some((*digest, document.clone())),
            _ => None,
        }
    }
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

    /// Adds another address of the document that was added last: the next is asked when one fails,
    /// within the same time, and goes on being asked as long as it answers. Tokens and headers are
    /// sent to all of them.
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
            Some(target) => target.0.push(Place::new(url.as_ref())),
            None => self.targets.push(Target::new(url.as_ref())),
        }
        self
    }

    /// Sets the format of all addresses, whatever the responses and the paths say. A web page is
    /// refused all the same.
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
    /// and bodies together. The default is 4 seconds. A twentieth before it is over the source
    /// gives up by itself, to say what was missing.
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

    /// Asks for the documents without condition at each `n`th poll, for servers whose 304 lies. The
    /// default is 12; 1 never asks with a condition, and 0 counts as that.
    #[must_use]
    pub fn unconditional_every(mut self, n: u32) -> Self {
        self.options.unconditional = n.max(1);
        self
    }

    /// Sends `Authorization: Bearer` with this token: a `String` or a `Secret<String>`.
    ///
    /// Over `http:` everybody on the way can read it.
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

    /// Sends `Authorization: Bearer` with the token in a file, read anew for each poll; white space
    /// around it does not count. A file that is missing or empty is the error of that poll.
    #[must_use]
    pub fn bearer_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.options.bearer = Some(Credential::File(absolute(&path.into())));
        self
    }

    /// Adds a header to each request. Its value is never shown.
    ///
    /// A name or a value that no header may have, such as one with a line break, and the headers
    /// that the source sets by itself, such as `Host` and `If-None-Match`, are the error of each
    /// load.
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
    /// file is read anew for each poll.
    #[must_use]
    pub fn ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.options.tls.ca = Some(absolute(&path.into()));
        self
    }

    /// Shows the server a client certificate: PEM files of the chain, its own certificate first,
    /// and of the private key. Both are read anew for each poll; a pair that does not match is the
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

    /// Goes through no proxy. By default the first valid one of the environment variables
    /// `ALL_PROXY`, `HTTPS_PROXY` and `HTTP_PROXY`, or their lower-case forms, is used for all
    /// requests by `CONNECT`, except to hosts in `NO_PROXY`. They are read when the source first
    /// asks.
    #[must_use]
    pub fn without_proxy(mut self) -> Self {
        self.options.proxy = false;
        self
    }

    /// What can be wrong with the source whatever the servers say; whether it asks any.
    fn check(&self) -> Result<bool, Error> {
        let wrong = |detail: String, origin: &Origin| {
            Error::new(ErrorKind::Other, detail).with_origin(origin)
        };
        let mut all = Vec::new();
        for place in self.targets.iter().flat_map(|target| &target.0) {
            match &place.address {
                Ok(address) => all.push(address),
                Err(why) => {
                    let detail = format!("the address is not valid: {why}");
                    return Err(wrong(detail, &place.origin));
                }
            }
        }
        if all.is_empty() {
            return Err(wrong("no address was given".to_owned(), &self.origin()));
        }
        let web: Vec<_> = all.iter().filter_map(|it| it.web()).collect();
        let named = |(name, _): &(String, _)| name.eq_ignore_ascii_case("authorization");
        let ways = [
            web.iter().any(|url| url.has_user_info()),
            self.options.bearer.is_some(),
            self.options.headers.iter().any(named),
        ];
        if ways.into_iter().filter(|way| *way).count() > 1 {
            let detail = "a user in the address, a bearer token and an `Authorization` header \
                          exclude each other";
            return Err(wrong(detail.to_owned(), &self.origin()));
        }
        let sends = self.options.bearer.is_some()
            || !self.options.headers.is_empty()
            || self.options.tls.client.is_some();
        // Other places of one document are there for what goes to the first.
        let first = self
            .targets
            .iter()
            .filter_map(|target| target.0[0].address.as_ref().ok());
        let first: Vec<_> = first.filter_map(Address::web).collect();
        if sends && first.windows(2).any(|two| !two[0].same_origin(two[1])) {
            let detail = "credentials and headers would go to servers of several origins: \
                          make a source for each";
            return Err(wrong(detail.to_owned(), &self.origin()));
        }
        Ok(!web.is_empty())
    }

    /// The headers of each request.
    fn headers(&self) -> Result<Vec<web::Header>, Error> {
        let mut headers = Vec::new();
        if let Some(token) = &self.options.bearer {
            let token = token.read("the file of the bearer token")?;
            let token = token.trim();
            if token.is_empty() {
                return Err(Error::new(ErrorKind::Other, "the bearer token is empty"));
            }
            headers.push(web::header("authorization", &format!("Bearer {token}"))?);
        }
        for (name, value) in &self.options.headers {
            headers.push(web::header(name, value.expose())?);
        }
        Ok(headers)
    }

    /// The client, made anew when a file it was made of has changed.
    fn agent(&self) -> Result<ureq::Agent, Error> {
        let pems = self.options.tls.read()?;
        let digest = self.memory.lock().digest.of(&pems);
        if let Some((made_of, agent)) = &self.memory.lock().agent {
            if *made_of == digest {
                return Ok(agent.clone());
            }
        }
        let agent = web::agent(web::tls::config(&pems)?, self.options.proxy, 0);
        self.memory.lock().agent = Some((digest, agent.clone()));
        Ok(agent)
    }

    /// What a document is now, from the first of its places that answers.
    fn find(&self, target: &Target, before: &Seen, round: &Round) -> Result<Seen, Error> {
        let mut errors = Vec::new();
        for turn in 0..target.0.len() {
            let at = (before.place + turn) % target.0.len();
            let place = &target.0[at];
            let Ok(address) = &place.address else {
                continue;
            };
            // Another server's marks mean nothing here, and each gets its part of the time.
            let mut before = before.clone();
            if at != before.place {
                (before.marks, before.plain) = (Marks::default(), false);
            }
            let left = round
                .limits
                .deadline
                .saturating_duration_since(Instant::now());
            let others = u32::try_from(target.0.len() - turn).unwrap_or(u32::MAX);
            let round = Round {
                limits: Limits {
                    deadline: Instant::now() + left / others,
                    ..round.limits
                },
                headers: round.headers.clone(),
                agent: round.agent.clone(),
                conditional: round.conditional,
            };
            match self.look(address, &place.origin, &before, &round) {
                Ok(mut seen) => {
                    seen.place = at;
                    if let Some((_, Err(error))) = &mut seen.said {
                        *error = named(error.clone(), &place.origin);
                    }
                    return Ok(seen);
                }
                Err(error) => errors.push(named(error, &place.origin)),
            }
        }
        Err(Error::all(errors))
    }

    /// What one address says now.
    fn look(
        &self,
        address: &Address,
        origin: &Origin,
        before: &Seen,
        round: &Round,
    ) -> Result<Seen, Error> {
        let fetched = match address {
            Address::File(path) => read_file(path, round.limits)?,
            Address::Web(url) => {
                let marks = (round.conditional && before.good().is_some())
                    .then_some(&before.marks)
                    .filter(|marks| !marks.is_empty());
                let mut ask = Ask {
                    url,
                    headers: &round.headers,
                    marks,
                    compressed: !before.plain,
                    limits: round.limits,
                };
                let Some(agent) = &round.agent else {
                    return Err(Error::new(ErrorKind::Other, "there is no client"));
                };
                let mut answer = client::fetch(agent, &ask)?;
                if matches!(answer, Answer::Unmeasured) {
                    ask.compressed = false;
                    answer = client::fetch(agent, &ask)?;
                }
                let plain = !ask.compressed;
                match answer {
                    Answer::Document(fetched) => {
                        return Ok(self.read(fetched, plain, address, origin, before));
                    }
                    Answer::Same | Answer::Unmeasured => {
                        return Ok(Seen {
                            plain,
                            ..before.clone()
                        });
                    }
                }
            }
        };
        Ok(self.read(fetched, false, address, origin, before))
    }

    /// What was fetched, parsed unless it is what came before.
    fn read(
        &self,
        fetched: Fetched,
        plain: bool,
        address: &Address,
        origin: &Origin,
        before: &Seen,
    ) -> Seen {
        let format = self.format_of(address, fetched.content_type.as_deref());
        let name = format.as_ref().map_or("", Format::name);
        let digest = self.memory.lock().digest.clone();
        let digest = digest.of((&fetched.bytes, name));
        let said = match &before.said {
            Some((same, said)) if *same == digest => said.clone(),
            _ => match format {
                Some(format) => format.parse(&fetched.bytes, origin),
                None => Err(no_format(fetched.content_type.as_deref())),
            },
        };
        Seen {
            load: before.load,
            place: before.place,
            marks: fetched.marks,
            said: Some((digest, said)),
            plain,
        }
    }

    fn format_of(&self, address: &Address, content_type: Option<&str>) -> Option<Format> {
        let typed = || Format::from_extension(extension(&client::media_type(content_type?))?);
        let named = || Format::of_path(&address.path());
        self.options.format.or_else(typed).or_else(named)
    }

    /// All documents as one, the same one as long as they are the same.
    fn join(&self, all: &[Seen]) -> Result<Document, Error> {
        let mut good = Vec::new();
        for seen in all {
            match &seen.said {
                Some((digest, Ok(document))) => good.push((*digest, document)),
                Some((_, Err(error))) => return Err(error.clone()),
                None => return Err(Error::new(ErrorKind::Unavailable, "nothing was said")),
            }
        }
        let digests: Vec<u64> = good.iter().map(|(digest, _)| *digest).collect();
        let known = match &self.memory.lock().union {
            Some((of, document)) if *of == digests => Some(document.clone()),
            _ => None,
        };
        let document = known.unwrap_or_else(|| {
            let mut parts = good.into_iter().map(|(_, document)| document.clone());
            let mut union = parts.next().unwrap_or_default();
            parts.for_each(|part| union.merge(part));
            union
        });
        self.memory.lock().union = Some((digests, document.clone()));
        Ok(document)
    }
}

/// What holds for all addresses of one load.
struct Round {
    limits: Limits,
    headers: Vec<web::Header>,
    agent: Option<ureq::Agent>,
    conditional: bool,
}

/// An error with where it happened, unless that is known.
fn named(error: Error, origin: &Origin) -> Error {
    match error.origin() {
        None => error.with_origin(origin),
        Some(_) => error,
    }
}

impl Target {
    fn new(url: &str) -> Self {
        Self(vec![Place::new(url)])
    }

    /// The name of the first place.
    fn origin(&self) -> &Origin {
        &self.0[0].origin
    }
}

impl Place {
    fn new(url: &str) -> Self {
        let address = Address::parse(url.trim());
        let name = match &address {
            Ok(address) => address.to_string(),
            // What cannot be taken apart may hold a password anywhere.
            Err(_) => "(an address that is not valid)".to_owned(),
        };
        Self {
            address,
            origin: Origin::new("url", name),
        }
    }
}

impl Clone for Http {
    /// The same addresses with the same options; what one has seen means nothing to the other.
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
        let places = self.targets.iter().flat_map(|it| &it.0);
        let names: Vec<_> = places.map(|it| it.origin.name()).collect();
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
        let timeout = self.options.timeout;
        let deadline = Instant::now() + (timeout - timeout / 20);
        let remote = self.check()?;
        let here = |error: Error| named(error, &self.origin());
        let (load, conditional, mut all) = {
            let mut memory = self.memory.lock();
            memory.loads += 1;
            memory.conditional += 1;
            let conditional = memory.conditional < self.options.unconditional;
            if !conditional {
                memory.conditional = 0;
            }
            memory.seen.resize_with(self.targets.len(), Seen::default);
            (memory.loads, conditional, memory.seen.clone())
        };
        let round = Round {
            limits: Limits {
                connect: self.options.connect,
                response: self.options.response,
                deadline,
                timeout,
            },
            headers: self.headers().map_err(here)?,
            agent: match remote {
                true => Some(self.agent().map_err(here)?),
                false => None,
            },
            conditional,
        };
        for (target, seen) in self.targets.iter().zip(&mut all) {
            *seen = self.find(target, seen, &round)?;
        }
        {
            let mut memory = self.memory.lock();
            for (kept, seen) in memory.seen.iter_mut().zip(&all) {
                // One that was left to itself and ends late knows nothing new.
                if kept.load <= load {
                    *kept = Seen {
                        load,
                        ..seen.clone()
                    };
                }
            }
        }
        let mut document = self.join(&all)?;
        if let Some(revision) = revision(&all) {
            document.set_revision(revision);
        }
        Ok(document)
    }

    fn watching(&self) -> Watching {
        Watching::Poll(self.options.poll)
    }

    fn timing(&self) -> Timing {
        Timing::new().timeout(self.options.timeout)
    }

    /// Required, and guarded: an expired bucket or a wiped directory looks like a wish to remove
    /// everything.
    fn policy(&self) -> Policy {
        Policy::new().guarded(Guard::new())
    }
}

/// What the servers call the version of all documents.
fn revision(all: &[Seen]) -> Option<Arc<str>> {
    let named = |seen: &Seen| seen.marks.etag.clone().or(seen.marks.modified.clone());
    if all.iter().all(|seen| seen.marks.is_empty()) {
        return None;
    }
    let names: Vec<_> = all
        .iter()
        .map(|seen| named(seen).unwrap_or_else(|| "-".to_owned()))
        .collect();
    Some(names.join(", ").into())
}

/// The extension of a media type's format.
fn extension(media: &str) -> Option<&'static str> {
    let (_, kind) = media.split_once('/')?;
    match kind.rsplit('+').next()? {
        "json" => Some("json"),
        "toml" | "x-toml" => Some("toml"),
        "yaml" | "x-yaml" => Some("yaml"),
        "x-java-properties" => Some("properties"),
        _ => None,
    }
}

fn no_format(content_type: Option<&str>) -> Error {
    let of = match content_type {
        Some(content_type) => format!("the content type `{}` and ", web::cut(content_type)),
        None => String::new(),
    };
    let detail = format!(
        "no format is known for {of}this path; name one with `format`, or enable its feature"
    );
    Error::new(ErrorKind::Malformed, detail)
}

/// The content of a `file:` address, once nobody writes to it.
fn read_file(path: &Path, limits: Limits) -> Result<Fetched, Error> {
    let begun = Instant::now();
    loop {
        let content = read::read(path).map_err(|fault| match fault {
            read::Fault::Large => Error::new(ErrorKind::TooLarge, fault.to_string()),
            fault => Error::new(ErrorKind::Unavailable, fault.to_string()),
        })?;
        let patient = begun.elapsed() < SETTLES && Instant::now() + QUIET < limits.deadline;
        if patient && (content.torn || content.recent) {
            std::thread::sleep(QUIET);
            continue;
        }
        if content.torn {
            let detail = "the file is being written; it is read again at the next poll";
            return Err(Error::new(ErrorKind::Unavailable, detail));
        }
        return Ok(Fetched {
            bytes: content.bytes,
            marks: Marks::default(),
            content_type: None,
        });
    }
}
