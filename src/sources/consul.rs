//! Consul's key-value store, by its HTTP interface: recursive reads that block until something changes.
//!
//! What the indexes mean, and when not to trust one, is from Consul's documentation of blocking
//! queries: one that went backwards, and one after any error, is begun anew.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ureq::http::header::HeaderName;
use ureq::http::{HeaderValue, Response};
use ureq::{Agent, Body};

use crate::error::{Error, ErrorKind};
use crate::source::{
    Credentials, Policy, Refusal, Scope, Source, Timing, Update, Updates, Watching,
};
use crate::sources::disk::absolute;
use crate::sources::kv::endpoints::{Endpoints, named};
use crate::sources::kv::mapping::Mapping;
use crate::sources::kv::mirror::{Entry, Mirror};
use crate::sources::kv::options::shared_options;
use crate::sources::kv::slot::Slot;
use crate::sources::kv::{self, about};
use crate::sources::trust::{Credential, Files};
use crate::sources::web::url::Url;
use crate::sources::web::{self, Limits, json};
use crate::value::document::Document;
use crate::value::origin::Origin;
use crate::value::secret::Secret;

const KIND: &str = "consul";
/// Where an agent is by default.
const ADDRESS: &str = "http://127.0.0.1:8500";

/// How long a read blocks at most, where nothing changes: its end is the sign that all is well. A
/// server that has lost the others ends one read so, and only the next one fails.
const WAIT: Duration = Duration::from_secs(3);
/// What an agent may add to that, so that not all reads end at once.
const DITHER: u32 = 16;
/// How long an answer may take that does not block, and how late one may be that does.
const TIMEOUT: Duration = Duration::from_secs(3);
const LATE: Duration = Duration::from_secs(1);
/// How far a server may be behind its leader that was asked for a stale answer.
const MAX_BEHIND: Duration = Duration::from_secs(5);
/// The shortest time from one read to the next.
const PAUSE: Duration = Duration::from_millis(100);
/// The largest answer: 10 MiB of values, in base64 and with their names.
const MAX_ANSWER: u64 = 32 << 20;

/// Keys below a prefix, or a document in one key, of Consul's key-value store.
///
/// `config/checkout/ratelimit/qps` below the prefix `config/checkout` is the property
/// `ratelimit.qps`. A change is seen as it happens. All that one transaction of the store changed is
/// one generation; what is deleted there lets weaker layers show. Keys that end in a slash are
/// folders, and skipped. A value that is not UTF-8 or over 1 MiB (Consul itself takes 512 KiB) is
/// refused alone; all together may hold 10 MiB, each key counting its name, its value and 32 bytes.
///
/// An error of the store, whatever it is, takes nothing away: the reading goes on with growing
/// pauses and then begins anew. Of several addresses the next one is asked when one fails. That most
/// keys are gone is held; see [`Guard`](crate::source::Guard).
///
/// The ACL token needs `read` on the prefix (`key_prefix`). To a token without it an agent shows an
/// empty store: newer ones (from Consul 1.12) say so, which is an error here, and older ones do if their setting
/// `acl.enable_key_list_policy` is on and the token lacks `list`.
///
/// ```
/// use liveprops::{Source, Watching, sources::Consul};
///
/// let consul = Consul::prefix("config/checkout")
///     .address("https://consul.example.com:8501")
///     .token("b1gs33cr3t".to_owned())
///     .ca("/etc/ssl/consul.pem");
/// assert_eq!(consul.watching(), Watching::Stream);
/// assert_eq!(consul.origin().to_string(), "consul config/checkout/");
/// ```
pub struct Consul {
    options: Options,
    mirror: Slot<Mirror>,
}

#[derive(Clone)]
struct Options {
    mapping: Mapping,
    endpoints: Endpoints,
    token: Option<Credential>,
    datacenter: Option<String>,
    stale: bool,
    tls: Files,
    credentials: Credentials,
}

impl Consul {
    /// All keys below a prefix, which ends at a slash: `app` is `app/`, never `apple`.
    pub fn prefix(prefix: impl AsRef<str>) -> Self {
        Self::of(Mapping::prefix(KIND, '/', prefix.as_ref()))
    }

    /// One key that holds a document; its format is that of its extension, or given.
    pub fn document(key: impl AsRef<str>) -> Self {
        Self::of(Mapping::document(KIND, '/', key.as_ref()))
    }

    /// The prefixes of a scope below this one, the weakest first: `common`, `common-prod`, `checkout`,
    /// `checkout-prod`. Each has the options that are set by now, but for documents.
    ///
    /// ```
    /// use liveprops::source::Scope;
    /// use liveprops::{Source, sources::Consul};
    ///
    /// let scope = Scope::app("checkout");
    /// let layers = Consul::prefix("config").ca("/etc/ssl/consul.pem").of_scope(&scope)?;
    /// let origins: Vec<String> = layers.iter().map(|it| it.origin().to_string()).collect();
    /// assert_eq!(origins, ["consul config/common/", "consul config/checkout/"]);
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Scope::names`], and of a [`document`](Self::document), which has nothing below it.
    pub fn of_scope(self, scope: &Scope) -> Result<Vec<Self>, Error> {
        let all = self.options.mapping.of_scope(scope)?;
        let one = |mapping| self.clone().edit(|options| options.mapping = mapping);
        Ok(all.into_iter().map(one).collect())
    }

    fn of(mapping: Mapping) -> Self {
        let options = Options {
            mapping,
            endpoints: Endpoints::one(ADDRESS),
            token: None,
            datacenter: None,
            stale: false,
            tls: Files::default(),
            credentials: Credentials::new(),
        };
        Self::with_options(options)
    }

    fn with_options(options: Options) -> Self {
        Self {
            mirror: Slot::empty(),
            options,
        }
    }

    fn edit(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        Self::with_options(self.options)
    }

    /// Sets the address of the agent; `http://127.0.0.1:8500` by default.
    #[must_use]
    pub fn address(self, url: impl Into<String>) -> Self {
        self.addresses([url])
    }

    /// Sets several addresses, any of which will do: the next is asked when one fails.
    #[must_use]
    pub fn addresses<U: Into<String>>(self, urls: impl IntoIterator<Item = U>) -> Self {
        let urls = urls.into_iter().map(Into::into).collect();
        self.edit(|options| options.endpoints = Endpoints::all(urls))
    }

    /// Sends an ACL token.
    #[must_use]
    pub fn token(self, token: impl Into<Secret<String>>) -> Self {
        let token = Credential::Given(token.into());
        self.edit(|options| options.token = Some(token))
    }

    /// Sends the ACL token that a file holds, which is read anew for each read of the store.
    #[must_use]
    pub fn token_file(self, path: impl Into<PathBuf>) -> Self {
        let token = Credential::File(absolute(&path.into()));
        self.edit(|options| options.token = Some(token))
    }

    /// Reads from a data centre; that of the agent by default.
    #[must_use]
    pub fn datacenter(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.edit(|options| options.datacenter = Some(name))
    }

    /// Lets any server answer, not the leader alone: it may be behind, by 5 seconds at the most.
    #[must_use]
    pub fn stale(self) -> Self {
        self.edit(|options| options.stale = true)
    }

    shared_options! {
        port: 8500,
        locator: "Finds the agent by variables and files.",
        ca: "Trusts the certificates in a file in place of Mozilla's roots.",
        client_certificate: "Shows a certificate, with its chain and its key in files of PEM.",
    }

    fn header(&self) -> Result<Option<HeaderValue>, Error> {
        let Some(token) = &self.options.token else {
            return Ok(None);
        };
        let token = token.read("the file of the token")?;
        self.options.credentials.add(&token);
        if token.trim().is_empty() {
            // Without one the agent answers as to anybody, and that may look empty.
            return Err(Error::new(ErrorKind::Other, "the ACL token is empty"));
        }
        let (_, value) = web::header("x-consul-token", token.trim())?;
        Ok(Some(value))
    }

    /// The path of a read; one that blocks names the index it has seen.
    fn path(&self, index: u64, wait: Option<Duration>) -> String {
        let mapping = &self.options.mapping;
        let key: Vec<String> = mapping.wanted().split('/').map(web::url::escape).collect();
        let mut path = format!("/v1/kv/{}?", key.join("/"));
        if !mapping.is_document() {
            path.push_str("recurse&");
        }
        if let Some(datacenter) = &self.options.datacenter {
            path.push_str(&format!("dc={}&", web::url::escape(datacenter)));
        }
        if self.options.stale {
            path.push_str("stale&");
        }
        match wait {
            Some(wait) => path.push_str(&format!("index={index}&wait={}ms", wait.as_millis())),
            None => path.push_str(&format!("index={index}")),
        }
        path
    }

    /// One read, and where it was made. It blocks until something is newer than `index`, unless that
    /// is 0.
    fn read(&self, agent: &Agent, index: u64) -> Result<(Answer, String), Error> {
        let server = self.options.endpoints.current()?;
        let place = server.place(shown);
        let at = |error: Error| named(error, &self.origin(), &place);
        let wait = (index > 0).then(|| about(WAIT));
        let timeout = wait.map_or(TIMEOUT, |wait| wait + wait / DITHER + LATE);
        let limits = Limits {
            connect: TIMEOUT / 2,
            response: timeout,
            deadline: Instant::now() + timeout,
            timeout,
        };
        let url = web::tls::server(&server.address, &self.options.tls).map_err(at)?;
        let ask = || -> Result<Answer, Error> {
            let mut request = agent.get(url.at(&self.path(index, wait)).whole());
            if let Some(token) = self.header()? {
                request = request.header("x-consul-token", token);
            }
            let response = request
                .config()
                .timeout_global(Some(timeout))
                .timeout_resolve(Some(limits.connect))
                .timeout_connect(Some(limits.connect))
                .build()
                .call()
                .map_err(|fault| web::explain(fault, limits, "the response began"))?;
            answer(response, limits)
        };
        ask()
            .map(|answer| (answer, place.clone()))
            .map_err(at)
            .inspect_err(|_| self.options.endpoints.next())
    }

    /// Reads everything, from the first server that answers.
    fn read_all(&self, agent: &Agent) -> Result<(Answer, String), Error> {
        self.options.endpoints.first(|| self.read(agent, 0))
    }

    /// Runs a call with what the one before has left.
    fn with_mirror<R>(&self, run: impl FnOnce(&mut Mirror) -> R) -> R {
        let make = || Mirror::new(self.options.mapping.clone());
        self.mirror.with(make, run)
    }

    /// Reads again and again, each time until something is new.
    fn follow(&self, mirror: &mut Mirror, updates: &Updates) -> Result<(), Error> {
        let agent = self.agent()?;
        let stopped = agent.clone();
        updates.on_stop(move || stopped.clone().shutdown());
        let mut index = 0;
        let mut first = true;
        while !updates.is_stopped() {
            let begun = Instant::now();
            let read = match first {
                true => self.read_all(&agent),
                false => self.read(&agent, index),
            };
            let (answer, place) = match read {
                // It was told to end.
                Err(_) if updates.is_stopped() => return Ok(()),
                read => read?,
            };
            // Going backwards means another past: everything is read anew. A store that is restored
            // says what it said before, and says it early. 0 would not block.
            let early = index > 0 && answer.index == index && begun.elapsed() < WAIT / 2;
            index = match early || answer.index < index {
                true => 0,
                false => answer.index.max(1),
            };
            let update = {
                mirror.replace(answer.entries());
                let revision = answer.index.to_string();
                match first {
                    true => mirror.whole(revision).map(Update::full).map(Some),
                    false => mirror.update(revision),
                }
            };
            if std::mem::take(&mut first) {
                updates.located(place);
            }
            kv::tell(update, updates);
            if updates.wait(PAUSE.saturating_sub(begun.elapsed())) {
                break;
            }
        }
        Ok(())
    }

    fn agent(&self) -> Result<Agent, Error> {
        web::tls::agent(&self.options.tls).map_err(|error| error.with_origin(self.origin()))
    }
}

/// What a read has brought.
struct Answer {
    index: u64,
    items: Vec<Item>,
}

struct Item {
    key: String,
    bytes: Vec<u8>,
    index: u64,
}

impl Answer {
    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.items.iter().map(|item| Entry {
            key: &item.key,
            bytes: &item.bytes,
            revision: item.index,
        })
    }
}

fn answer(response: Response<Body>, limits: Limits) -> Result<Answer, Error> {
    let status = response.status().as_u16();
    let name = HeaderName::from_static("x-consul-index");
    let index = web::text(&response, name).and_then(|index| index.parse().ok());
    let says = |name| web::text(&response, HeaderName::from_static(name));
    let is_filtered = says("x-consul-results-filtered-by-acls").is_some_and(|it| it == "true");
    let has_leader = says("x-consul-knownleader").is_none_or(|it| it == "true");
    let contact = says("x-consul-lastcontact").and_then(|it| it.parse().ok());
    let behind = Duration::from_millis(contact.unwrap_or(0));
    let mut bytes = Vec::new();
    let mut body = response.into_body().into_reader().take(MAX_ANSWER + 1);
    body.read_to_end(&mut bytes).map_err(|fault| {
        web::explain(ureq::Error::from(fault), limits, "the answer was complete")
    })?;
    if bytes.len() as u64 > MAX_ANSWER {
        let detail = format!("the answer is longer than {MAX_ANSWER} bytes");
        return Err(Error::new(ErrorKind::TooLarge, detail));
    }
    let index = match (status, index) {
        (200 | 404, Some(index)) => index,
        (200 | 404, None) => {
            let detail = "the answer names no index: is this an agent of Consul?";
            return Err(Error::new(ErrorKind::Malformed, detail));
        }
        _ => return Err(refused(status, &bytes)),
    };
    if is_filtered {
        return Err(web::unavailable(
            "the answer leaves keys out: the ACL token may not read all below the prefix",
        ));
    }
    if !has_leader || behind > MAX_BEHIND {
        let detail = format!("the server has been without its leader for {behind:?}");
        return Err(web::unavailable(detail));
    }
    let items = match status {
        // Nothing is there, which is an answer as any other.
        404 => Vec::new(),
        _ => items(&bytes)?,
    };
    Ok(Answer { index, items })
}

fn items(bytes: &[u8]) -> Result<Vec<Item>, Error> {
    let malformed = || {
        let detail = "the answer is no list of keys and values: is this an agent of Consul?";
        Error::new(ErrorKind::Malformed, detail)
    };
    let answer = json::parse(bytes)?;
    let list = answer.as_array().ok_or_else(malformed)?;
    let item = |item: &_| -> Option<Item> {
        let item = json::Object::of(item)?;
        Some(Item {
            key: item.text("Key")?.to_owned(),
            bytes: json::bytes(item.get("Value")?)?,
            index: item.number("ModifyIndex")?,
        })
    };
    list.iter()
        .map(item)
        .collect::<Option<_>>()
        .ok_or_else(malformed)
}

/// Why an answer is none, and what may help.
fn refused(status: u16, body: &[u8]) -> Error {
    let hint = match status {
        403 => "check the ACL token and its rules",
        429 => "the agent asks for fewer requests",
        500 => "the servers have no leader, or the data centre is not known",
        _ => "see the log of the agent",
    };
    let says = String::from_utf8_lossy(body);
    let says = web::cut(says.lines().next().unwrap_or_default());
    web::unavailable(format!("the answer is {status} ({says}): {hint}"))
}

/// An address without what may be secret in it.
fn shown(address: &str) -> String {
    Url::parse(address).map_or_else(
        |_| "an address that is not valid".to_owned(),
        |url| url.to_string(),
    )
}

/// With memory of its own: what one has told says nothing of what another has.
impl Clone for Consul {
    fn clone(&self) -> Self {
        Self::with_options(self.options.clone())
    }
}

impl Source for Consul {
    fn origin(&self) -> Origin {
        Origin::new(KIND, self.options.mapping.wanted())
    }

    fn load(&self) -> Result<Document, Error> {
        let read = self.agent().and_then(|agent| self.read_all(&agent));
        let (answer, _) = read.map_err(|error| self.credentials().mask_error(error))?;
        self.with_mirror(|mirror| {
            mirror.replace(answer.entries());
            mirror.whole(answer.index.to_string())
        })
    }

    fn watching(&self) -> Watching {
        Watching::Stream
    }

    fn watch(&self, updates: &Updates) -> Result<(), Error> {
        self.with_mirror(|mirror| self.follow(mirror, updates))
    }

    fn refusal(&self) -> Refusal {
        self.options.mapping.refusal()
    }

    fn timing(&self) -> Timing {
        let silence = WAIT + WAIT / DITHER + LATE + LATE / 2;
        Timing::new().timeout(TIMEOUT).silence(silence)
    }

    fn policy(&self) -> Policy {
        kv::policy()
    }

    fn credentials(&self) -> Credentials {
        let credentials = &self.options.credentials;
        self.options.endpoints.add_credentials(credentials);
        credentials.clone()
    }
}

impl fmt::Debug for Consul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consul")
            .field("keys", &self.options.mapping.wanted())
            .field("token", &self.options.token.is_some())
            .field("tls", &self.options.tls)
            .finish_non_exhaustive()
    }
}
