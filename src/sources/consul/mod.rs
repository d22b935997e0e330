//! Consul's key-value store, over its HTTP interface: recursive reads that block until something changes
//! (`watch`), and heartbeats that prove that they work (`heartbeat`). `client` sends requests, `response`
//! reads the answers.

mod client;
mod heartbeat;
mod response;
mod watch;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::Error;
use crate::source::{
    Credentials, Policy, RejectionScope, Scope, Source, SourceContext, Timing, Watching,
};
use crate::sources::consul::client::{Connection, PING_TIMEOUT};
use crate::sources::consul::heartbeat::{GRACE, HEARTBEAT};
use crate::sources::fs::watch::absolute;
use crate::sources::shared::kv;
use crate::sources::shared::kv::endpoints::Endpoints;
use crate::sources::shared::kv::mapping::Mapping;
use crate::sources::shared::kv::mirror::Mirror;
use crate::sources::shared::kv::options::shared_options;
use crate::sources::shared::kv::slot::Slot;
use crate::sources::shared::tls::{Credential, Files};
use crate::value::document::Document;
use crate::value::origin::Origin;
use crate::value::secret::Secret;

const KIND: &str = "consul";
/// The default address of an agent.
const ADDRESS: &str = "http://127.0.0.1:8500";
/// How long the answer of a read that does not block may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Keys below a prefix, or a document in one key, of Consul's key-value store.
///
/// `config/checkout/ratelimit/qps` below the prefix `config/checkout` is the property
/// `ratelimit.qps`. The source sees a change as it happens. All changes of one transaction of the store are
/// one generation; a deleted key lets weaker layers show. Keys that end in a slash are folders, and are skipped. A
/// value that is not UTF-8 or over 1 MiB (Consul itself accepts 512 KiB) is rejected alone. All keys together may
/// have 10 MiB, each counting its name, its value and 32 bytes, and there may be 150,000.
///
/// A request waits for changes, and reads everything again at most once a minute while nothing changes. Every
/// 3 seconds a heartbeat on a second connection asks for an index. So an idle program transfers some 150 bytes a
/// second, however many keys there are. A change that the waiting request does not deliver arrives within 10
/// seconds all the same. While other keys change, the source reads a prefix without keys ever less often, and
/// may see its first key up to 4 seconds late.
///
/// The agent cannot serve keys with an empty name, `.` or `..` between slashes. A prefix or document
/// of that kind is an error of the start; keys with empty names below a prefix are reported as problems. A
/// slash before a prefix does not count, so keys that begin with one are below the prefix `""` alone,
/// and reported too.
///
/// A read that does not wait for changes is consistent: a server that has restarted shows no values until it
/// has applied its log. With [`stale`](Self::stale) it may show older ones.
///
/// No error of the store removes values: the source reads again after growing pauses. Of several addresses it
/// uses the next one when one fails. The removal guard withholds the removal of most keys; see
/// [`RemovalGuard`](crate::source::RemovalGuard).
///
/// The ACL token needs `read` on the prefix (`key_prefix`). To a token without it an agent shows an
/// empty store. Newer agents (from Consul 1.12) mark such an answer, which is an error here; older ones do if
/// their setting `acl.enable_key_list_policy` is on and the token lacks `list`. Keys that only a change of ACL rules
/// hides or shows may take until the next read of everything, 80 seconds at most.
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
    /// The prefix or key as the program wrote it, for errors.
    given: String,
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
        let prefix = prefix.as_ref();
        Self::of(prefix, Mapping::prefix(KIND, '/', prefix))
    }

    /// One key with a document, whose format follows from its extension or [`format`](Self::format).
    ///
    /// A key that is absent at the start is an error, unless the policy is
    /// [`optional`](crate::source::Policy::optional): then its values take effect when it appears. A key that is
    /// deleted later is no error; see [`RemovalGuard`](crate::source::RemovalGuard).
    pub fn document(key: impl AsRef<str>) -> Self {
        let key = key.as_ref();
        Self::of(key, Mapping::document(KIND, '/', key))
    }

    /// The prefixes of a scope below this one, the weakest first: `common`, `common-prod`, `checkout`,
    /// `checkout-prod`. Each has the options that were set before, except documents.
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
    /// [`ErrorKind::InvalidKey`](crate::ErrorKind::InvalidKey) if a name or a profile is not 1 to 64 letters,
    /// digits, `_`, `.` or `-`, or is `.` or `..`; [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig)
    /// for a [`document`](Self::document), which has nothing below it.
    pub fn of_scope(self, scope: &Scope) -> Result<Vec<Self>, Error> {
        let all = self.options.mapping.of_scope(scope)?;
        let one = |mapping| self.clone().edit(|options| options.mapping = mapping);
        Ok(all.into_iter().map(one).collect())
    }

    fn of(given: &str, mapping: Mapping) -> Self {
        let options = Options {
            given: given.to_owned(),
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

    /// Sets several addresses of one store: the source uses the next when one fails.
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

    /// Sends the ACL token in a file, which is read for each read of the store.
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

    /// Lets any server answer, not the leader alone: it may be up to 5 seconds behind.
    #[must_use]
    pub fn stale(self) -> Self {
        self.edit(|options| options.stale = true)
    }

    shared_options! {
        port: 8500,
        locator: "Finds the agent by variables and files.",
        ca: "Trusts the certificates in a file in place of Mozilla's roots.",
        client_certificate: "Presents a certificate, with its chain and its key in PEM files.",
    }

    /// Runs a call with the mirror of the call before.
    fn with_mirror<R>(&self, run: impl FnOnce(&mut Mirror) -> R) -> R {
        let make = || Mirror::new(self.options.mapping.clone());
        self.mirror.with(make, run)
    }
}

impl Clone for Consul {
    /// The same options with a mirror of its own.
    fn clone(&self) -> Self {
        Self::with_options(self.options.clone())
    }
}

impl Source for Consul {
    fn origin(&self) -> Origin {
        Origin::new(KIND, self.options.mapping.path())
    }

    fn load(&self) -> Result<Document, Error> {
        let read = self
            .agent()
            .and_then(|agent| self.read_all(&mut Connection::new(agent)));
        let (listing, _) = read.map_err(|error| self.credentials().mask_error(error))?;
        self.with_mirror(|mirror| self.to_document(mirror, &listing))
    }

    fn watching(&self) -> Watching {
        Watching::Stream
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        self.with_mirror(|mirror| self.follow(mirror, updates))
    }

    fn rejection_scope(&self) -> RejectionScope {
        self.options.mapping.rejection_scope()
    }

    fn timing(&self) -> Timing {
        let silence = HEARTBEAT + PING_TIMEOUT + GRACE + Duration::from_millis(500);
        Timing::new().timeout(TIMEOUT).heartbeat_timeout(silence)
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
            .field("keys", &self.options.mapping.path())
            .field("token", &self.options.token.is_some())
            .field("tls", &self.options.tls)
            .finish_non_exhaustive()
    }
}
