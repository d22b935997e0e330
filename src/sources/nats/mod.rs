//! The key-value store of NATS JetStream: a consumer of a bucket's stream.
//!
//! `follow` reads a bucket and follows it, into what is known of it (`memory`). `link` is what is asked
//! of JetStream on one connection (`client`), which begins in `connect` and speaks as `wire` says.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::lock::Mutex;
use rustls::ClientConfig;
use tokio::runtime;

use crate::error::{Error, ErrorKind};
use crate::source::{Credentials, Policy, Refusal, Scope, Source, SourceContext, Timing, Watching};
use crate::sources::fs::watch::absolute;
use crate::sources::nats::connect::{Address, Login};
use crate::sources::nats::follow::{LONGEST, Progress, TIMEOUT};
use crate::sources::nats::link::{Bucket, Link};
use crate::sources::nats::memory::Memory;
use crate::sources::shared::kv;
use crate::sources::shared::kv::endpoints::{Endpoints, named};
use crate::sources::shared::kv::mapping::Mapping;
use crate::sources::shared::kv::options::shared_options;
use crate::sources::shared::kv::slot::Slot;
use crate::sources::shared::tls::{Credential, Files};
use crate::value::document::Document;
use crate::value::origin::Origin;
use crate::value::secret::Secret;

mod client;
mod connect;
mod follow;
mod link;
mod memory;
mod wire;

const KIND: &str = "nats";
/// Where a server is by default.
const ADDRESS: &str = "nats://127.0.0.1:4222";

/// The longest time without a sign of life: two beats are missed, and then nobody answers.
const SILENT: Duration = Duration::from_millis(5500);

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
    /// The consumers of connections that were lost.
    left: Mutex<Vec<String>>,
}

#[derive(Clone)]
struct Options {
    bucket: String,
    mapping: Mapping,
    endpoints: Endpoints,
    domain: Option<String>,
    login: Option<Given>,
    tls: Files,
    credentials: Credentials,
}

/// Who one is, as it was given.
#[derive(Clone)]
enum Given {
    Token(Credential),
    User(String, Credential),
    Key(Credential),
    File(Credential),
}

/// A connection, what its server knows of the bucket, and where that is.
struct Connected {
    link: Link,
    bucket: Option<Bucket>,
    place: String,
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
            left: Mutex::default(),
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
        let login = Given::Token(Credential::Given(token.into()));
        self.edit(|options| options.login = Some(login))
    }

    /// Shows the token that a file holds, which is read anew for each connection: a token that is
    /// rotated there needs no restart.
    #[must_use]
    pub fn token_file(self, path: impl Into<PathBuf>) -> Self {
        let login = Given::Token(Credential::File(absolute(&path.into())));
        self.edit(|options| options.login = Some(login))
    }

    /// Shows a user and a password.
    #[must_use]
    pub fn user(self, name: impl Into<String>, password: impl Into<Secret<String>>) -> Self {
        let login = Given::User(name.into(), Credential::Given(password.into()));
        self.edit(|options| options.login = Some(login))
    }

    /// Shows a user and the password that a file holds, which is read anew for each connection.
    #[must_use]
    pub fn user_file(self, name: impl Into<String>, password: impl Into<PathBuf>) -> Self {
        let password = Credential::File(absolute(&password.into()));
        let login = Given::User(name.into(), password);
        self.edit(|options| options.login = Some(login))
    }

    /// Signs with the seed of an NKey that a file holds, which is read anew for each connection.
    #[must_use]
    pub fn nkey_file(self, path: impl Into<PathBuf>) -> Self {
        let login = Given::Key(Credential::File(absolute(&path.into())));
        self.edit(|options| options.login = Some(login))
    }

    /// Signs with the seed of an NKey.
    #[must_use]
    pub fn nkey(self, seed: impl Into<Secret<String>>) -> Self {
        let login = Given::Key(Credential::Given(seed.into()));
        self.edit(|options| options.login = Some(login))
    }

    /// Shows the JWT of a file of credentials and signs with its seed. The file is read anew for
    /// each connection.
    #[must_use]
    pub fn credentials_file(self, path: impl Into<PathBuf>) -> Self {
        let login = Given::File(Credential::File(absolute(&path.into())));
        self.edit(|options| options.login = Some(login))
    }

    shared_options! {
        port: 4222,
        locator: "Finds the server by variables and files. The schemes `http` and `https` count as `nats` and `tls`.",
        ca: "Trusts the certificates in a file in place of the system's. The server has to speak TLS.",
        client_certificate: "Shows a certificate, with its chain and its key in files of PEM. The server has to speak TLS.",
    }

    /// Which keys of the bucket are asked for, checked: a wrong name could mean another subject.
    fn filter(&self) -> Result<String, Error> {
        let mapping = &self.options.mapping;
        let refuse = |what: &str, name: &str| {
            let detail = format!("`{name}` is not {what}");
            Err(Error::new(ErrorKind::InvalidConfig, detail).with_origin(self.origin()))
        };
        let bucket = &self.options.bucket;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if bucket.is_empty() || !bucket.chars().all(plain) {
            return refuse("the name of a bucket", bucket);
        }
        let wanted = mapping.wanted();
        let names = wanted.strip_suffix('.').unwrap_or(wanted).split('.');
        let good = |c: char| plain(c) || "/=".contains(c);
        if names
            .into_iter()
            .any(|name| name.is_empty() || !name.chars().all(good))
        {
            return refuse("a key that a bucket may hold", wanted);
        }
        if let Some(domain) = &self.options.domain {
            if domain.is_empty() || !domain.chars().all(plain) {
                return refuse("the name of a domain", domain);
            }
        }
        let below = wanted.split_once('.').map_or("", |(_, below)| below);
        Ok(if mapping.is_document() {
            below.to_owned()
        } else {
            format!("{below}>")
        })
    }

    /// Who one is, as of now.
    fn login(&self) -> Result<Option<Login>, Error> {
        let Some(given) = &self.options.login else {
            return Ok(None);
        };
        let credentials = &self.options.credentials;
        Ok(Some(match given {
            Given::Token(token) => {
                let token = token.read("the token")?;
                credentials.add(&token);
                Login::of_token(token.trim().to_owned())
            }
            Given::User(name, password) => {
                let password = password.read("the password")?;
                credentials.add_login(name, &password);
                Login::of_user(name.clone(), password)
            }
            Given::Key(seed) => {
                let seed = seed.read("the seed")?;
                credentials.add(&seed);
                Login::of_seed(&seed)?
            }
            Given::File(file) => {
                let what = "the file of credentials";
                let text = file.read(what)?;
                let secrets = text.lines().filter(|line| !line.starts_with('-'));
                secrets.for_each(|line| credentials.add(line));
                // What is wrong with it is not told: that could quote it.
                Login::of_credentials(&text).ok_or_else(|| {
                    Error::new(ErrorKind::InvalidConfig, format!("{what} holds none"))
                })?
            }
        }))
    }

    /// What a connection is encrypted with, if it is.
    fn encryption(&self, asked: bool) -> Result<ClientConfig, Error> {
        self.options.tls.read()?.config(|roots| {
            if asked {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
            }
        })
    }

    /// A connection to the server whose turn it is, and what that knows of the bucket.
    async fn connect(&self) -> Result<Connected, Error> {
        let server = self.options.endpoints.current()?;
        let place = server.place(shown);
        let connect = async {
            let (address, login) = Address::parse(&server.address)?;
            let login = self.login()?.or(login).unwrap_or_default();
            // A server may want TLS unasked, of which one has to know whom to trust.
            let asked = self.options.tls.any() || address.tls;
            let tls = Arc::new(self.encryption(asked)?);
            let connection = connect::connect(&address, &login, &tls, asked).await?;
            let link = Link::new(connection, self.options.domain.as_deref());
            let bucket = link.bucket(&self.options.bucket).await?;
            Ok((link, bucket))
        };
        connect
            .await
            .map(|(link, bucket)| Connected {
                link,
                bucket,
                place: place.clone(),
            })
            .map_err(|error| named(error, &self.origin(), &place))
            .inspect_err(|_| self.options.endpoints.next())
    }

    /// A connection to the first server that answers.
    async fn connect_any(&self) -> Result<Connected, Error> {
        let mut outcome = self.connect().await;
        for _ in 1..self.options.endpoints.count() {
            if outcome.is_ok() {
                break;
            }
            outcome = self.connect().await;
        }
        let connected = outcome?;
        let left = std::mem::take(&mut *self.left.lock());
        connected.link.delete(left).await;
        Ok(connected)
    }

    /// Runs a call with what the one before has left.
    fn with_memory<R>(&self, run: impl FnOnce(&mut Memory) -> R) -> R {
        let make = || Memory::new(self.options.mapping.clone());
        self.memory.with(make, run)
    }
}

/// An address without what may be secret in it.
fn shown(address: &str) -> String {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), address),
    };
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.contains('@') {
        host.to_owned()
    } else {
        format!("{scheme}{host}")
    }
}

/// Runs on this thread alone, and leaves nothing behind.
fn run<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|fault| {
        let detail = format!("no runtime can be had: {fault}");
        Error::new(ErrorKind::Unavailable, detail)
    })?;
    let outcome = runtime.block_on(work);
    // A name that is being looked up would be waited for.
    runtime.shutdown_background();
    outcome
}

/// With memory of its own: what one has told says nothing of what another has.
impl Clone for Nats {
    fn clone(&self) -> Self {
        Self::with_options(self.options.clone())
    }
}

impl Source for Nats {
    fn origin(&self) -> Origin {
        Origin::new(KIND, self.options.mapping.wanted())
    }

    fn load(&self) -> Result<Document, Error> {
        let filter = self.filter()?;
        let loaded = run(async {
            let Connected { link, bucket, .. } = self.connect_any().await?;
            let Some(mut bucket) = bucket else {
                return self.with_memory(|memory| {
                    memory.mirror.replace([]);
                    memory.mirror.whole("0")
                });
            };
            let progress = Progress::new(&|| {});
            let read = self.read_all(&link, &mut bucket, &filter, &progress).await;
            let (feed, all) = read.map_err(|error| error.with_origin(self.origin()))?;
            self.give_up(feed).await;
            let newest = all.iter().map(|change| change.revision).max();
            let revision = newest.unwrap_or_default().max(bucket.last);
            self.with_memory(|memory| {
                let replaced = memory.replace(&bucket, &all);
                replaced.map_err(|error| error.with_origin(self.origin()))?;
                memory.mirror.whole(revision.to_string())
            })
        });
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
            .timeout(TIMEOUT)
            .first_load(LONGEST)
            .heartbeat_timeout(SILENT)
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
        let login = match &self.options.login {
            None => "none",
            Some(Given::Token(_)) => "token",
            Some(Given::User(..)) => "user",
            Some(Given::Key(_)) => "nkey",
            Some(Given::File(_)) => "file",
        };
        f.debug_struct("Nats")
            .field("keys", &self.options.mapping.wanted())
            .field("login", &login)
            .field("tls", &self.options.tls)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_who_one_is() {
        assert!(!shown("s3cret@h://x").contains("s3cret"));
        assert_eq!(shown("tls://me:pw@h:1"), "tls://h:1");
        assert_eq!(shown("nats://t0ken@h"), "nats://h");
    }
}
