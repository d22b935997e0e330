//! The key-value store of NATS JetStream: a consumer of a bucket's stream.
//!
//! `link` is what is asked of JetStream on one connection (`client`), which begins in `connect` and
//! speaks as `wire` says.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::lock::Mutex;
use rustls::ClientConfig;
use tokio::runtime;
use tokio::sync::Notify;
use tokio::time::{self, Instant, MissedTickBehavior};

use crate::error::{Error, ErrorKind};
use crate::format::MAX_DOCUMENT_BYTES;
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
use crate::sources::nats::connect::{Address, Login};
use crate::sources::nats::link::{Bucket, Change, Feed, Link, MAX_READ, News, Value};
use crate::sources::trust::{Credential, Files};
use crate::value::document::Document;
use crate::value::origin::Origin;
use crate::value::secret::Secret;

mod client;
mod connect;
mod link;
mod wire;

const KIND: &str = "nats";
/// Where a server is by default.
const ADDRESS: &str = "nats://127.0.0.1:4222";

/// How long it may take to read everything.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How long a consumer is waited for at first; then another one is, for twice that.
const CREATED: Duration = Duration::from_millis(900);
/// How long a bucket is doubted that is older than it was.
const DOUBTED: Duration = Duration::from_secs(10);
/// By how much the pauses grow before another consumer is made, while they are placed on members that
/// do not lead.
const PLACED: Duration = Duration::from_millis(5);
/// The longest time without a sign of life: two beats are missed, and then nobody answers.
const SILENT: Duration = Duration::from_millis(5500);
/// How long the servers of a cluster may take to elect a leader, and how often they are asked in that
/// time without a pause.
const ELECTION: Duration = Duration::from_secs(10);
const TRIES: u32 = 8;
/// How often is looked for what goes without a word.
const LOOK: Duration = Duration::from_secs(4);
/// How often everything is read again at least, while anything changes in the bucket.
const AGAIN: Duration = Duration::from_secs(60);
/// How often is looked for a bucket that is not there.
const MISSING: Duration = Duration::from_millis(500);
/// The shortest time from one update to the next.
const PAUSE: Duration = Duration::from_millis(100);
/// How long is waited for the rest of what has begun to come.
const TOGETHER: Duration = Duration::from_secs(1);
/// So many consumers of lost connections are remembered, to be deleted.
const MAX_LEFT: usize = 16;

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
/// and 32 bytes. Needs NATS 2.9 or newer, and from its account `STREAM.INFO`, `CONSUMER.CREATE` and
/// `CONSUMER.DELETE` of the bucket's stream, `KV_` and its name; it publishes to `$JS.FC.>` besides,
/// and subscribes to `_INBOX.>`. Nothing is ever written to a bucket, and none is made.
///
/// An error of the store, whatever it is, takes nothing away: after each the next of several
/// addresses is asked, with growing pauses, and everything is read anew. A bucket that is not there
/// is empty, and picked up when it is made. That most keys are gone is held; see [`Guard`](crate::source::Guard).
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

/// What the store holds, and of which bucket that is.
struct Memory {
    mirror: Mirror,
    created: String,
    /// Since when what is read is older than that.
    doubted: Option<Instant>,
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
            Err(Error::new(ErrorKind::Other, detail).with_origin(self.origin()))
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
        Ok(match mapping.is_document() {
            true => below.to_owned(),
            false => format!("{below}>"),
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
                Login::of_credentials(&text)
                    .ok_or_else(|| Error::new(ErrorKind::Other, format!("{what} holds none")))?
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

    /// Everything there is, as it goes into the mirror, and the feed that brought it.
    async fn read_all(
        &self,
        link: &Link,
        known: &mut Bucket,
        filter: &str,
    ) -> Result<(Feed, Vec<Change>), Error> {
        let mut late = None;
        let read = async {
            let mut limit = CREATED;
            let mut pause = Duration::ZERO;
            let mut again = false;
            loop {
                if std::mem::replace(&mut again, true) {
                    // Another member may lead by now.
                    time::sleep(pause).await;
                    let now = link.bucket(&self.options.bucket).await?;
                    *known = now.ok_or_else(|| {
                        Error::new(ErrorKind::Unavailable, "the bucket has just been deleted")
                    })?;
                }
                let feed = link.feed(&self.options.bucket, known, filter, limit);
                let mut feed = match feed.await {
                    // A cluster may give it to a member that has just died, or elects a leader and
                    // hears nobody: another one may be made.
                    Err(error) if error.kind() == ErrorKind::Timeout => {
                        late = Some(error);
                        limit *= 2;
                        continue;
                    }
                    feed => feed?,
                };
                if let Some(fault) = feed.fault() {
                    self.give_up(feed).await;
                    late = Some(fault);
                    pause = (pause + PLACED).min(10 * PLACED);
                    continue;
                }
                late = None;
                match feed.all(link, known).await {
                    Ok(Some(all)) => return Ok((feed, all)),
                    Ok(None) => self.give_up(feed).await,
                    Err(error) => {
                        self.give_up(feed).await;
                        return Err(error);
                    }
                }
            }
        };
        match time::timeout(TIMEOUT, read).await {
            Ok(outcome) => outcome,
            Err(_) => Err(late.unwrap_or_else(|| {
                let detail = format!(
                    "given up before everything was read: the timeout of {TIMEOUT:?} is over"
                );
                Error::new(ErrorKind::Timeout, detail)
            })),
        }
    }

    /// Ends a feed. A consumer that cannot be deleted now is deleted when that is possible.
    async fn give_up(&self, feed: Feed) {
        let consumer = feed.consumer().to_owned();
        if !feed.end().await {
            let mut left = self.left.lock();
            if left.len() < MAX_LEFT {
                left.push(consumer);
            }
        }
    }

    /// Follows the bucket on one connection until something is wrong with that.
    async fn follow(
        &self,
        link: &Link,
        filter: &str,
        mut bucket: Option<Bucket>,
        current: &mut Option<Feed>,
        memory: &mut Memory,
        updates: &Updates,
    ) -> Result<(), Error> {
        let mut first = true;
        loop {
            let begun = Instant::now();
            let revision = match &mut bucket {
                None => {
                    updates.degraded(None);
                    memory.mirror.replace([]);
                    0
                }
                Some(known) => {
                    updates.degraded(known.warning(LOOK));
                    let (feed, all) = self.read_all(link, known, filter).await?;
                    if let Some(old) = current.replace(feed) {
                        self.give_up(old).await;
                    }
                    let newest = all.iter().map(|change| change.revision).max();
                    memory.replace(known, &all)?;
                    newest.unwrap_or_default().max(known.last)
                }
            };
            self.send(
                &mut memory.mirror,
                updates,
                revision,
                std::mem::take(&mut first),
            );
            bucket = match (bucket, current.as_mut()) {
                (Some(known), Some(feed)) => {
                    feed.listen_again();
                    let mirror = &mut memory.mirror;
                    let now = self.live(link, feed, known, mirror, updates).await?;
                    // What is wrong may be so again at once.
                    time::sleep_until(begun + MISSING).await;
                    now
                }
                _ => {
                    time::sleep(MISSING).await;
                    link.bucket(&self.options.bucket).await?
                }
            };
        }
    }

    /// Tells of what the feed brings, until everything has to be read again; with what is known of
    /// the bucket then.
    async fn live(
        &self,
        link: &Link,
        feed: &mut Feed,
        mut known: Bucket,
        mirror: &mut Mirror,
        updates: &Updates,
    ) -> Result<Option<Bucket>, Error> {
        let begun = Instant::now();
        let mut sent = begun;
        let mut changed = false;
        let mut look = time::interval_at(begun + about(LOOK), LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let news = tokio::select! {
                biased;
                _ = look.tick() => None,
                news = feed.next() => Some(news?),
            };
            let first = match news {
                Some(News::Change(change)) => change,
                Some(News::Calm) => {
                    // A document that is broken is so still.
                    self.send(mirror, updates, known.last, false);
                    continue;
                }
                Some(News::Doubt) => return link.bucket(&self.options.bucket).await,
                None => {
                    let Some(now) = link.bucket(&self.options.bucket).await? else {
                        return Ok(None);
                    };
                    changed |= now != known;
                    if now.doubts(&known) || changed && begun.elapsed() > AGAIN {
                        return Ok(Some(now));
                    }
                    known = now;
                    continue;
                }
            };
            let (changes, whole) = self.gather(feed, first, sent + PAUSE).await?;
            for change in &changes {
                match change.value() {
                    Value::Set(bytes) => mirror.put(&entry(change, bytes)),
                    Value::Deleted => mirror.delete(&change.key),
                    Value::TooLarge(length) => mirror.refuse(&change.key, too_large(*length)),
                }
            }
            let revision = changes.last().map_or(0, |change| change.revision);
            self.send(mirror, updates, revision, false);
            if !whole || mirror.wants_all() {
                return link.bucket(&self.options.bucket).await;
            }
            sent = Instant::now();
            feed.listen_again();
        }
    }

    /// A change and those that come with it, and whether nothing was missed.
    async fn gather(
        &self,
        feed: &mut Feed,
        first: Change,
        until: Instant,
    ) -> Result<(Vec<Change>, bool), Error> {
        let limit = Instant::now() + TOGETHER;
        let mut bytes = first.bytes();
        let mut changes = vec![first];
        loop {
            if bytes > MAX_READ {
                return Ok((changes, true));
            }
            let until = match changes.last() {
                Some(last) if last.pending > 0 => limit,
                // The end of a batch may be a key that is not asked for.
                Some(last) if last.goes_on() => until.max(Instant::now() + PAUSE),
                _ => until,
            };
            // What is here already is taken in any case.
            let news = match feed.ready() {
                Some(news) => news,
                None if Instant::now() >= until => return Ok((changes, true)),
                None => match time::timeout_at(until, feed.next()).await {
                    Ok(news) => news,
                    Err(_) => return Ok((changes, true)),
                },
            };
            match news? {
                News::Change(change) => {
                    bytes += change.bytes();
                    changes.push(change);
                }
                News::Calm => {}
                News::Doubt => return Ok((changes, false)),
            }
            if Instant::now() > limit {
                return Ok((changes, true));
            }
        }
    }

    /// Runs a call with what the one before has left.
    fn with_memory<R>(&self, run: impl FnOnce(&mut Memory) -> R) -> R {
        let make = || Memory::new(self.options.mapping.clone());
        self.memory.with(make, run)
    }

    /// Follows the bucket on one connection, or on several one after the other.
    fn watch_all(&self, memory: &mut Memory, updates: &Updates) -> Result<(), Error> {
        let filter = self.filter()?;
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        updates.on_stop(move || stopped.notify_one());
        run(async {
            let mut tries = 0;
            loop {
                let begun = Instant::now();
                let outcome = self.watch_one(&stop, &filter, memory, updates).await;
                let outcome = outcome.inspect_err(|_| self.options.endpoints.next());
                if begun.elapsed() > ELECTION {
                    tries = 0;
                }
                match outcome {
                    // A cluster that elects a leader says nothing, and that took its time already.
                    Err(error)
                        if error.kind() == ErrorKind::Timeout
                            && self.options.endpoints.count() > 1
                            && tries < TRIES =>
                    {
                        tries += 1;
                        updates.failed(error);
                    }
                    outcome => return outcome,
                }
            }
        })
    }

    /// Follows the bucket on one connection.
    async fn watch_one(
        &self,
        stop: &Notify,
        filter: &str,
        memory: &mut Memory,
        updates: &Updates,
    ) -> Result<(), Error> {
        let Connected {
            link,
            bucket,
            place,
        } = tokio::select! {
            biased;
            () = stop.notified() => return Ok(()),
            link = self.connect_any() => link?,
        };
        updates.located(place);
        let mut feed = None;
        let outcome = tokio::select! {
            biased;
            () = stop.notified() => Ok(()),
            error = link.ended() => Err(error),
            outcome = self.follow(&link, filter, bucket, &mut feed, memory, updates) => outcome,
        };
        if let Some(feed) = feed {
            self.give_up(feed).await;
        }
        outcome.map_err(|error| match error.origin() {
            None => error.with_origin(self.origin()),
            Some(_) => error,
        })
    }

    /// Hands over what is new in the mirror, or all of it.
    fn send(&self, mirror: &mut Mirror, updates: &Updates, revision: u64, all: bool) {
        let revision = revision.to_string();
        let update = match all {
            true => mirror.whole(revision).map(|all| Some(Update::full(all))),
            false => mirror.update(revision),
        };
        kv::tell(update, updates);
    }
}

impl Memory {
    fn new(mapping: Mapping) -> Self {
        Self {
            mirror: Mirror::new(mapping),
            created: String::new(),
            doubted: None,
        }
    }

    /// This is all there is, unless that is doubted.
    fn replace(&mut self, known: &Bucket, all: &[Change]) -> Result<(), Error> {
        let read = all
            .iter()
            .map(|change| (change.key.as_str(), change.revision));
        self.check(&known.created, known.last, read)?;
        let large: BTreeMap<&str, usize> = all.iter().filter_map(large).collect();
        self.mirror
            .replace_but(entries(all), |key| large.contains_key(key));
        for (key, length) in large {
            self.mirror.refuse(key, too_large(length));
        }
        Ok(())
    }

    /// Doubts what is older than what is held of the same bucket: whoever said so may be behind. If
    /// that goes on it is so, as after a newest value was deleted by its revision; and a bucket
    /// that ends before what is held was restored.
    fn check<'a>(
        &mut self,
        created: &str,
        last: u64,
        mut read: impl Iterator<Item = (&'a str, u64)>,
    ) -> Result<(), Error> {
        let older = read.find(|(key, revision)| {
            let held = self.mirror.revision_of(key).unwrap_or_default();
            held > *revision && held <= last
        });
        if let Some((key, revision)) = older.filter(|_| self.created == created) {
            if self.doubted.get_or_insert_with(Instant::now).elapsed() < DOUBTED {
                let detail = format!(
                    "`{key}` was read at revision {revision}, which is older than what is known of \
                     it: the server may be behind"
                );
                return Err(Error::new(ErrorKind::Unavailable, detail));
            }
        }
        self.doubted = None;
        created.clone_into(&mut self.created);
        Ok(())
    }
}

fn entry<'a>(change: &'a Change, bytes: &'a [u8]) -> Entry<'a> {
    Entry {
        key: &change.key,
        bytes,
        revision: change.revision,
    }
}

fn entries(all: &[Change]) -> impl Iterator<Item = Entry<'_>> {
    all.iter().filter_map(|change| match change.value() {
        Value::Set(bytes) => Some(entry(change, bytes)),
        Value::Deleted | Value::TooLarge(_) => None,
    })
}

fn large(change: &Change) -> Option<(&str, usize)> {
    match change.value() {
        Value::TooLarge(length) => Some((&change.key, *length)),
        Value::Set(_) | Value::Deleted => None,
    }
}

fn too_large(length: usize) -> Error {
    let detail = format!("{length} bytes are more than {MAX_DOCUMENT_BYTES}");
    Error::new(ErrorKind::TooLarge, detail)
}

/// An address without what may be secret in it.
fn shown(address: &str) -> String {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), address),
    };
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    match scheme.contains('@') {
        true => host.to_owned(),
        false => format!("{scheme}{host}"),
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
            let read = self.read_all(&link, &mut bucket, &filter).await;
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

    fn watch(&self, updates: &Updates) -> Result<(), Error> {
        self.with_memory(|memory| self.watch_all(memory, updates))
    }

    fn refusal(&self) -> Refusal {
        self.options.mapping.refusal()
    }

    fn timing(&self) -> Timing {
        Timing::new().timeout(TIMEOUT).silence(SILENT)
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

    #[test]
    fn what_is_older_than_it_was_is_doubted_for_a_while() {
        let mut memory = Memory::new(Mapping::prefix(KIND, '.', "b"));
        memory.check("then", 9, [].into_iter()).unwrap();
        memory.mirror.put(&Entry {
            key: "b.n",
            bytes: b"1",
            revision: 5,
        });
        let mut read = |created: &str, last, revision| {
            let read = [("b.other", 1), ("b.n", revision)].into_iter();
            let fine = memory.check(created, last, read).is_ok();
            if let Some(since) = &mut memory.doubted {
                *since -= DOUBTED / 3;
            }
            fine
        };
        assert!(read("then", 9, 5));
        assert!(!read("then", 9, 4));
        // It was behind, and is not any more.
        assert!(read("then", 9, 5));
        // Or it is so.
        assert!(!read("then", 9, 4) && !read("then", 9, 4) && !read("then", 9, 4));
        assert!(read("then", 9, 4));
        // Restored.
        assert!(read("then", 4, 4));
        // Made anew.
        assert!(read("now", 9, 4));
    }
}
