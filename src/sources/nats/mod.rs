//! The key-value store of NATS JetStream: a consumer of a bucket's stream.
//!
//! `watch` reads a bucket and follows it; `memory` is what one connection leaves to the next. `connect`
//! establishes a connection from `address` and `login`. `client` sends on it, in the format of `protocol`;
//! `jetstream` asks for the state of a `bucket` and creates a `feed` of its changes.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::source::{Credentials, Policy, Refusal, Scope, Source, SourceContext, Timing, Watching};
use crate::sources::fs::watch::absolute;
use crate::sources::nats::login::LoginConfig;
use crate::sources::nats::memory::Memory;
use crate::sources::nats::progress::{PROGRESS_TIMEOUT, READ_TIMEOUT};
use crate::sources::shared::kv;
use crate::sources::shared::kv::endpoints::Endpoints;
use crate::sources::shared::kv::mapping::Mapping;
use crate::sources::shared::kv::options::shared_options;
use crate::sources::shared::kv::slot::Slot;
use crate::sources::shared::tls::{Credential, Files};
use crate::sync::lock::Mutex;
use crate::value::document::Document;
use crate::value::origin::Origin;
use crate::value::secret::Secret;

mod address;
mod bucket;
mod client;
mod connect;
mod errors;
mod feed;
mod jetstream;
mod login;
mod memory;
mod progress;
mod protocol;
mod watch;

const KIND: &str = "nats";
/// The default address of a server.
const ADDRESS: &str = "nats://127.0.0.1:4222";

/// The longest time without a heartbeat: two of the consumer are missed, and then a request has no answer.
const SILENCE: Duration = Duration::from_millis(5500);

/// Keys of a bucket, or a document in one of them, of the key-value store of NATS JetStream.
///
/// Names are parted by dots there as here: `checkout.ratelimit.qps` in the bucket `config`, below
/// the prefix `checkout`, is the property `ratelimit.qps`. A change is seen as it happens, and what
/// is deleted or purged lets weaker layers show. The store has no transactions: what belongs
/// together belongs into one key, as a [`document`](Self::as_document). Changes that follow each
/// other closely become one generation, and so does a batch that the server took as one (from NATS
/// 2.12).
///
/// A value that is not UTF-8 or over 1 MiB, which is also what a server takes unless it is set up
/// otherwise, is refused alone; all together may hold 10 MiB, each key counting its name, its value
/// and 32 bytes,
/// and 150,000 keys. Needs NATS 2.9 or newer, and from its account `STREAM.INFO`, `CONSUMER.CREATE` and
/// `CONSUMER.DELETE` of the bucket's stream, `KV_` and its name; it publishes to `$JS.FC.>` besides,
/// and subscribes to `_INBOX.>`. Nothing is ever written to a bucket, and none is made.
///
/// An error of the store, whatever it is, takes nothing away: after each the next of several
/// addresses is asked, with growing pauses, and everything is read anew. A bucket that is not there
/// is empty, and picked up when it is made. That most keys are gone is held; see [`RemovalGuard`](crate::source::RemovalGuard).
///
/// Reading all of a bucket may take as long as it gets further every 3 seconds, and 60 seconds
/// altogether; the start waits for [`Builder::load_timeout`](crate::Builder::load_timeout).
///
/// What a server may make a program hold is bounded: of one message 11 MiB, of what is read at once 30 MiB,
/// each key counting its name, its value and 64 bytes, and of what waits to be taken 16 MiB. A value over
/// 10 MiB, which a server has to be set up for, is refused alone.
///
/// A value that expires goes without a word unless the bucket has markers for that (from NATS 2.11).
/// The source's health warns of such a bucket, and all of it is read again after each change, at
/// most every 4 seconds. What an operator purges from the stream without a marker is missed in the
/// same way: that is looked for every 4 seconds, and seen within a minute where another new key came
/// in its place meanwhile.
///
/// In a cluster everything is read from the member that leads: another one may have just come back,
/// and be behind.
///
/// ```
/// use liveprops::{Source, Watching, sources::Nats};
///
/// let nats = Nats::bucket("config")
///     .prefix("checkout")
///     .address("tls://nats.example.com")
///     .credentials_file("/etc/checkout/nats.creds")
///     .ca("/etc/ssl/nats.pem");
/// assert_eq!(nats.watching(), Watching::Stream);
/// assert_eq!(nats.origin().to_string(), "nats config.checkout.");
/// ```
pub struct Nats {
    options: Options,
    memory: Slot<Memory>,
    /// The requests that delete the consumers of lost connections.
    abandoned: Mutex<Vec<String>>,
}

#[derive(Clone)]
struct Options {
    bucket: String,
    mapping: Mapping,
    endpoints: Endpoints,
    domain: Option<String>,
    login: Option<LoginConfig>,
    tls: Files,
    credentials: Credentials,
}

impl Nats {
    /// All keys of a bucket.
    pub fn bucket(name: impl Into<String>) -> Self {
        let name = name.into();
        let options = Options {
            // A bucket has no dot in its name, so it can stand before the key.
            mapping: Mapping::prefix(KIND, '.', &name),
            bucket: name,
            endpoints: Endpoints::one(ADDRESS),
            domain: None,
            login: None,
            tls: Files::default(),
            credentials: Credentials::new(),
        };
        Self::with_options(options)
    }

    fn with_options(options: Options) -> Self {
        Self {
            memory: Slot::empty(),
            abandoned: Mutex::default(),
            options,
        }
    }

    fn edit(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        Self::with_options(self.options)
    }

    /// Only the keys below a prefix, which ends at a dot: `app` is `app.`, never `apple`. Comes
    /// before [`as_document`](Self::as_document).
    #[must_use]
    pub fn prefix(self, prefix: impl AsRef<str>) -> Self {
        let prefix = prefix.as_ref().trim_matches('.');
        self.edit(|options| {
            let whole = format!("{}.{prefix}", options.bucket);
            options.mapping = Mapping::prefix(KIND, '.', &whole);
        })
    }

    /// Only one key, which holds a document; its format is that of its extension, or given.
    ///
    /// A key that is absent at the start is an error, unless the policy is
    /// [`optional`](crate::source::Policy::optional): then its values count when it appears. A key that is
    /// deleted later is no error; see [`RemovalGuard`](crate::source::RemovalGuard).
    #[must_use]
    pub fn document(self, key: impl AsRef<str>) -> Self {
        let key = key.as_ref().trim_matches('.');
        self.edit(|options| {
            let whole = format!("{}.{key}", options.bucket);
            options.mapping = Mapping::document(KIND, '.', &whole);
        })
    }

    /// The prefixes of a scope below this one, the weakest first: `common`, `common-prod`,
    /// `checkout`, `checkout-prod`. Each has the options that are set by now, but for documents.
    ///
    /// ```
    /// use liveprops::source::Scope;
    /// use liveprops::{Source, sources::Nats};
    ///
    /// let scope = Scope::app("checkout");
    /// let layers = Nats::bucket("config").token("s3cr3t".to_owned()).of_scope(&scope)?;
    /// let origins: Vec<String> = layers.iter().map(|it| it.origin().to_string()).collect();
    /// assert_eq!(origins, ["nats config.common.", "nats config.checkout."]);
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Scope::names`], and [`ErrorKind::InvalidKey`] for a name or a profile that holds a dot: the
    /// keys of `checkout.prod` would be keys of `checkout` as well. A [`document`](Self::document) has
    /// nothing below it.
    pub fn of_scope(self, scope: &Scope) -> Result<Vec<Self>, Error> {
        let all = self.options.mapping.of_scope(scope)?;
        let one = |mapping| self.clone().edit(|options| options.mapping = mapping);
        Ok(all.into_iter().map(one).collect())
    }

    /// Sets the address of the server; `nats://127.0.0.1:4222` by default. With `tls://` the server
    /// has to speak TLS, and is checked by the system's certificates or a [`ca`](Self::ca). Other
    /// schemes, such as `wss`, are refused.
    ///
    /// `nats://user:password@host` and `nats://token@host` show a user or a token, unless that is set
    /// by a method; `%40` is an `@` there. No error, log or health shows them.
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

    /// Uses JetStream of a domain, as on the other side of a leaf node.
    #[must_use]
    pub fn domain(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.edit(|options| options.domain = Some(name))
    }

    /// Shows a token. Of several kinds of credentials the last that was set counts.
    #[must_use]
    pub fn token(self, token: impl Into<Secret<String>>) -> Self {
        let login = LoginConfig::Token(Credential::Given(token.into()));
        self.edit(|options| options.login = Some(login))
    }

    /// Shows the token that a file holds, which is read anew for each connection: a token that is
    /// rotated there needs no restart.
    #[must_use]
    pub fn token_file(self, path: impl Into<PathBuf>) -> Self {
        let login = LoginConfig::Token(Credential::File(absolute(&path.into())));
        self.edit(|options| options.login = Some(login))
    }

    /// Shows a user and a password.
    #[must_use]
    pub fn user(self, name: impl Into<String>, password: impl Into<Secret<String>>) -> Self {
        let login = LoginConfig::User(name.into(), Credential::Given(password.into()));
        self.edit(|options| options.login = Some(login))
    }

    /// Shows a user and the password that a file holds, which is read anew for each connection.
    #[must_use]
    pub fn user_file(self, name: impl Into<String>, password: impl Into<PathBuf>) -> Self {
        let password = Credential::File(absolute(&password.into()));
        let login = LoginConfig::User(name.into(), password);
        self.edit(|options| options.login = Some(login))
    }

    /// Signs with the seed of an NKey that a file holds, which is read anew for each connection.
    #[must_use]
    pub fn nkey_file(self, path: impl Into<PathBuf>) -> Self {
        let login = LoginConfig::NKey(Credential::File(absolute(&path.into())));
        self.edit(|options| options.login = Some(login))
    }

    /// Signs with the seed of an NKey.
    #[must_use]
    pub fn nkey(self, seed: impl Into<Secret<String>>) -> Self {
        let login = LoginConfig::NKey(Credential::Given(seed.into()));
        self.edit(|options| options.login = Some(login))
    }

    /// Shows the JWT of a file of credentials and signs with its seed. The file is read anew for
    /// each connection.
    #[must_use]
    pub fn credentials_file(self, path: impl Into<PathBuf>) -> Self {
        let login = LoginConfig::CredentialsFile(Credential::File(absolute(&path.into())));
        self.edit(|options| options.login = Some(login))
    }

    shared_options! {
        port: 4222,
        locator: "Finds the server by variables and files. The schemes `http` and `https` count as `nats` and `tls`.",
        ca: "Trusts the certificates in a file in place of the system's. The server has to speak TLS.",
        client_certificate: "Shows a certificate, with its chain and its key in files of PEM. The server has to speak TLS.",
    }

    /// The subjects of the keys, below that of the bucket; checked, because a wrong name could mean another
    /// subject.
    fn filter(&self) -> Result<String, Error> {
        let mapping = &self.options.mapping;
        let reject = |what: &str, name: &str| {
            let detail = format!("`{name}` is not {what}");
            Err(Error::new(ErrorKind::Other, detail).with_origin(self.origin()))
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let is_name = |name: &str| !name.is_empty() && name.chars().all(is_plain);
        let bucket = &self.options.bucket;
        if !is_name(bucket) {
            return reject("the name of a bucket", bucket);
        }
        let path = mapping.path();
        let is_key = |c: char| is_plain(c) || "/=".contains(c);
        let mut names = path.strip_suffix('.').unwrap_or(path).split('.');
        if names.any(|name| name.is_empty() || !name.chars().all(is_key)) {
            return reject("a key that a bucket may hold", path);
        }
        if let Some(domain) = &self.options.domain {
            if !is_name(domain) {
                return reject("the name of a domain", domain);
            }
        }
        let below = path.split_once('.').map_or("", |(_, below)| below);
        Ok(if mapping.is_document() {
            below.to_owned()
        } else {
            format!("{below}>")
        })
    }

    /// Runs a call with the memory of the call before.
    fn with_memory<R>(&self, run: impl FnOnce(&mut Memory) -> R) -> R {
        let make = || Memory::new(self.options.mapping.clone());
        self.memory.with(make, run)
    }
}

impl Clone for Nats {
    /// The same options with a memory of its own.
    fn clone(&self) -> Self {
        Self::with_options(self.options.clone())
    }
}

impl Source for Nats {
    fn origin(&self) -> Origin {
        Origin::new(KIND, self.options.mapping.path())
    }

    fn load(&self) -> Result<Document, Error> {
        let loaded = self.read_document();
        loaded.map_err(|error| self.credentials().mask_error(error))
    }

    fn watching(&self) -> Watching {
        Watching::Stream
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        self.with_memory(|memory| self.watch_all(memory, updates))
    }

    fn refusal(&self) -> Refusal {
        self.options.mapping.refusal()
    }

    fn timing(&self) -> Timing {
        Timing::new()
            .timeout(PROGRESS_TIMEOUT)
            .first_load(READ_TIMEOUT)
            .heartbeat_timeout(SILENCE)
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

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = self.options.login.as_ref();
        f.debug_struct("Nats")
            .field("keys", &self.options.mapping.path())
            .field("login", &login.map_or("none", LoginConfig::kind))
            .field("tls", &self.options.tls)
            .finish_non_exhaustive()
    }
}
