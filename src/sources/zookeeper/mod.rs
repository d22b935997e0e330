//! ZooKeeper's tree: one watch of all of it, and a reading of what it tells of.
//!
//! The watch is persistent and recursive, and set before the tree is read. All that it tells of one
//! transaction comes before the answer to any question that is answered after that transaction. So
//! what was read is one state of the tree as soon as nothing more was told while it was read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::time::{Duration, Instant};

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
use crate::value::document::Document;
use crate::value::origin::Origin;
use crate::value::secret::Secret;

mod address;
mod tls;
mod wire;

use address::Address;
use tls::Ready;
use wire::{Answer, Ask, Server, Session, Stop};

const KIND: &str = "zookeeper";
/// Where a server is by default.
const ADDRESS: &str = "127.0.0.1:2181";

/// How long it may take to connect, and with that to read everything.
const CONNECT: Duration = Duration::from_millis(1500);
const TIMEOUT: Duration = Duration::from_millis(3500);
/// How long a watch may tell of nothing at most before the server is asked for a sign of life.
const HEARTBEAT: Duration = Duration::from_millis(1500);
/// How long it may take for an answer to come.
const LATE: Duration = Duration::from_secs(2);
/// How long more changes are waited for that may belong to the first.
const SETTLE: Duration = Duration::from_millis(500);
/// The shortest time from one update to the next.
const PAUSE: Duration = Duration::from_millis(20);
/// A server that was lost after less than this is not replaced by another at once.
const HEALTHY: Duration = Duration::from_secs(1);

/// So many bytes of a tree are read at most, and so many nodes that may not be read are asked for
/// again.
const MAX_TREE: usize = 32 << 20;
const MAX_HIDDEN: usize = 100;

/// Nodes below a path, or a document in one node, of ZooKeeper's tree.
///
/// The node `/config/checkout/ratelimit/qps` below the prefix `config/checkout` is the property
/// `ratelimit.qps`. A change is seen as it happens. All that one transaction (`multi`) of the store
/// changed is one generation, unless other changes come without a break for half a second; what is
/// deleted there lets weaker layers show. A node without data is a folder, and no property. A node
/// that has both data and children says two things: its children count, and its data are reported as
/// a problem. A value that is not UTF-8 or over 1 MiB (ZooKeeper itself takes 1 MB by default) is
/// refused alone, and so is a node that may not be read; all together may hold
/// 10 MiB, each key counting its name, its value and 32 bytes. The path need not be there yet.
///
/// An error of the store, whatever it is, takes nothing away: with growing pauses a new session is
/// begun, the watch is set anew and everything is read again. A server that says nothing for 3.5
/// seconds counts as lost. Of several servers the next one is asked when one fails. That most nodes
/// are gone is held; see [`Guard`](crate::source::Guard).
///
/// The server has to be 3.6 or newer. What is sent is one `addWatch`, reads, and a `sync` where
/// nothing has happened for 1.5 seconds; nothing is ever written. Logging in by SASL is not possible. A
/// change of a node's ACL alone is not told by the store: a node that may be read again is found within
/// two seconds in which nothing else happens, of a hundred such nodes at the most; one that may no longer
/// be read keeps its value until it changes.
///
/// ```
/// use liveprops::{Source, Watching, sources::ZooKeeper};
///
/// let zookeeper = ZooKeeper::prefix("config/checkout")
///     .address("zk1.example.com:2281,zk2.example.com:2281/production")
///     .digest("checkout", "b1gs33cr3t".to_owned())
///     .ca("/etc/ssl/zookeeper.pem");
/// assert_eq!(zookeeper.watching(), Watching::Stream);
/// assert_eq!(zookeeper.origin().to_string(), "zookeeper config/checkout/");
/// ```
pub struct ZooKeeper {
    options: Options,
    /// What the store holds.
    mirror: Slot<Mirror>,
}

#[derive(Clone)]
struct Options {
    mapping: Mapping,
    endpoints: Endpoints,
    /// User and password, with a colon between them.
    digest: Option<Credential>,
    /// Whether TLS is wanted; it is in any case where there are files for it.
    encrypted: bool,
    tls: Files,
    credentials: Credentials,
}

impl ZooKeeper {
    /// All nodes below a path, which ends at a slash: `app` is `/app/`, never `/apple`.
    pub fn prefix(prefix: impl AsRef<str>) -> Self {
        Self::of(Mapping::prefix(KIND, '/', prefix.as_ref()))
    }

    /// One node that holds a document; its format is that of its extension, or given.
    pub fn document(path: impl AsRef<str>) -> Self {
        Self::of(Mapping::document(KIND, '/', path.as_ref()))
    }

    /// The prefixes of a scope below this one, the weakest first: `common`, `common-prod`, `checkout`,
    /// `checkout-prod`. Each has the options that are set by now, but for documents.
    ///
    /// ```
    /// use liveprops::source::Scope;
    /// use liveprops::{Source, sources::ZooKeeper};
    ///
    /// let scope = Scope::app("checkout");
    /// let layers = ZooKeeper::prefix("config").ca("/etc/ssl/zookeeper.pem").of_scope(&scope)?;
    /// let origins: Vec<String> = layers.iter().map(|it| it.origin().to_string()).collect();
    /// assert_eq!(origins, ["zookeeper config/common/", "zookeeper config/checkout/"]);
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
        Self::with_options(Options {
            mapping,
            endpoints: Endpoints::one(ADDRESS),
            digest: None,
            encrypted: false,
            tls: Files::default(),
            credentials: Credentials::new(),
        })
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

    /// Sets where the servers are, as ZooKeeper's own clients take it: `zk1:2181,zk2:2181/chroot`.
    /// A port that is left out is 2181; the default is `127.0.0.1:2181`. `tls://` before the first
    /// has all spoken to by TLS.
    #[must_use]
    pub fn address(self, servers: impl Into<String>) -> Self {
        self.addresses([servers])
    }

    /// Sets several addresses, any of which will do: the next is asked when one fails. If one is to be
    /// spoken to by TLS, all are.
    #[must_use]
    pub fn addresses<U: Into<String>>(self, servers: impl IntoIterator<Item = U>) -> Self {
        let mut servers: Vec<String> = servers
            .into_iter()
            .flat_map(|some| address::split(&some.into()))
            .collect();
        // Not every program is to begin with the same one.
        let turn = RandomState::new().build_hasher().finish() as usize;
        let count = servers.len().max(1);
        servers.rotate_left(turn % count);
        let is_encrypted = |one: &String| Address::parse(one).is_ok_and(|one| one.tls);
        let encrypted = servers.iter().any(is_encrypted);
        self.edit(|options| {
            options.encrypted |= encrypted;
            options.endpoints = Endpoints::all(servers);
        })
    }

    /// Sends a user's name and password, at the begin of each session. They are as open to a
    /// listener as the connection is: use TLS.
    #[must_use]
    pub fn digest(self, user: impl Into<String>, password: impl Into<Secret<String>>) -> Self {
        let digest = format!("{}:{}", user.into(), password.into().expose());
        let digest = Credential::Given(digest.into());
        self.edit(|options| options.digest = Some(digest))
    }

    /// Sends what a file holds, `user:password`, which is read anew for each session.
    #[must_use]
    pub fn digest_file(self, path: impl Into<PathBuf>) -> Self {
        let digest = Credential::File(absolute(&path.into()));
        self.edit(|options| options.digest = Some(digest))
    }

    /// Speaks TLS, and trusts Mozilla's roots.
    #[must_use]
    pub fn tls(self) -> Self {
        self.edit(|options| options.encrypted = true)
    }

    shared_options! {
        port: 2181,
        locator: "Finds the server by variables and files. The schemes `https` and `tls` mean TLS, `http` and `tcp` none.",
        ca: "Speaks TLS, and trusts the certificates in a file in place of Mozilla's roots.",
        client_certificate: "Speaks TLS, and shows a certificate, with its chain and its key in files of PEM.",
    }

    fn read_digest(&self) -> Result<Option<String>, Error> {
        let Some(digest) = &self.options.digest else {
            return Ok(None);
        };
        let digest = digest.read("the file of the digest")?;
        match digest.split_once(':') {
            Some((user, password)) => self.options.credentials.add_login(user, password),
            None => self.options.credentials.add(&digest),
        }
        Ok(Some(digest))
    }

    /// Begins a session with the server whose turn it is, and reads everything.
    fn open(&self, stop: &Stop, mirror: &mut Mirror) -> Result<Open, Error> {
        let mut begin = || -> Result<Open, Error> {
            let begun = Instant::now();
            let endpoint = self.options.endpoints.current()?;
            let address = Address::parse(&endpoint.address)?;
            let place = endpoint.place(|_| address.to_string());
            let encrypted = address.tls || self.options.encrypted || self.options.tls.any();
            let tls = encrypted
                .then(|| Ready::of(&self.options.tls))
                .transpose()?;
            let server = Server {
                host: &address.host,
                port: address.port,
                tls,
                digest: self.read_digest()?,
            };
            let opened = || -> Result<Open, Error> {
                let session = Session::open(server, stop, begun + CONNECT)?;
                let root = Root::of(&self.options.mapping, &address.chroot);
                let mut open = Open {
                    session,
                    root,
                    place: place.clone(),
                    hidden: BTreeSet::new(),
                };
                open.read_all(mirror, begun + TIMEOUT)?;
                Ok(open)
            };
            opened().map_err(|error| named(error, &self.origin(), &place))
        };
        begin().map_err(|error| {
            self.options.endpoints.next();
            match error.origin() {
                None => error.with_origin(self.origin()),
                Some(_) => error,
            }
        })
    }

    /// Runs a call with what the one before has left.
    fn with_mirror<R>(&self, run: impl FnOnce(&mut Mirror) -> R) -> R {
        let make = || Mirror::new(self.options.mapping.clone());
        self.mirror.with(make, run)
    }

    /// Follows the tree in one session, or in several one after the other.
    fn watch_all(&self, mirror: &mut Mirror, updates: &Updates) -> Result<(), Error> {
        let stop = Stop::default();
        let stopped = stop.clone();
        updates.on_stop(move || stopped.end());
        loop {
            let begun = Instant::now();
            let opened = self.open_any(&stop, mirror, |error| updates.failed(error));
            let mut open = match opened {
                // It was told to end.
                Err(_) if updates.is_stopped() => return Ok(()),
                opened => opened?,
            };
            updates.located(open.place.as_str());
            let all = mirror.whole(open.session.revision());
            kv::tell(all.map(|all| Some(Update::full(all))), updates);
            let outcome = open.follow(mirror, updates);
            if updates.is_stopped() {
                open.session.close();
                return Ok(());
            }
            let Err(error) = outcome else { return Ok(()) };
            self.options.endpoints.next();
            let error = named(error, &self.origin(), &open.place);
            if self.options.endpoints.count() < 2 || begun.elapsed() < HEALTHY {
                return Err(error);
            }
            updates.failed(error);
        }
    }

    /// Begins a session with the first server that does its part.
    fn open_any(
        &self,
        stop: &Stop,
        mirror: &mut Mirror,
        mut failed: impl FnMut(Error),
    ) -> Result<Open, Error> {
        for _ in 1..self.options.endpoints.count() {
            match self.open(stop, mirror) {
                Ok(open) => return Ok(open),
                Err(error) if stop.is_ended() => return Err(error),
                Err(error) => failed(error),
            }
        }
        self.open(stop, mirror)
    }
}

/// Takes over all that was read.
fn replace(mirror: &mut Mirror, changes: &Changes) {
    let denied: Vec<&str> = changes
        .iter()
        .filter(|(_, change)| matches!(change, Change::Denied))
        .map(|(key, _)| key.as_str())
        .collect();
    let hidden = |key: &str| {
        denied.iter().any(|denied| {
            key.strip_prefix(denied)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    let entries = changes
        .iter()
        .filter_map(|(key, change)| entry(key, change));
    mirror.replace_but(entries, hidden);
    refuse(mirror, denied);
}

/// Takes over what has changed.
fn apply(mirror: &mut Mirror, changes: &Changes) {
    for (key, change) in changes {
        match entry(key, change) {
            Some(entry) => mirror.put(&entry),
            None if matches!(change, Change::Gone) => mirror.delete(key),
            None => refuse(mirror, vec![key]),
        }
    }
}

fn refuse(mirror: &mut Mirror, keys: Vec<&str>) {
    for key in keys {
        mirror.refuse(key, denied().with_origin(Origin::new(KIND, key)));
    }
}

fn denied() -> Error {
    let detail = "may not be read: check the digest, and the ACL of the node";
    Error::new(ErrorKind::Unavailable, detail)
}

/// What was read, by the keys of the mapping.
type Changes = BTreeMap<String, Change>;

enum Change {
    Set { bytes: Vec<u8>, revision: u64 },
    Gone,
    Denied,
}

impl Change {
    /// A node without data says nothing.
    fn of(bytes: Vec<u8>, revision: u64) -> Self {
        match bytes.is_empty() {
            true => Change::Gone,
            false => Change::Set { bytes, revision },
        }
    }
}

fn entry<'a>(key: &'a str, change: &'a Change) -> Option<Entry<'a>> {
    match change {
        Change::Set { bytes, revision } => Some(Entry {
            key,
            bytes,
            revision: *revision,
        }),
        Change::Gone | Change::Denied => None,
    }
}

/// Where the nodes that are meant begin.
struct Root {
    path: String,
    /// What stands before the keys of the mapping.
    before: String,
    /// Whether it is that node alone.
    alone: bool,
}

impl Root {
    fn of(mapping: &Mapping, chroot: &str) -> Self {
        let path = format!("{chroot}/{}", mapping.wanted());
        Self {
            path: match path.trim_end_matches('/') {
                "" => "/".to_owned(),
                path => path.to_owned(),
            },
            before: format!("{chroot}/"),
            alone: mapping.is_document(),
        }
    }

    /// The key of a node, if it is meant.
    fn key<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.alone && path != self.path {
            return None;
        }
        // The store's own nodes are no one's configuration, unless they are asked for.
        let own = path.strip_prefix("/zookeeper");
        if self.path == "/" && own.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return None;
        }
        path.strip_prefix(self.before.as_str())
    }

    fn child(path: &str, name: &str) -> String {
        format!("{}/{name}", path.trim_end_matches('/'))
    }
}

/// A session, and where it reads.
struct Open {
    session: Session,
    root: Root,
    /// Where its server is.
    place: String,
    /// Nodes that may not be read.
    hidden: BTreeSet<String>,
}

impl Open {
    /// Sets the watch and reads the tree.
    fn read_all(&mut self, mirror: &mut Mirror, until: Instant) -> Result<(), Error> {
        let Self {
            session,
            root,
            hidden,
            ..
        } = self;
        let start = root.path.clone();
        let questions = [
            Ask::Watch(start.clone()),
            // A server that is behind must not take the values back to what they were.
            Ask::Sync(start.clone()),
            Ask::Data(start.clone()),
        ];
        let mut tree = Changes::new();
        let mut size = 0;
        hidden.clear();
        session.ask(VecDeque::from(questions), until, |ask, answer, more| {
            match (ask, answer) {
                (
                    Ask::Data(path),
                    Answer::Data {
                        bytes,
                        revision,
                        has_children,
                    },
                ) => {
                    if has_children && !root.alone {
                        more.push_back(Ask::Children(path.clone()));
                    }
                    size += path.len() + bytes.len();
                    if size > MAX_TREE {
                        let detail = format!("the tree has more than {MAX_TREE} bytes");
                        return Err(Error::new(ErrorKind::TooLarge, detail));
                    }
                    if let Some(key) = root.key(&path) {
                        tree.insert(key.to_owned(), Change::of(bytes, revision));
                    }
                }
                (Ask::Children(path), Answer::Names(names)) => {
                    let children = names.iter().map(|name| Root::child(&path, name));
                    let ours = children.filter(|child| root.key(child).is_some());
                    more.extend(ours.map(Ask::Data));
                }
                (Ask::Data(path) | Ask::Children(path), Answer::Denied) => {
                    if path == root.path {
                        return Err(denied());
                    }
                    if let Some(key) = root.key(&path) {
                        tree.insert(key.to_owned(), Change::Denied);
                    }
                    hidden.insert(path);
                }
                (Ask::Watch(_), Answer::Denied) => return Err(denied()),
                _ => {}
            }
            Ok(())
        })?;
        self.settle(&mut tree, until)?;
        replace(mirror, &tree);
        Ok(())
    }

    /// Reads what the watch has told of, until nothing more is told meanwhile.
    fn settle(&mut self, changes: &mut Changes, until: Instant) -> Result<(), Error> {
        let Self {
            session,
            root,
            hidden,
            ..
        } = self;
        let enough = Instant::now() + SETTLE;
        while !session.told.is_empty() && Instant::now() < enough {
            let told = std::mem::take(&mut session.told).into_iter();
            let questions = told.filter(|path| root.key(path).is_some()).map(Ask::Data);
            session.ask(questions.collect(), until, |ask, answer, _| {
                let Ask::Data(path) = ask else { return Ok(()) };
                let change = match answer {
                    Answer::Data {
                        bytes, revision, ..
                    } => Change::of(bytes, revision),
                    Answer::Denied if path == root.path && root.alone => return Err(denied()),
                    Answer::Denied => {
                        hidden.insert(path.clone());
                        Change::Denied
                    }
                    _ => Change::Gone,
                };
                if let Some(key) = root.key(&path) {
                    changes.insert(key.to_owned(), change);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Asks for a sign of life; says whether all has to be read again.
    fn beat(&mut self) -> Result<bool, Error> {
        let hidden = self.hidden.iter().take(MAX_HIDDEN).cloned();
        let questions = hidden.map(Ask::Data);
        // A server that has lost the others still answers reads for a while, but not this.
        let questions = questions.chain([Ask::Sync(self.root.path.clone())]);
        let mut again = false;
        let until = Instant::now() + LATE;
        self.session
            .ask(questions.collect(), until, |ask, answer, _| {
                // No watch tells of a change of an ACL.
                again |= matches!(ask, Ask::Data(_)) && !matches!(answer, Answer::Denied);
                Ok(())
            })?;
        Ok(again)
    }

    /// Tells of what changes, until an error or the end.
    fn follow(&mut self, mirror: &mut Mirror, updates: &Updates) -> Result<(), Error> {
        loop {
            if !self.session.listen(Instant::now() + about(HEARTBEAT))? {
                if self.beat()? {
                    self.read_all(mirror, Instant::now() + TIMEOUT)?;
                }
                // A document that is broken is so still.
                self.tell(mirror, updates);
                continue;
            }
            let begun = Instant::now();
            let mut changes = Changes::new();
            self.settle(&mut changes, begun + SETTLE + LATE)?;
            apply(mirror, &changes);
            if mirror.wants_all() {
                self.read_all(mirror, Instant::now() + TIMEOUT)?;
            }
            self.tell(mirror, updates);
            if updates.wait(PAUSE.saturating_sub(begun.elapsed())) {
                return Ok(());
            }
        }
    }

    /// Sends what is new.
    fn tell(&self, mirror: &mut Mirror, updates: &Updates) {
        let update = mirror.update(self.session.revision());
        kv::tell(update, updates);
    }
}

/// With memory of its own: what one has told says nothing of what another has.
impl Clone for ZooKeeper {
    fn clone(&self) -> Self {
        Self::with_options(self.options.clone())
    }
}

impl Source for ZooKeeper {
    fn origin(&self) -> Origin {
        Origin::new(KIND, self.options.mapping.wanted())
    }

    fn load(&self) -> Result<Document, Error> {
        self.with_mirror(|mirror| {
            let opened = self.open_any(&Stop::default(), mirror, drop);
            let open = opened.map_err(|error| self.credentials().mask_error(error))?;
            let revision = open.session.revision();
            open.session.close();
            mirror.whole(revision)
        })
    }

    fn watching(&self) -> Watching {
        Watching::Stream
    }

    fn watch(&self, updates: &Updates) -> Result<(), Error> {
        self.with_mirror(|mirror| self.watch_all(mirror, updates))
    }

    fn refusal(&self) -> Refusal {
        self.options.mapping.refusal()
    }

    fn timing(&self) -> Timing {
        // It is silent for as long as it is connecting, and for a heartbeat that is answered late.
        let silence = TIMEOUT.max(HEARTBEAT + LATE) + Duration::from_secs(1);
        Timing::new()
            .timeout(TIMEOUT)
            .silence(silence)
            .settle(SETTLE)
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

impl fmt::Debug for ZooKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZooKeeper")
            .field("keys", &self.options.mapping.wanted())
            .field("digest", &self.options.digest.is_some())
            .field("tls", &self.options.tls)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_keys_below_the_root_and_the_chroot() {
        let root = |mapping: Mapping, chroot: &str| Root::of(&mapping, chroot);
        let app = root(Mapping::prefix(KIND, '/', "app"), "");
        assert_eq!(
            (app.path.as_str(), app.key("/app/a/b")),
            ("/app", Some("app/a/b"))
        );
        let app = root(Mapping::prefix(KIND, '/', "/app/"), "/prod");
        assert_eq!(
            (app.path.as_str(), app.key("/prod/app/a")),
            ("/prod/app", Some("app/a"))
        );
        assert_eq!(app.key("/app/a"), None);
        let all = root(Mapping::prefix(KIND, '/', ""), "");
        assert_eq!((all.path.as_str(), all.key("/a")), ("/", Some("a")));
        assert_eq!(all.key("/zookeeper/quota"), None);
        assert_eq!(all.key("/zookeepers"), Some("zookeepers"));
        let own = root(Mapping::prefix(KIND, '/', "zookeeper"), "");
        assert_eq!(own.key("/zookeeper/config"), Some("zookeeper/config"));
        let one = root(Mapping::document(KIND, '/', "all.toml"), "");
        assert_eq!(one.key("/all.toml"), Some("all.toml"));
        assert_eq!(one.key("/all.toml/below"), None);
        assert_eq!(Root::child("/", "a"), "/a");
        assert_eq!(Root::child("/a", "b"), "/a/b");
    }

    #[test]
    fn a_change_is_seen_within_the_budget_whatever_happens() {
        let source = ZooKeeper::prefix("app");
        let worst = source.timing().worst(source.watching()).unwrap();
        assert!(worst < Duration::from_secs(10), "{worst:?}");
    }
}
