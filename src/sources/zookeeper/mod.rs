//! ZooKeeper's tree: one watch of all of it, and reads of the nodes that it reports.
//!
//! `watch` follows the tree; `read` is one read of everything, `changes` its result, and `root` maps nodes to keys.
//! `client` is a session on one connection, established by `connect` and `tls` to an `address`; `protocol` has its
//! messages, `deadline` their deadlines, and `changed` the paths that the watch has reported.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::source::{
    Credentials, Policy, RejectionScope, Scope, Source, SourceContext, Timing, Update, Watching,
};
use crate::sources::fs::watch::absolute;
use crate::sources::shared::kv;
use crate::sources::shared::kv::endpoints::{Endpoints, named};
use crate::sources::shared::kv::mapping::Mapping;
use crate::sources::shared::kv::mirror::Mirror;
use crate::sources::shared::kv::options::shared_options;
use crate::sources::shared::kv::slot::Slot;
use crate::sources::shared::tls::{Credential, Files};
use crate::sync::random;
use crate::value::document::Document;
use crate::value::origin::Origin;
use crate::value::secret::Secret;

mod address;
mod changed;
mod changes;
mod client;
mod connect;
mod deadline;
mod protocol;
mod read;
mod root;
mod tls;
mod watch;

use address::Address;
use client::{Server, Session};
use connect::Stop;
use root::Root;
use tls::Connector;
use watch::{ANSWER_TIMEOUT, DEBOUNCE, HEARTBEAT, READ_TIMEOUT, ReadHeartbeats, Tree};

const KIND: &str = "zookeeper";
/// The default address of a server.
const ADDRESS: &str = "127.0.0.1:2181";

/// How long it may take to connect, and to connect and get a first answer.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);
const TIMEOUT: Duration = Duration::from_millis(3500);
/// A server that was lost sooner is not replaced by another at once.
const MIN_HEALTHY: Duration = Duration::from_secs(1);

/// How often everything is read again while anything in the store changes.
const RESCAN_INTERVAL: Duration = Duration::from_secs(60);
const MIN_RESCAN_INTERVAL: Duration = Duration::from_secs(1);

/// Nodes below a path, or a document in one node, of ZooKeeper's tree.
///
/// The node `/config/checkout/ratelimit/qps` below the prefix `config/checkout` is the property
/// `ratelimit.qps`. The source sees a change as it happens. All changes of one transaction (`multi`) of the store
/// are one generation, unless other changes follow without a break for half a second; a deleted node lets weaker
/// layers show. A node without data is a folder, and no property. Of a node with both data and children, the
/// children count, and the data are reported as a problem. A value that is not UTF-8 or over 1 MiB (ZooKeeper
/// itself accepts 1 MB by default) is rejected alone, and so is a node that may not be read. All keys together may
/// have 10 MiB, each counting its name, its value and 32 bytes, and there may be 150,000. The path may be missing at
/// the start.
///
/// No error of the store removes values: after growing pauses the source opens a new session, sets the watch and
/// reads everything again. A server that is silent for 3.5 seconds counts as lost. Of several servers the source uses
/// the next one when one fails. The removal guard withholds the removal of most nodes; see
/// [`RemovalGuard`](crate::source::RemovalGuard).
///
/// A tree may have 20 MiB, each node counting its path, its data and 32 bytes. The source keeps 11 MiB of one
/// message, and 4 MiB of the paths that the watch reports, after which it reads everything instead. A read of
/// everything may take 2 seconds without an answer, and 60 seconds altogether; a local server answers for about
/// 30,000 nodes a second. The start waits for
/// [`Builder::load_timeout`](crate::Builder::load_timeout) (10 seconds), so a larger tree needs more
/// there. A change during a read of more than a few seconds is seen after it, perhaps later than 10 seconds.
///
/// The server has to be 3.6 or newer. The source sends one `addWatch`, reads, and a `sync` every 1.5
/// seconds; it never writes. It cannot log in by SASL.
///
/// # Access control lists
///
/// The store sends no event for a change of an ACL, and from 3.8.4 and 3.9.2 none for a node
/// that the session may not read at that moment, not even for its deletion. So the bound of 10
/// seconds does not apply to changes that an ACL has hidden:
///
/// - A known node that may not be read is a problem of its own, and keeps its value. The source asks for 100 of
///   such nodes every 1.5 seconds, one after the other. When one is readable again, or deleted, the source reads
///   everything within a few seconds.
/// - The next read of everything finds the rest: about a minute later, or after
///   [`rescan_interval`](Self::rescan_interval). Such are nodes that were changed, created or deleted while they
///   could not be read, and values that may no longer be read.
/// - If the first node of the prefix may not be read, the source fails, and its values stay.
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
    mirror: Slot<Mirror>,
}

#[derive(Clone)]
struct Options {
    mapping: Mapping,
    endpoints: Endpoints,
    /// User and password, with a colon between them.
    digest: Option<Credential>,
    /// Whether to use TLS; files of certificates imply it.
    uses_tls: bool,
    tls: Files,
    rescan_interval: Duration,
    credentials: Credentials,
}

impl ZooKeeper {
    /// All nodes below a path, which ends at a slash: `app` is `/app/`, never `/apple`.
    pub fn prefix(prefix: impl AsRef<str>) -> Self {
        Self::of(Mapping::prefix(KIND, '/', prefix.as_ref()))
    }

    /// One node with a document, whose format follows from its extension or [`format`](Self::format).
    ///
    /// A node that is absent at the start is an error, unless the policy is
    /// [`optional`](crate::source::Policy::optional): then its values take effect when it appears. A node that is
    /// deleted later is no error; see [`RemovalGuard`](crate::source::RemovalGuard).
    pub fn document(path: impl AsRef<str>) -> Self {
        Self::of(Mapping::document(KIND, '/', path.as_ref()))
    }

    /// The prefixes of a scope below this one, the weakest first: `common`, `common-prod`, `checkout`,
    /// `checkout-prod`. Each has the options that were set before, except documents.
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
    /// [`ErrorKind::InvalidKey`](crate::ErrorKind::InvalidKey) if a name or a profile is not 1 to 64 letters,
    /// digits, `_`, `.` or `-`, or is `.` or `..`; [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig)
    /// for a [`document`](Self::document), which has nothing below it.
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
            uses_tls: false,
            tls: Files::default(),
            rescan_interval: RESCAN_INTERVAL,
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

    /// Sets the servers, in the form of ZooKeeper's own clients: `zk1:2181,zk2:2181/chroot`.
    /// The default port is 2181, and the default address `127.0.0.1:2181`. `tls://` before the first
    /// makes the source use TLS for all.
    #[must_use]
    pub fn address(self, servers: impl Into<String>) -> Self {
        self.addresses([servers])
    }

    /// Sets several addresses of one store: the source uses the next when one fails. If one requires TLS, all use
    /// it.
    #[must_use]
    pub fn addresses<U: Into<String>>(self, servers: impl IntoIterator<Item = U>) -> Self {
        let mut servers: Vec<String> = servers
            .into_iter()
            .flat_map(|some| address::split(&some.into()))
            .collect();
        // Many programs should not all start with the same server.
        let count = servers.len().max(1) as u64;
        servers.rotate_left((random::number() % count) as usize);
        let uses_tls = |one: &String| Address::parse(one).is_ok_and(|one| one.tls);
        let uses_tls = servers.iter().any(uses_tls);
        self.edit(|options| {
            options.uses_tls |= uses_tls;
            options.endpoints = Endpoints::all(servers);
        })
    }

    /// Sends a user's name and password at the start of each session. Without TLS everybody on the network
    /// path can read them.
    #[must_use]
    pub fn digest(self, user: impl Into<String>, password: impl Into<Secret<String>>) -> Self {
        let digest = format!("{}:{}", user.into(), password.into().expose());
        let digest = Credential::Given(digest.into());
        self.edit(|options| options.digest = Some(digest))
    }

    /// Sends the `user:password` in a file, which is read for each session.
    #[must_use]
    pub fn digest_file(self, path: impl Into<PathBuf>) -> Self {
        let digest = Credential::File(absolute(&path.into()));
        self.edit(|options| options.digest = Some(digest))
    }

    /// Uses TLS, and trusts Mozilla's roots.
    #[must_use]
    pub fn tls(self) -> Self {
        self.edit(|options| options.uses_tls = true)
    }

    /// Sets the time after which the source reads everything again, if the store has executed any transaction
    /// since; up to a quarter is added at random. This finds changes that an ACL has hidden; the store reports all
    /// others as they happen. The default is 60 seconds, and less than 1 second counts as 1 second.
    #[must_use]
    pub fn rescan_interval(self, every: Duration) -> Self {
        self.edit(|options| options.rescan_interval = every.max(MIN_RESCAN_INTERVAL))
    }

    shared_options! {
        port: 2181,
        locator: "Finds the server by variables and files. The schemes `https` and `tls` mean TLS, `http` and `tcp` none.",
        ca: "Uses TLS, and trusts the certificates in a file in place of Mozilla's roots.",
        client_certificate: "Uses TLS, and presents a certificate, with its chain and its key in PEM files.",
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

    /// Opens a session with the current server, and reads everything.
    fn open(
        &self,
        stop: &Stop,
        mirror: &mut Mirror,
        heartbeat: &mut dyn FnMut(),
    ) -> Result<Tree, Error> {
        let begun = Instant::now();
        let mut open = || -> Result<Tree, Error> {
            let endpoint = self.options.endpoints.current()?;
            let address = Address::parse(&endpoint.address)?;
            let name = endpoint.name(|_| address.to_string());
            let uses_tls = address.tls || self.options.uses_tls || self.options.tls.any();
            let tls = uses_tls
                .then(|| Connector::of(&self.options.tls))
                .transpose()?;
            let server = Server {
                host: &address.host,
                port: address.port,
                tls,
                digest: self.read_digest()?,
            };
            let read = || -> Result<Tree, Error> {
                let session = Session::open(server, stop, begun + CONNECT_TIMEOUT)?;
                let root = Root::of(&self.options.mapping, &address.chroot);
                let rescan_interval = self.options.rescan_interval;
                let mut tree = Tree::new(session, root, name.clone(), rescan_interval);
                tree.read_all(mirror, &mut ReadHeartbeats::new(heartbeat))?;
                Ok(tree)
            };
            read().map_err(|error| named(error, &self.origin(), &name))
        };
        open().map_err(|error| {
            self.options.endpoints.next();
            match error.origin() {
                None => error.with_origin(self.origin()),
                Some(_) => error,
            }
        })
    }

    /// Runs a call with the mirror of the call before.
    fn with_mirror<R>(&self, run: impl FnOnce(&mut Mirror) -> R) -> R {
        let make = || Mirror::new(self.options.mapping.clone());
        self.mirror.with(make, run)
    }

    /// Follows the tree in one session, or in several one after the other.
    fn watch_all(&self, mirror: &mut Mirror, updates: &SourceContext) -> Result<(), Error> {
        let stop = Stop::default();
        let on_stop = stop.clone();
        updates.on_stop(move || on_stop.stop());
        loop {
            let begun = Instant::now();
            let opened =
                self.open_any(&stop, mirror, &mut || updates.set_degraded(None), |error| {
                    updates.report_error(error);
                });
            let mut tree = match opened {
                Err(_) if updates.is_stopped() => return Ok(()),
                opened => opened?,
            };
            updates.set_location(tree.server.as_str());
            let all = mirror.document(tree.session.revision());
            kv::send(all.map(|all| Some(Update::full(all))), updates);
            let outcome = tree.follow(mirror, updates);
            if updates.is_stopped() {
                tree.session.close();
                return Ok(());
            }
            let Err(error) = outcome else { return Ok(()) };
            self.options.endpoints.next();
            let error = named(error, &self.origin(), &tree.server);
            if self.options.endpoints.count() < 2 || begun.elapsed() < MIN_HEALTHY {
                return Err(error);
            }
            updates.report_error(error);
        }
    }

    /// Opens a session with the first server from which everything can be read.
    fn open_any(
        &self,
        stop: &Stop,
        mirror: &mut Mirror,
        heartbeat: &mut dyn FnMut(),
        mut report: impl FnMut(Error),
    ) -> Result<Tree, Error> {
        for _ in 1..self.options.endpoints.count() {
            match self.open(stop, mirror, heartbeat) {
                Ok(tree) => return Ok(tree),
                Err(error) if stop.is_stopped() => return Err(error),
                Err(error) => report(error),
            }
        }
        self.open(stop, mirror, heartbeat)
    }
}

impl Clone for ZooKeeper {
    /// The same options with a mirror of its own.
    fn clone(&self) -> Self {
        Self::with_options(self.options.clone())
    }
}

impl Source for ZooKeeper {
    fn origin(&self) -> Origin {
        Origin::new(KIND, self.options.mapping.path())
    }

    fn load(&self) -> Result<Document, Error> {
        self.with_mirror(|mirror| {
            let opened = self.open_any(&Stop::default(), mirror, &mut || {}, drop);
            let tree = opened.map_err(|error| self.credentials().mask_error(error))?;
            let revision = tree.session.revision();
            tree.session.close();
            mirror.document(revision)
        })
    }

    fn watching(&self) -> Watching {
        Watching::Stream
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        self.with_mirror(|mirror| self.watch_all(mirror, updates))
    }

    fn rejection_scope(&self) -> RejectionScope {
        self.options.mapping.rejection_scope()
    }

    fn timing(&self) -> Timing {
        // The source is silent while it connects, and while a heartbeat has no answer.
        let silence = TIMEOUT.max(HEARTBEAT + ANSWER_TIMEOUT) + Duration::from_secs(1);
        Timing::new()
            .timeout(TIMEOUT)
            .first_load(READ_TIMEOUT)
            .heartbeat_timeout(silence)
            .debounce(DEBOUNCE)
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
            .field("keys", &self.options.mapping.path())
            .field("digest", &self.options.digest.is_some())
            .field("tls", &self.options.tls)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_within_the_budget_whatever_happens() {
        let source = ZooKeeper::prefix("app");
        let worst = source
            .timing()
            .worst_case_latency(source.watching())
            .unwrap();
        assert!(worst < Duration::from_secs(10), "{worst:?}");
    }
}
