//! Loads all addresses: requests each document, reuses those that have not changed, and merges them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::format::{Format, feature_of};
use crate::source::Source;
use crate::sources::fs::watch::read;
use crate::sources::fs::watch::suspect::{DEBOUNCE, STABLE_TIME, is_accepted};
use crate::sources::http::client::{self, Answer, Client, Fetched, Request, Validators};
use crate::sources::http::proxy::Proxy;
use crate::sources::http::{Http, Target};
use crate::sources::shared::digest::Digest;
use crate::sources::shared::http_client::url::Address;
use crate::sources::shared::http_client::{self, Limits};
use crate::value::document::Document;
use crate::value::origin::Origin;

/// How long one poll waits for a `file:` that is being written.
const MAX_WAIT: Duration = STABLE_TIME.saturating_mul(2);

/// The state that one load leaves to the next.
#[derive(Default)]
pub(super) struct Memory {
    digest: Digest,
    /// The number of loads so far.
    loads: u64,
    /// The number of conditional polls since the last unconditional one.
    conditional: u32,
    /// The newest answer for each document.
    answers: Vec<LastAnswer>,
    /// The union of the documents of these digests.
    union: Option<(Vec<u64>, Document)>,
    /// The client, and the digest of the files that it was made from.
    client: Option<(u64, Client)>,
}

/// The newest answer for one document.
#[derive(Clone, Default)]
struct LastAnswer {
    /// The number of the load that brought it.
    load: u64,
    /// The index of the location that answered.
    location: usize,
    validators: Validators,
    /// The digest of the body and its format, and the parsed document.
    parsed: Option<(u64, Result<Document, Error>)>,
    /// Whether compressed responses of this server have no length.
    needs_identity: bool,
}

impl LastAnswer {
    /// The document that a 304 confirms.
    fn document(&self) -> Option<(u64, Document)> {
        match &self.parsed {
            Some((digest, Ok(document))) => Some((*digest, document.clone())),
            _ => None,
        }
    }
}

impl Http {
    /// Loads all documents, and merges them.
    pub(super) fn load_all(&self) -> Result<Document, Error> {
        let timeout = self.options.timeout;
        let deadline = Instant::now() + (timeout - timeout / 20);
        let needs_client = self.check()?;
        let with_name = |error: Error| named(error, &self.origin());
        let (load, conditional, mut answers) = self.begin_load();
        let context = LoadContext {
            limits: Limits {
                connect: self.options.connect,
                response: self.options.response,
                deadline,
                timeout,
            },
            headers: self.headers().map_err(with_name)?,
            client: if needs_client {
                Some(self.client().map_err(with_name)?)
            } else {
                None
            },
            conditional,
        };
        for (target, answer) in self.targets.iter().zip(&mut answers) {
            *answer = self.load_target(target, answer, &context)?;
        }
        self.store_answers(load, &answers);
        let mut document = self.merge(&answers)?;
        if let Some(revision) = revision(&answers) {
            document.set_revision(revision);
        }
        Ok(document)
    }

    /// Counts a load. Returns its number, whether its requests are conditional, and the last answers.
    fn begin_load(&self) -> (u64, bool, Vec<LastAnswer>) {
        let mut memory = self.memory.lock();
        memory.loads += 1;
        memory.conditional += 1;
        let is_conditional = memory.conditional < self.options.unconditional;
        if !is_conditional {
            memory.conditional = 0;
        }
        memory
            .answers
            .resize_with(self.targets.len(), LastAnswer::default);
        (memory.loads, is_conditional, memory.answers.clone())
    }

    /// Keeps the answers of a load for the next one.
    fn store_answers(&self, load: u64, answers: &[LastAnswer]) {
        let mut memory = self.memory.lock();
        for (kept, new) in memory.answers.iter_mut().zip(answers) {
            // An abandoned load that ends late does not replace a newer answer.
            if kept.load <= load {
                *kept = LastAnswer {
                    load,
                    ..new.clone()
                };
            }
        }
    }

    /// Checks the options; returns whether the source needs a client.
    fn check(&self) -> Result<bool, Error> {
        let reject = |detail: String, origin: &Origin| {
            Error::new(ErrorKind::InvalidConfig, detail).with_origin(origin)
        };
        let mut all = Vec::new();
        for location in self.targets.iter().flat_map(|target| &target.locations) {
            match &location.address {
                Ok(address) => all.push(address),
                Err(why) => {
                    let detail = format!("invalid address: {why}");
                    return Err(reject(detail, &location.origin));
                }
            }
        }
        if all.is_empty() {
            return Err(reject(
                "no address was given; set at least one".to_owned(),
                &self.origin(),
            ));
        }
        let web: Vec<_> = all.iter().filter_map(|it| it.web()).collect();
        let named = |(name, _): &(String, _)| name.eq_ignore_ascii_case("authorization");
        let logins = [
            web.iter().any(|url| url.has_user_info()),
            self.options.bearer.is_some(),
            self.options.headers.iter().any(named),
        ];
        if logins.into_iter().filter(|is_set| *is_set).count() > 1 {
            let detail = "a user in the address, a bearer token and an `Authorization` header \
                          exclude each other";
            return Err(reject(detail.to_owned(), &self.origin()));
        }
        let sends_credentials = self.options.bearer.is_some()
            || !self.options.headers.is_empty()
            || self.options.tls.client.is_some();
        // The other locations of a document receive the credentials of the first.
        let first = self
            .targets
            .iter()
            .filter_map(|target| target.locations[0].address.as_ref().ok());
        let first: Vec<_> = first.filter_map(Address::web).collect();
        if sends_credentials && first.windows(2).any(|two| !two[0].same_origin(two[1])) {
            let detail = "credentials and headers would go to servers of several origins: \
                          make a source for each";
            return Err(reject(detail.to_owned(), &self.origin()));
        }
        Ok(!web.is_empty())
    }

    /// The headers of each request.
    fn headers(&self) -> Result<Vec<http_client::Header>, Error> {
        let mut headers = Vec::new();
        if let Some(token) = &self.options.bearer {
            let token = token.read("the file of the bearer token")?;
            let token = token.trim();
            if token.is_empty() {
                return Err(Error::new(
                    ErrorKind::InvalidConfig,
                    "the bearer token is empty",
                ));
            }
            self.options.credentials.add(token);
            headers.push(http_client::header(
                "authorization",
                &format!("Bearer {token}"),
            )?);
        }
        for (name, value) in &self.options.headers {
            self.options.credentials.add_header(name, value.expose());
            headers.push(http_client::header(name, value.expose())?);
        }
        Ok(headers)
    }

    /// The client, replaced when a file that it was made from has changed.
    fn client(&self) -> Result<Client, Error> {
        let pems = self.options.tls.read()?;
        let digest = self.memory.lock().digest.of(&pems);
        if let Some((files, client)) = &self.memory.lock().client {
            if *files == digest {
                return Ok(client.clone());
            }
        }
        let client = Client {
            agent: http_client::agent(http_client::tls::config(&pems)?, 0),
            proxy: if self.options.proxy {
                Proxy::of_environment()?.map(Arc::new)
            } else {
                None
            },
        };
        let before = self.memory.lock().client.replace((digest, client.clone()));
        // The old client closes its connections after the lock is released.
        drop(before);
        Ok(client)
    }

    /// Loads one document from the first of its locations that answers.
    fn load_target(
        &self,
        target: &Target,
        before: &LastAnswer,
        context: &LoadContext,
    ) -> Result<LastAnswer, Error> {
        let mut errors = Vec::new();
        for attempt in 0..target.locations.len() {
            let at = (before.location + attempt) % target.locations.len();
            let location = &target.locations[at];
            let Ok(address) = &location.address else {
                continue;
            };
            // The validators of another server are of no use here.
            let mut before = before.clone();
            if at != before.location {
                (before.validators, before.needs_identity) = (Validators::default(), false);
            }
            let left = context
                .limits
                .deadline
                .saturating_duration_since(Instant::now());
            let remaining = u32::try_from(target.locations.len() - attempt).unwrap_or(u32::MAX);
            let context = LoadContext {
                limits: Limits {
                    deadline: Instant::now() + left / remaining,
                    ..context.limits
                },
                headers: context.headers.clone(),
                client: context.client.clone(),
                conditional: context.conditional,
            };
            match self.load_address(address, &location.origin, &before, &context) {
                Ok(mut answer) => {
                    answer.location = at;
                    if let Some((_, Err(error))) = &mut answer.parsed {
                        *error = named(error.clone(), &location.origin);
                    }
                    return Ok(answer);
                }
                Err(error) => errors.push(named(error, &location.origin)),
            }
        }
        Err(Error::all(errors))
    }

    /// Loads the document of one address.
    fn load_address(
        &self,
        address: &Address,
        origin: &Origin,
        before: &LastAnswer,
        context: &LoadContext,
    ) -> Result<LastAnswer, Error> {
        let fetched = match address {
            Address::File(path) => read_file(path, context.limits)?,
            Address::Web(url) => {
                let validators = (context.conditional && before.document().is_some())
                    .then_some(&before.validators)
                    .filter(|validators| !validators.is_empty());
                let mut request = Request {
                    url,
                    headers: &context.headers,
                    validators,
                    compressed: !before.needs_identity,
                    limits: context.limits,
                };
                let Some(client) = &context.client else {
                    return Err(Error::new(ErrorKind::Unavailable, "there is no client"));
                };
                let mut answer = client::fetch(client, &request)?;
                if matches!(answer, Answer::UnknownLength) {
                    request.compressed = false;
                    answer = client::fetch(client, &request)?;
                }
                let needs_identity = !request.compressed;
                match answer {
                    Answer::Document(fetched) => {
                        return Ok(self.parse(fetched, needs_identity, address, origin, before));
                    }
                    Answer::NotModified | Answer::UnknownLength => {
                        return Ok(LastAnswer {
                            needs_identity,
                            ..before.clone()
                        });
                    }
                }
            }
        };
        Ok(self.parse(fetched, false, address, origin, before))
    }

    /// Parses a body, unless it is that of the last answer.
    fn parse(
        &self,
        fetched: Fetched,
        needs_identity: bool,
        address: &Address,
        origin: &Origin,
        before: &LastAnswer,
    ) -> LastAnswer {
        let format = self.format_of(address, fetched.content_type.as_deref());
        let name = format.as_ref().map_or("", Format::name);
        let digest = self.memory.lock().digest.clone();
        let digest = digest.of((&fetched.bytes, name));
        let parsed = match &before.parsed {
            Some((same, parsed)) if *same == digest => parsed.clone(),
            _ => match format {
                Some(format) => format.parse(&fetched.bytes, origin),
                None => Err(no_format(fetched.content_type.as_deref(), &address.path())),
            },
        };
        LastAnswer {
            load: before.load,
            location: before.location,
            validators: fetched.validators,
            parsed: Some((digest, parsed)),
            needs_identity,
        }
    }

    fn format_of(&self, address: &Address, content_type: Option<&str>) -> Option<Format> {
        let typed = || Format::from_extension(extension(&client::media_type(content_type?))?);
        let named = || Format::of_path(&address.path());
        self.options.format.or_else(typed).or_else(named)
    }

    /// Merges all documents; reuses the last union if none has changed.
    fn merge(&self, all: &[LastAnswer]) -> Result<Document, Error> {
        let mut good = Vec::new();
        for answer in all {
            match &answer.parsed {
                Some((digest, Ok(document))) => good.push((*digest, document)),
                Some((_, Err(error))) => return Err(error.clone()),
                None => return Err(Error::new(ErrorKind::Unavailable, "there was no answer")),
            }
        }
        let digests: Vec<u64> = good.iter().map(|(digest, _)| *digest).collect();
        let known = match &self.memory.lock().union {
            Some((known, document)) if *known == digests => Some(document.clone()),
            _ => None,
        };
        let document = known.unwrap_or_else(|| {
            let mut parts = good.into_iter().map(|(_, document)| document.clone());
            let mut union = parts.next().unwrap_or_default();
            parts.for_each(|part| union.merge(part));
            union
        });
        let before = self
            .memory
            .lock()
            .union
            .replace((digests, document.clone()));
        // The old document may be large, so it is dropped after the lock is released.
        drop(before);
        Ok(document)
    }
}

/// The parameters of all addresses of one load.
struct LoadContext {
    limits: Limits,
    headers: Vec<http_client::Header>,
    client: Option<Client>,
    conditional: bool,
}

/// Adds an origin to an error without one.
fn named(error: Error, origin: &Origin) -> Error {
    match error.origin() {
        None => error.with_origin(origin),
        Some(_) => error,
    }
}

/// The version of all documents, in the words of the servers.
fn revision(all: &[LastAnswer]) -> Option<Arc<str>> {
    let named = |answer: &LastAnswer| {
        let validators = &answer.validators;
        validators.etag.clone().or(validators.modified.clone())
    };
    if all.iter().all(|answer| answer.validators.is_empty()) {
        return None;
    }
    let names: Vec<_> = all
        .iter()
        .map(|answer| named(answer).unwrap_or_else(|| "-".to_owned()))
        .collect();
    Some(names.join(", ").into())
}

/// The extension of a media type's format.
fn extension(media: &str) -> Option<&'static str> {
    let (_, kind) = media.split_once('/')?;
    match kind.rsplit('+').next()? {
        "json" => Some("json"),
        "toml" | "x-toml" => Some("toml"),
        "yaml" | "x-yaml" => Some("yaml"),
        "x-java-properties" => Some("properties"),
        _ => None,
    }
}

fn no_format(content_type: Option<&str>, path: &Path) -> Error {
    let typed = content_type.map(client::media_type);
    let typed = typed.as_deref().and_then(extension);
    if let Some(feature) = typed.and_then(feature_of) {
        let detail = format!("its format needs the feature `{feature}` of liveprops");
        return Error::new(ErrorKind::Malformed, detail);
    }
    let of = match content_type {
        Some(content_type) => format!("the content type `{}` and ", http_client::cut(content_type)),
        None => String::new(),
    };
    let detail = format!(
        "no format is known for {of}this path: {}",
        Format::unknown(path)
    );
    Error::new(ErrorKind::Malformed, detail)
}

/// Reads a `file:` address by the rule for files that are polled: content that was written moments
/// ago is read twice.
fn read_file(path: &Path, limits: Limits) -> Result<Fetched, Error> {
    let (begun, digests) = (Instant::now(), Digest::default());
    let mut suspect = None;
    loop {
        let reading = Instant::now();
        let content = read::read(path).map_err(|fault| match fault {
            read::ReadError::Large => Error::new(ErrorKind::TooLarge, fault.to_string()),
            fault => Error::new(ErrorKind::Unavailable, fault.to_string()),
        })?;
        let digest = digests.of(&content.bytes);
        if !is_accepted(&mut suspect, digest, &content, reading) {
            let now = Instant::now();
            if now - begun > MAX_WAIT || now + DEBOUNCE >= limits.deadline {
                let detail = "the file is being written; the next poll reads it again";
                return Err(Error::new(ErrorKind::Unavailable, detail));
            }
            std::thread::sleep(DEBOUNCE);
            continue;
        }
        return Ok(Fetched {
            bytes: content.bytes,
            validators: Validators::default(),
            content_type: None,
        });
    }
}
