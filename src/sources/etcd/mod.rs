//! etcd's key-value store, by its JSON gateway: a read of everything at one revision, and a stream of
//! what comes after it.
//!
//! The stream is begun anew every few seconds from where it was. That is its sign of life: a
//! connection that is dead in silence, a store that was reset and a member that is alone are found
//! so. Where anything is in doubt, everything is read again.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::sync::lock::Mutex;
use ureq::http::HeaderValue;

use crate::error::Error;
use crate::source::{Credentials, Policy, Refusal, Scope, Source, SourceContext, Timing, Watching};
use crate::sources::etcd::follow::Held;
use crate::sources::etcd::login::{Login, User};
use crate::sources::etcd::wire::{Ask, Fault, Listing};
use crate::sources::fs::watch::absolute;
use crate::sources::shared::http_client;
use crate::sources::shared::http_client::reuse::Client;
use crate::sources::shared::http_client::url::{Url, shown_invalid};
use crate::sources::shared::kv;
use crate::sources::shared::kv::endpoints::{Endpoints, named};
use crate::sources::shared::kv::mapping::Mapping;
use crate::sources::shared::kv::options::shared_options;
use crate::sources::shared::kv::slot::Slot;
use crate::sources::shared::tls::{Credential, Files};
use crate::value::document::Document;
use crate::value::origin::Origin;
use crate::value::secret::Secret;

mod answer;
mod follow;
mod json;
mod login;
mod pace;
mod wire;

const KIND: &str = "etcd";
/// Where a member is by default.
const ADDRESS: &str = "http://127.0.0.1:2379";

/// How long a stream lasts at most before the next one is begun.
const STREAM: Duration = Duration::from_secs(4);
/// How long an answer may take in all, and how long there may be no connection.
const TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT: Duration = Duration::from_secs(1);
/// How long an answer may take to begin where another member can be asked, and a stream anywhere.
const BEGIN: Duration = Duration::from_millis(1500);
/// How far apart updates are where many come.
const PAUSE: Duration = Duration::from_millis(100);

/// Keys below a prefix, or a document in one key, of etcd from 3.4 on.
///
/// `config/checkout/ratelimit/qps` below the prefix `config/checkout` is the property
/// `ratelimit.qps`. A slash before the first name counts: `/config` is not `config`. A change is seen
/// as it happens; what comes in bursts is gathered, and all that one transaction of the store changed
/// is one generation. What is deleted there, or expires with its lease, lets weaker layers show. Keys
/// that end in a slash are folders, and skipped, as are keys that are not UTF-8. A value that is not
/// UTF-8 or over 1 MiB (etcd itself takes 1.5 MiB) is refused alone; all together may hold 10 MiB, each
/// key counting its name, its value and 32 bytes,
/// and 150,000 keys. An answer over 32 MiB, or with over 20 MiB of keys and
/// values so counted, is refused; whatever a server sends, that takes at most 160 MiB of memory.
///
/// An error of the store, whatever it is, takes nothing away: it is asked again with growing pauses,
/// and then everything is read. So it is after a compaction, an election, and a reset of the store.
/// A request that a server did not answer because it had closed the kept connection is sent once more.
/// Of several addresses the next one is asked when one fails, is cut off from the others, or does not
/// answer. That most keys are gone is held; see [`RemovalGuard`](crate::source::RemovalGuard).
///
/// It speaks to the JSON gateway, which every member serves beside gRPC unless it was started with
/// `--enable-grpc-gateway=false`. The gateway knows no users by certificates: where users are on,
/// name one by [`user`](Self::user).
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
    held: Slot<Held>,
    /// How the user is known; none if nobody has logged in, or that does not hold any more.
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

    /// One key that holds a document; its format is that of its extension, or given.
    ///
    /// A key that is absent at the start is an error, unless the policy is
    /// [`optional`](crate::source::Policy::optional): then its values count when it appears. A key that is
    /// deleted later is no error; see [`RemovalGuard`](crate::source::RemovalGuard).
    pub fn document(key: impl AsRef<str>) -> Self {
        Self::of(Mapping::document_as_is(KIND, '/', key.as_ref()))
    }

    /// The prefixes of a scope below this one, the weakest first: `common`, `common-prod`, `checkout`,
    /// `checkout-prod`. Each has the options that are set by now, but for documents.
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
            user: None,
            tls: Files::default(),
            credentials: Credentials::new(),
        };
        Self::with_options(options)
    }

    fn with_options(options: Options) -> Self {
        Self {
            held: Slot::empty(),
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

    /// Sets the addresses of several members: the next is asked when one fails.
    #[must_use]
    pub fn addresses<U: Into<String>>(self, urls: impl IntoIterator<Item = U>) -> Self {
        let urls = urls.into_iter().map(Into::into).collect();
        self.edit(|options| options.endpoints = Endpoints::all(urls))
    }

    /// Logs in, and again whenever the store wants it.
    ///
    /// Where authentication is off in the store, the source reads without a token, and health shows that
    /// as [`set_degraded`](crate::health::SourceHealth::degraded). It logs in as soon as authentication is
    /// enabled, within one stream (4 seconds).
    #[must_use]
    pub fn user(self, name: impl Into<String>, password: impl Into<Secret<String>>) -> Self {
        self.log_in(name.into(), Credential::Given(password.into()))
    }

    /// Logs in with the password that a file holds, which is read anew each time.
    #[must_use]
    pub fn user_file(self, name: impl Into<String>, password: impl Into<PathBuf>) -> Self {
        self.log_in(name.into(), Credential::File(absolute(&password.into())))
    }

    fn log_in(self, name: String, password: Credential) -> Self {
        self.edit(|options| options.user = Some(User { name, password }))
    }

    shared_options! {
        port: 2379,
        locator: "Finds a member by variables and files.",
        ca: "Trusts the certificates in a file in place of Mozilla's roots.",
        client_certificate: "Shows a certificate, with its chain and its key in files of PEM.",
    }

    /// Which keys are meant, as the fields of a request.
    fn range(&self) -> String {
        let key = self.options.mapping.wanted().as_bytes();
        let text = |bytes: &[u8]| json::quoted(&json::base64(bytes));
        match (self.options.mapping.is_document(), key) {
            (true, key) => format!("\"key\":{}", text(key)),
            (false, key) => {
                let (key, end) = bounds(key);
                format!("\"key\":{},\"range_end\":{}", text(&key), text(&end))
            }
        }
    }

    /// Asks the server whose turn it is, with a token where there is a user, and tells where that is; a
    /// token that will not do is renewed once.
    fn ask<T>(
        &self,
        client: &Client,
        ask: impl Fn(&Ask<'_>) -> Result<T, Fault>,
    ) -> Result<(T, String), Error> {
        let server = self.options.endpoints.current()?;
        let place = server.place(shown);
        let outcome = self.ask_at(client, &server.address, ask);
        outcome
            .map_err(|error| named(error, &self.origin(), &place))
            .inspect_err(|_| self.options.endpoints.next())
            .map(|answer| (answer, place))
    }

    fn ask_at<T>(
        &self,
        client: &Client,
        server: &str,
        ask: impl Fn(&Ask<'_>) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        let server = http_client::tls::server(server, &self.options.tls, "v3")?;
        let with = |token: Option<HeaderValue>| Ask {
            client,
            server: &server,
            token,
            connect: CONNECT,
            response: match self.options.endpoints.count() {
                1 => TIMEOUT,
                _ => BEGIN,
            },
            timeout: TIMEOUT,
        };
        let Some(user) = &self.options.user else {
            return ask(&with(None)).map_err(|fault| fault.error);
        };
        let known = self.login.lock().clone();
        if let Some(login) = known {
            match ask(&with(login.token())) {
                Err(fault) if fault.renew => self.forget(),
                outcome => return outcome.map_err(|fault| fault.error),
            }
        }
        let password = user.password.read("the file of the password")?;
        let credentials = &self.options.credentials;
        credentials.add_login(&user.name, &password);
        let login = with(None).authenticate(&user.name, &password);
        let login = login.map_err(|fault| fault.error)?;
        if let Some(token) = login.token() {
            credentials.add(token.to_str().unwrap_or_default());
        }
        *self.login.lock() = Some(login.clone());
        ask(&with(login.token())).map_err(|fault| {
            if fault.renew {
                self.forget();
            }
            fault.error
        })
    }

    /// How the user is known does not hold any more.
    fn forget(&self) {
        *self.login.lock() = None;
    }

    /// What a program that has set a user should know of how that is known.
    fn login_warning(&self) -> Option<Error> {
        let warning = self.login.lock().as_ref()?.warning()?;
        Some(warning.with_origin(self.origin()))
    }

    /// Reads everything, from the first server that answers.
    fn read_all(&self, client: &Client) -> Result<Listing, Error> {
        let range = self.range();
        let read = || self.ask(client, |ask| ask.range(&range, None));
        let (all, _) = self.options.endpoints.first(read)?;
        Ok(all)
    }

    fn client(&self) -> Result<Client, Error> {
        let agent = http_client::tls::agent(&self.options.tls);
        let agent = agent.map_err(|error| error.with_origin(self.origin()))?;
        Ok(Client::new(agent))
    }
}

/// The first key with a prefix, and the first one after all of them.
fn bounds(prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return (prefix.to_vec(), end);
        }
    }
    // A zero stands for the first key of all, and for no end.
    let first = if prefix.is_empty() { &[0] } else { prefix };
    (first.to_vec(), vec![0])
}

/// An address without what may be secret in it.
fn shown(address: &str) -> String {
    match Url::parse(address) {
        Ok(url) => url.to_string(),
        Err(_) => shown_invalid(address)
            .unwrap_or("an address that is not valid")
            .to_owned(),
    }
}

/// With memory of its own: what one has told says nothing of what another has.
impl Clone for Etcd {
    fn clone(&self) -> Self {
        Self::with_options(self.options.clone())
    }
}

impl Source for Etcd {
    fn origin(&self) -> Origin {
        Origin::new(KIND, self.options.mapping.wanted())
    }

    fn load(&self) -> Result<Document, Error> {
        let read = self.client().and_then(|client| self.read_all(&client));
        let all = read.map_err(|error| self.credentials().mask_error(error))?;
        self.with_held(|held| {
            held.replace(&all);
            held.mirror.whole(held.revision.to_string())
        })
    }

    fn watching(&self) -> Watching {
        Watching::Stream
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        self.with_held(|held| self.run(held, updates))
    }

    fn refusal(&self) -> Refusal {
        self.options.mapping.refusal()
    }

    fn timing(&self) -> Timing {
        let silence = STREAM + CONNECT + BEGIN + PAUSE * 2;
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
            .field("keys", &self.options.mapping.wanted())
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
    fn what_it_shows_of_itself_holds_no_password_and_its_timing_fits() {
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
