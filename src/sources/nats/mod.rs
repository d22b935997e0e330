//! The key-value store of NATS JetStream: a consumer of a bucket's stream.
//!
//! `watch` reads a bucket and follows it; `memory` is what one connection leaves to the next. `connect`
//! establishes a connection from `address` and `login`. `client` sends on it, in the format of `protocol`;
//! `jetstream` asks for the state of a `bucket` and creates a `feed` of its changes.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::source::{
    Credentials, Policy, RejectionScope, Scope, Source, SourceContext, Timing, Watching,
};
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
/// Dots separate names there as here: `checkout.ratelimit.qps` in the bucket `config`, below
/// the prefix `checkout`, is the property `ratelimit.qps`. The source sees a change as it happens; a deleted or
/// purged key lets weaker layers show. The store has no transactions: put values that belong together into one
/// key, as a [`document`](Self::as_document). Changes that follow each other closely become one generation, and
/// so does a batch that the server accepted as one (from NATS 2.12).
///
/// A value that is not UTF-8 or over 1 MiB, the default limit of a server, is rejected alone. All keys together may
/// have 10 MiB, each counting its name, its value and 32 bytes, and there may be 150,000. The source needs NATS 2.9
/// or newer, and permissions for `STREAM.INFO`, `CONSUMER.CREATE` and `CONSUMER.DELETE` of the bucket's stream,
/// which is `KV_` and its name. It also publishes to `$JS.FC.>` and subscribes to `_INBOX.>`. It writes to no bucket,
/// and creates none.
///
/// No error of the store removes values: the source uses the next of several addresses, after growing pauses, and
/// reads everything again. A missing bucket is empty until it is created. The removal guard withholds the removal of
/// most keys; see [`RemovalGuard`](crate::source::RemovalGuard).
///
/// A read of everything may take 3 seconds without progress, and 60 seconds
/// altogether; the start waits for [`Builder::load_timeout`](crate::Builder::load_timeout).
///
/// The memory that a server can make a program use is bounded: 11 MiB of one message, 30 MiB of one read, each key
/// counting its name, its value and 64 bytes, and 16 MiB of queued messages. A value over
/// 10 MiB, which a server has to be configured for, is rejected alone.
///
/// A server sends no message about an expired value unless the bucket has markers for that (from NATS 2.11).
/// The source's health warns of such a bucket, and the source reads all of it again after each change, at
/// most every 4 seconds. Nor is there a message when an operator purges the stream without a marker: the source
/// checks for that every 4 seconds, and finds it within a minute where another new key was added meanwhile.
///
/// In a cluster the source reads everything from the leader: another member may have just come back,
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
            // The name of a bucket has no dot, so the key begins behind the first one.
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

    /// Only the keys below a prefix, which ends at a dot: `app` is `app.`, never `apple`. Call it
    /// before [`as_document`](Self::as_document).
    #[must_use]
    pub fn prefix(self, prefix: impl AsRef<str>) -> Self {
        let prefix = prefix.as_ref().trim_matches('.');
        self.edit(|options| {
            let whole = format!("{}.{prefix}", options.bucket);
            options.mapping = Mapping::prefix(KIND, '.', &whole);
        })
    }

    /// Only one key with a document, whose format follows from its extension or [`format`](Self::format).
    ///
    /// A key that is absent at the start is an error, unless the policy is
    /// [`optional`](crate::source::Policy::optional): then its values take effect when it appears. A key that is
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
    /// `checkout`, `checkout-prod`. Each has the options that were set before, except documents.
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
    /// [`ErrorKind::InvalidKey`] if a name or a profile is not 1 to 64 letters, digits, `_` or `-`. A dot is not
    /// allowed, since the keys of `checkout.prod` would be keys of `checkout` as well.
    /// [`ErrorKind::InvalidConfig`] for a [`document`](Self::document), which has nothing below it.
    pub fn of_scope(self, scope: &Scope) -> Result<Vec<Self>, Error> {
        let all = self.options.mapping.of_scope(scope)?;
        let one = |mapping| self.clone().edit(|options| options.mapping = mapping);
        Ok(all.into_iter().map(one).collect())
    }

    /// Sets the address of the server; `nats://127.0.0.1:4222` by default. With `tls://` the server
    /// has to use TLS, and is checked by the system's certificates or a [`ca`](Self::ca). Other
    /// schemes, such as `wss`, are rejected.
    ///
    /// `nats://user:password@host` and `nats://token@host` send a user or a token, unless a method sets
    /// one. Both are percent-encoded: `%40` is an `@`, and a `%` without two hexadecimal digits is an error. No
    /// error, log or health shows them.
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

    /// Uses JetStream of a domain, as on the other side of a leaf node.
    #[must_use]
    pub fn domain(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.edit(|options| options.domain = Some(name))
    }

    /// Sends a token. Of several kinds of credentials the last one counts.
    #[must_use]
    pub fn token(self, token: impl Into<Secret<String>>) -> Self {
        let login = LoginConfig::Token(Credential::Given(token.into()));
        self.edit(|options| options.login = Some(login))
    }

    /// Sends the token in a file, which is read for each connection: a rotated token needs no restart.
    #[must_use]
    pub fn token_file(self, path: impl Into<PathBuf>) -> Self {
        let login = LoginConfig::Token(Credential::File(absolute(&path.into())));
        self.edit(|options| options.login = Some(login))
    }

    /// Sends a user and a password.
    #[must_use]
    pub fn user(self, name: impl Into<String>, password: impl Into<Secret<String>>) -> Self {
        let login = LoginConfig::User(name.into(), Credential::Given(password.into()));
        self.edit(|options| options.login = Some(login))
    }

    /// Sends a user and the password in a file, which is read for each connection.
    #[must_use]
    pub fn user_file(self, name: impl Into<String>, password: impl Into<PathBuf>) -> Self {
        let password = Credential::File(absolute(&password.into()));
        let login = LoginConfig::User(name.into(), password);
        self.edit(|options| options.login = Some(login))
    }

    /// Signs with the seed of an NKey in a file, which is read for each connection.
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

    /// Sends the JWT of a file of credentials and signs with its seed. The file is read for each connection.
    #[must_use]
    pub fn credentials_file(self, path: impl Into<PathBuf>) -> Self {
        let login = LoginConfig::CredentialsFile(Credential::File(absolute(&path.into())));
        self.edit(|options| options.login = Some(login))
    }

    shared_options! {
        port: 4222,
        locator: "Finds the server by variables and files. The schemes `http` and `https` count as `nats` and `tls`.",
        ca: "Trusts the certificates in a file in place of the system's. The server has to use TLS.",
        client_certificate: "Presents a certificate, with its chain and its key in PEM files. The server has to use TLS.",
    }

    /// The subjects of the keys, below that of the bucket; checked, because a wrong name could mean another
    /// subject.
    fn filter(&self) -> Result<String, Error> {
        let mapping = &self.options.mapping;
        let reject = |what: &str, name: &str| {
            let detail = format!("`{name}` is not {what}");
            Err(Error::new(ErrorKind::InvalidConfig, detail).with_origin(self.origin()))
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

    fn rejection_scope(&self) -> RejectionScope {
        self.options.mapping.rejection_scope()
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
