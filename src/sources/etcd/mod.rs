//! etcd's key-value store, over its JSON gateway: a read of everything at one revision, and a stream of the
//! changes after it (`watch`).
//!
//! A new stream continues the last one every few seconds. That is the heartbeat: it finds a dead connection, a
//! reset store, and a member without its cluster. If a change may have been missed, everything is read again.
//!
//! `client` sends requests, `response` and `json` parse the answers, `login` is the login of a user, and `pace`
//! has the pauses after streams that failed.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ureq::http::HeaderValue;

use crate::error::Error;
use crate::source::{
    Credentials, Policy, RejectionScope, Scope, Source, SourceContext, Timing, Watching,
};
use crate::sources::etcd::client::{EtcdError, Listing, Request};
use crate::sources::etcd::login::{Login, User};
use crate::sources::etcd::watch::Memory;
use crate::sources::fs::watch::absolute;
use crate::sources::shared::http_client;
use crate::sources::shared::http_client::reuse::Client;
use crate::sources::shared::http_client::url::masked;
use crate::sources::shared::kv;
use crate::sources::shared::kv::endpoints::{Endpoints, named};
use crate::sources::shared::kv::mapping::Mapping;
use crate::sources::shared::kv::options::shared_options;
use crate::sources::shared::kv::slot::Slot;
use crate::sources::shared::tls::{Credential, Files};
use crate::sync::lock::Mutex;
use crate::value::document::Document;
use crate::value::origin::Origin;
use crate::value::secret::Secret;

mod client;
mod json;
mod login;
mod pace;
mod response;
mod watch;

const KIND: &str = "etcd";
/// The default address of a member.
const ADDRESS: &str = "http://127.0.0.1:2379";

/// The longest duration of a stream before the next one continues it.
const STREAM: Duration = Duration::from_secs(4);
/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the answer may take to begin where there is another member, and that of a stream anywhere.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(1500);
/// The pause between updates where many are sent.
const PAUSE: Duration = Duration::from_millis(100);

/// Keys below a prefix, or a document in one key, of etcd from 3.4 on.
///
/// `config/checkout/ratelimit/qps` below the prefix `config/checkout` is the property
/// `ratelimit.qps`. A slash before the first name counts: `/config` is not `config`. The source sees a change
/// as it happens and collects bursts; all changes of one transaction of the store are one generation. A key that is
/// deleted, or expires with its lease, lets weaker layers show. Keys that end in a slash are folders, and are
/// skipped, as are keys that are not UTF-8. A value that is not UTF-8 or over 1 MiB (etcd itself accepts 1.5 MiB) is
/// rejected alone. All keys together may have 10 MiB, each counting its name, its value and 32 bytes, and there
/// may be 150,000. An answer over 32 MiB, or with over 20 MiB of keys and values so counted, is rejected; it takes at
/// most 160 MiB of memory, whatever a server sends.
///
/// No error of the store removes values: the source reads everything again after growing pauses. It does so
/// after a compaction, an election, and a reset of the store. It repeats a request whose connection the server had
/// closed before. Of several addresses it uses the next one when one fails, lacks the others of its cluster, or does
/// not answer. The removal guard withholds the removal of most keys; see
/// [`RemovalGuard`](crate::source::RemovalGuard).
///
/// The source uses the JSON gateway, which every member serves beside gRPC unless it was started with
/// `--enable-grpc-gateway=false`. The gateway knows no users by certificates: where authentication is enabled,
/// name a user by [`user`](Self::user).
///
/// ```
/// use liveprops::{Source, Watching, sources::Etcd};
///
/// let etcd = Etcd::prefix("config/checkout")
///     .addresses(["https://etcd1.example.com:2379", "https://etcd2.example.com:2379"])
///     .user("checkout", "s3cr3t".to_owned())
///     .ca("/etc/ssl/etcd.pem");
/// assert_eq!(etcd.watching(), Watching::Stream);
/// assert_eq!(etcd.origin().to_string(), "etcd config/checkout/");
/// ```
pub struct Etcd {
    options: Options,
    memory: Slot<Memory>,
    /// The last login; none if there was none, or if it is no longer valid.
    login: Mutex<Option<Login>>,
}

#[derive(Clone)]
struct Options {
    mapping: Mapping,
    endpoints: Endpoints,
    user: Option<User>,
    tls: Files,
    credentials: Credentials,
}

impl Etcd {
    /// All keys below a prefix, which ends at a slash: `app` is `app/`, never `apple`.
    pub fn prefix(prefix: impl AsRef<str>) -> Self {
        Self::of(Mapping::prefix_as_is(KIND, '/', prefix.as_ref()))
    }

    /// One key with a document, whose format follows from its extension or [`format`](Self::format).
    ///
    /// A key that is absent at the start is an error, unless the policy is
    /// [`optional`](crate::source::Policy::optional): then its values take effect when it appears. A key that is
    /// deleted later is no error; see [`RemovalGuard`](crate::source::RemovalGuard).
    pub fn document(key: impl AsRef<str>) -> Self {
        Self::of(Mapping::document_as_is(KIND, '/', key.as_ref()))
    }

    /// The prefixes of a scope below this one, the weakest first: `common`, `common-prod`, `checkout`,
    /// `checkout-prod`. Each has the options that were set before, except documents.
    ///
    /// ```
    /// use liveprops::source::Scope;
    /// use liveprops::{Source, sources::Etcd};
    ///
    /// let scope = Scope::app("checkout");
    /// let layers = Etcd::prefix("config").ca("/etc/ssl/etcd.pem").of_scope(&scope)?;
    /// let origins: Vec<String> = layers.iter().map(|it| it.origin().to_string()).collect();
    /// assert_eq!(origins, ["etcd config/common/", "etcd config/checkout/"]);
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
        let options = Options {
            mapping,
            endpoints: Endpoints::one(ADDRESS),
            user: None,
            tls: Files::default(),
            credentials: Credentials::new(),
        };
        Self::with_options(options)
    }

    fn with_options(options: Options) -> Self {
        Self {
            memory: Slot::empty(),
            login: Mutex::default(),
            options,
        }
    }

    fn edit(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        Self::with_options(self.options)
    }

    /// Sets the address of a member; `http://127.0.0.1:2379` by default.
    #[must_use]
    pub fn address(self, url: impl Into<String>) -> Self {
        self.addresses([url])
    }

    /// Sets the addresses of several members: the source uses the next when one fails.
    #[must_use]
    pub fn addresses<U: Into<String>>(self, urls: impl IntoIterator<Item = U>) -> Self {
        let urls = urls.into_iter().map(Into::into).collect();
        self.edit(|options| options.endpoints = Endpoints::all(urls))
    }

    /// Logs in, and again whenever the store requires it.
    ///
    /// Where authentication is disabled in the store, the source reads without a token, and health shows that
    /// as [`degraded`](crate::health::SourceHealth::degraded). It logs in as soon as authentication is
    /// enabled, within one stream (4 seconds).
    #[must_use]
    pub fn user(self, name: impl Into<String>, password: impl Into<Secret<String>>) -> Self {
        self.set_user(name.into(), Credential::Given(password.into()))
    }

    /// Logs in with the password in a file, which is read for each login.
    #[must_use]
    pub fn user_file(self, name: impl Into<String>, password: impl Into<PathBuf>) -> Self {
        self.set_user(name.into(), Credential::File(absolute(&password.into())))
    }

    fn set_user(self, name: String, password: Credential) -> Self {
        self.edit(|options| options.user = Some(User { name, password }))
    }

    shared_options! {
        port: 2379,
        locator: "Finds a member by variables and files.",
        ca: "Trusts the certificates in a file in place of Mozilla's roots.",
        client_certificate: "Presents a certificate, with its chain and its key in PEM files.",
    }

    /// The keys that the source reads, as the fields of a request.
    fn range_fields(&self) -> String {
        let key = self.options.mapping.path().as_bytes();
        let text = |bytes: &[u8]| json::quoted(&json::base64(bytes));
        match (self.options.mapping.is_document(), key) {
            (true, key) => format!("\"key\":{}", text(key)),
            (false, key) => {
                let (key, end) = bounds(key);
                format!("\"key\":{},\"range_end\":{}", text(&key), text(&end))
            }
        }
    }

    /// Sends a request to the current server, with a token where there is a user. Logs in again if the server
    /// rejects the token. Returns the answer with the name of the server.
    fn request<T>(
        &self,
        client: &Client,
        send: impl Fn(&Request<'_>) -> Result<T, EtcdError>,
    ) -> Result<(T, String), Error> {
        let endpoint = self.options.endpoints.current()?;
        let server = endpoint.name(masked);
        let outcome = self.request_at(client, &endpoint.address, send);
        outcome
            .map_err(|error| named(error, &self.origin(), &server))
            .inspect_err(|_| self.options.endpoints.next())
            .map(|answer| (answer, server))
    }

    fn request_at<T>(
        &self,
        client: &Client,
        server: &str,
        send: impl Fn(&Request<'_>) -> Result<T, EtcdError>,
    ) -> Result<T, Error> {
        let server = http_client::tls::server(server, &self.options.tls, "v3")?;
        let with_token = |token: Option<HeaderValue>| Request {
            client,
            server: &server,
            token,
            connect_timeout: CONNECT_TIMEOUT,
            response_timeout: match self.options.endpoints.count() {
                1 => TIMEOUT,
                _ => RESPONSE_TIMEOUT,
            },
            timeout: TIMEOUT,
        };
        let Some(user) = &self.options.user else {
            return send(&with_token(None)).map_err(|fault| fault.error);
        };
        let login = self.login.lock().clone();
        if let Some(login) = login {
            match send(&with_token(login.token())) {
                Err(fault) if fault.needs_login => self.clear_login(),
                outcome => return outcome.map_err(|fault| fault.error),
            }
        }
        let login = self.log_in(user, &with_token(None))?;
        send(&with_token(login.token())).map_err(|fault| {
            if fault.needs_login {
                self.clear_login();
            }
            fault.error
        })
    }

    /// Logs in by a request without a token, and keeps the login.
    fn log_in(&self, user: &User, request: &Request<'_>) -> Result<Login, Error> {
        let password = user.password.read("the file of the password")?;
        let credentials = &self.options.credentials;
        credentials.add_login(&user.name, &password);
        let login = request.authenticate(&user.name, &password);
        let login = login.map_err(|fault| fault.error)?;
        if let Some(token) = login.token() {
            credentials.add(token.to_str().unwrap_or_default());
        }
        *self.login.lock() = Some(login.clone());
        Ok(login)
    }

    /// Drops the login, which is no longer valid.
    fn clear_login(&self) {
        *self.login.lock() = None;
    }

    /// The warning of the last login.
    fn login_warning(&self) -> Option<Error> {
        let warning = self.login.lock().as_ref()?.warning()?;
        Some(warning.with_origin(self.origin()))
    }

    /// Reads everything from the first server that answers.
    fn read_all(&self, client: &Client) -> Result<Listing, Error> {
        let range = self.range_fields();
        let read = || self.request(client, |request| request.range(&range, None));
        let (all, _) = self.options.endpoints.first(read)?;
        Ok(all)
    }

    fn client(&self) -> Result<Client, Error> {
        let agent = http_client::tls::agent(&self.options.tls);
        let agent = agent.map_err(|error| error.with_origin(self.origin()))?;
        Ok(Client::new(agent))
    }
}

/// The first key with a prefix, and the first key after all those with it.
fn bounds(prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return (prefix.to_vec(), end);
        }
    }
    // A zero is the first of all keys, and also means no end.
    let first = if prefix.is_empty() { &[0] } else { prefix };
    (first.to_vec(), vec![0])
}

impl Clone for Etcd {
    /// The same options with a memory and a login of its own.
    fn clone(&self) -> Self {
        Self::with_options(self.options.clone())
    }
}

impl Source for Etcd {
    fn origin(&self) -> Origin {
        Origin::new(KIND, self.options.mapping.path())
    }

    fn load(&self) -> Result<Document, Error> {
        let read = self.client().and_then(|client| self.read_all(&client));
        let all = read.map_err(|error| self.credentials().mask_error(error))?;
        self.with_memory(|memory| {
            memory.replace(&all);
            memory.mirror.document(memory.revision.to_string())
        })
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
        let silence = STREAM + CONNECT_TIMEOUT + RESPONSE_TIMEOUT + PAUSE * 2;
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

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd")
            .field("keys", &self.options.mapping.path())
            .field("user", &self.options.user.is_some())
            .field("tls", &self.options.tls)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        let all = |prefix: &[u8]| bounds(prefix);
        assert_eq!(all(b"app/"), (b"app/".to_vec(), b"app0".to_vec()));
        assert_eq!(all(b"a\xff"), (b"a\xff".to_vec(), b"b".to_vec()));
        assert_eq!(all(b"\xff"), (b"\xff".to_vec(), vec![0]));
        assert_eq!(all(b""), (vec![0], vec![0]));
    }

    #[test]
    fn debug_shows_no_password_and_the_timing_fits() {
        let etcd = Etcd::prefix("/app")
            .user("me", "s3cr3t".to_owned())
            .address("http://a:b4d@h:1");
        let shown = format!("{etcd:?} {}", etcd.origin());
        assert!(
            !shown.contains("s3cr3t") && !shown.contains("b4d"),
            "{shown}"
        );
        assert_eq!(etcd.origin().to_string(), "etcd /app/");
        let worst = etcd.timing().worst_case_latency(etcd.watching());
        assert!(worst.is_some_and(|worst| worst <= Duration::from_secs(10)));
    }
}
