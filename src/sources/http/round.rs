//! One look at all addresses: what is asked of whom, what was answered before, which answers are the
//! same, and the union.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::format::{Format, feature_of};
use crate::source::Source;
use crate::sources::fs::watch::read::{self, Digest};
use crate::sources::fs::watch::trust::{CALM, QUIET, is_accepted};
use crate::sources::http::client::{self, Answer, Ask, Client, Fetched, Marks};
use crate::sources::http::proxy::Proxy;
use crate::sources::http::{Http, Target};
use crate::sources::shared::http_client::url::Address;
use crate::sources::shared::http_client::{self, Limits};
use crate::value::document::Document;
use crate::value::origin::Origin;

/// How long one poll waits for a `file:` that is being written.
const MAX_WAIT: Duration = CALM.saturating_mul(2);

/// What was seen so far.
#[derive(Default)]
pub(super) struct Memory {
    digest: Digest,
    /// How many loads have begun.
    loads: u64,
    /// How many polls have asked with a condition since one that did not.
    conditional: u32,
    /// The newest answer of each address, and the load it is of.
    seen: Vec<Seen>,
    /// The union of the documents of these digests.
    union: Option<(Vec<u64>, Document)>,
    /// The client for the files that it was made of.
    client: Option<(u64, Client)>,
}

#[derive(Clone, Default)]
struct Seen {
    load: u64,
    /// Which of its places answered.
    place: usize,
    marks: Marks,
    /// The digest of what came and the format it was read in, and what that said.
    said: Option<(u64, Result<Document, Error>)>,
    /// Whether compressed answers cannot be trusted to have a length.
    plain: bool,
}

impl Seen {
    /// What a 304 may stand for.
    fn good(&self) -> Option<(u64, Document)> {
        match &self.said {
            Some((digest, Ok(document))) => Some((*digest, document.clone())),
            _ => None,
        }
    }
}

impl Http {
    /// Asks for all documents, and joins them.
    pub(super) fn round(&self) -> Result<Document, Error> {
        let timeout = self.options.timeout;
        let deadline = Instant::now() + (timeout - timeout / 20);
        let remote = self.check()?;
        let here = |error: Error| named(error, &self.origin());
        let (load, conditional, mut all) = {
            let mut memory = self.memory.lock();
            memory.loads += 1;
            memory.conditional += 1;
            let conditional = memory.conditional < self.options.unconditional;
            if !conditional {
                memory.conditional = 0;
            }
            memory.seen.resize_with(self.targets.len(), Seen::default);
            (memory.loads, conditional, memory.seen.clone())
        };
        let round = Round {
            limits: Limits {
                connect: self.options.connect,
                response: self.options.response,
                deadline,
                timeout,
            },
            headers: self.headers().map_err(here)?,
            client: if remote {
                Some(self.client().map_err(here)?)
            } else {
                None
            },
            conditional,
        };
        for (target, seen) in self.targets.iter().zip(&mut all) {
            *seen = self.find(target, seen, &round)?;
        }
        {
            let mut memory = self.memory.lock();
            for (kept, seen) in memory.seen.iter_mut().zip(&all) {
                // One that was left to itself and ends late knows nothing new.
                if kept.load <= load {
                    *kept = Seen {
                        load,
                        ..seen.clone()
                    };
                }
            }
        }
        let mut document = self.join(&all)?;
        if let Some(revision) = revision(&all) {
            document.set_revision(revision);
        }
        Ok(document)
    }

    /// What can be wrong with the source whatever the servers say; whether it asks any.
    fn check(&self) -> Result<bool, Error> {
        let wrong = |detail: String, origin: &Origin| {
            Error::new(ErrorKind::InvalidConfig, detail).with_origin(origin)
        };
        let mut all = Vec::new();
        for place in self.targets.iter().flat_map(|target| &target.0) {
            match &place.address {
                Ok(address) => all.push(address),
                Err(why) => {
                    let detail = format!("the address is not valid: {why}");
                    return Err(wrong(detail, &place.origin));
                }
            }
        }
        if all.is_empty() {
            return Err(wrong("no address was given".to_owned(), &self.origin()));
        }
        let web: Vec<_> = all.iter().filter_map(|it| it.web()).collect();
        let named = |(name, _): &(String, _)| name.eq_ignore_ascii_case("authorization");
        let ways = [
            web.iter().any(|url| url.has_user_info()),
            self.options.bearer.is_some(),
            self.options.headers.iter().any(named),
        ];
        if ways.into_iter().filter(|way| *way).count() > 1 {
            let detail = "a user in the address, a bearer token and an `Authorization` header \
                          exclude each other";
            return Err(wrong(detail.to_owned(), &self.origin()));
        }
        let sends = self.options.bearer.is_some()
            || !self.options.headers.is_empty()
            || self.options.tls.client.is_some();
        // Other places of one document are there for what goes to the first.
        let first = self
            .targets
            .iter()
            .filter_map(|target| target.0[0].address.as_ref().ok());
        let first: Vec<_> = first.filter_map(Address::web).collect();
        if sends && first.windows(2).any(|two| !two[0].same_origin(two[1])) {
            let detail = "credentials and headers would go to servers of several origins: \
                          make a source for each";
            return Err(wrong(detail.to_owned(), &self.origin()));
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

    /// The client, made anew when a file it was made of has changed.
    fn client(&self) -> Result<Client, Error> {
        let pems = self.options.tls.read()?;
        let digest = self.memory.lock().digest.of(&pems);
        if let Some((made_of, client)) = &self.memory.lock().client {
            if *made_of == digest {
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
        // The old client closes its connections without the lock.
        drop(before);
        Ok(client)
    }

    /// What a document is now, from the first of its places that answers.
    fn find(&self, target: &Target, before: &Seen, round: &Round) -> Result<Seen, Error> {
        let mut errors = Vec::new();
        for turn in 0..target.0.len() {
            let at = (before.place + turn) % target.0.len();
            let place = &target.0[at];
            let Ok(address) = &place.address else {
                continue;
            };
            // Another server's marks mean nothing here, and each gets its part of the time.
            let mut before = before.clone();
            if at != before.place {
                (before.marks, before.plain) = (Marks::default(), false);
            }
            let left = round
                .limits
                .deadline
                .saturating_duration_since(Instant::now());
            let others = u32::try_from(target.0.len() - turn).unwrap_or(u32::MAX);
            let round = Round {
                limits: Limits {
                    deadline: Instant::now() + left / others,
                    ..round.limits
                },
                headers: round.headers.clone(),
                client: round.client.clone(),
                conditional: round.conditional,
            };
            match self.look(address, &place.origin, &before, &round) {
                Ok(mut seen) => {
                    seen.place = at;
                    if let Some((_, Err(error))) = &mut seen.said {
                        *error = named(error.clone(), &place.origin);
                    }
                    return Ok(seen);
                }
                Err(error) => errors.push(named(error, &place.origin)),
            }
        }
        Err(Error::all(errors))
    }

    /// What one address says now.
    fn look(
        &self,
        address: &Address,
        origin: &Origin,
        before: &Seen,
        round: &Round,
    ) -> Result<Seen, Error> {
        let fetched = match address {
            Address::File(path) => read_file(path, round.limits)?,
            Address::Web(url) => {
                let marks = (round.conditional && before.good().is_some())
                    .then_some(&before.marks)
                    .filter(|marks| !marks.is_empty());
                let mut ask = Ask {
                    url,
                    headers: &round.headers,
                    marks,
                    compressed: !before.plain,
                    limits: round.limits,
                };
                let Some(client) = &round.client else {
                    return Err(Error::new(ErrorKind::Unavailable, "there is no client"));
                };
                let mut answer = client::fetch(client, &ask)?;
                if matches!(answer, Answer::Unmeasured) {
                    ask.compressed = false;
                    answer = client::fetch(client, &ask)?;
                }
                let plain = !ask.compressed;
                match answer {
                    Answer::Document(fetched) => {
                        return Ok(self.read(fetched, plain, address, origin, before));
                    }
                    Answer::Same | Answer::Unmeasured => {
                        return Ok(Seen {
                            plain,
                            ..before.clone()
                        });
                    }
                }
            }
        };
        Ok(self.read(fetched, false, address, origin, before))
    }

    /// What was fetched, parsed unless it is what came before.
    fn read(
        &self,
        fetched: Fetched,
        plain: bool,
        address: &Address,
        origin: &Origin,
        before: &Seen,
    ) -> Seen {
        let format = self.format_of(address, fetched.content_type.as_deref());
        let name = format.as_ref().map_or("", Format::name);
        let digest = self.memory.lock().digest.clone();
        let digest = digest.of((&fetched.bytes, name));
        let said = match &before.said {
            Some((same, said)) if *same == digest => said.clone(),
            _ => match format {
                Some(format) => format.parse(&fetched.bytes, origin),
                None => Err(no_format(fetched.content_type.as_deref(), &address.path())),
            },
        };
        Seen {
            load: before.load,
            place: before.place,
            marks: fetched.marks,
            said: Some((digest, said)),
            plain,
        }
    }

    fn format_of(&self, address: &Address, content_type: Option<&str>) -> Option<Format> {
        let typed = || Format::from_extension(extension(&client::media_type(content_type?))?);
        let named = || Format::of_path(&address.path());
        self.options.format.or_else(typed).or_else(named)
    }

    /// All documents as one, the same one as long as they are the same.
    fn join(&self, all: &[Seen]) -> Result<Document, Error> {
        let mut good = Vec::new();
        for seen in all {
            match &seen.said {
                Some((digest, Ok(document))) => good.push((*digest, document)),
                Some((_, Err(error))) => return Err(error.clone()),
                None => return Err(Error::new(ErrorKind::Unavailable, "nothing was said")),
            }
        }
        let digests: Vec<u64> = good.iter().map(|(digest, _)| *digest).collect();
        let known = match &self.memory.lock().union {
            Some((of, document)) if *of == digests => Some(document.clone()),
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
        // The old document may be large.
        drop(before);
        Ok(document)
    }
}

/// What holds for all addresses of one load.
struct Round {
    limits: Limits,
    headers: Vec<http_client::Header>,
    client: Option<Client>,
    conditional: bool,
}

/// An error with where it happened, unless that is known.
fn named(error: Error, origin: &Origin) -> Error {
    match error.origin() {
        None => error.with_origin(origin),
        Some(_) => error,
    }
}

/// What the servers call the version of all documents.
fn revision(all: &[Seen]) -> Option<Arc<str>> {
    let named = |seen: &Seen| seen.marks.etag.clone().or(seen.marks.modified.clone());
    if all.iter().all(|seen| seen.marks.is_empty()) {
        return None;
    }
    let names: Vec<_> = all
        .iter()
        .map(|seen| named(seen).unwrap_or_else(|| "-".to_owned()))
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
            read::Fault::Large => Error::new(ErrorKind::TooLarge, fault.to_string()),
            fault => Error::new(ErrorKind::Unavailable, fault.to_string()),
        })?;
        let digest = digests.of(&content.bytes);
        if !is_accepted(&mut suspect, digest, &content, reading) {
            let now = Instant::now();
            if now - begun > MAX_WAIT || now + QUIET >= limits.deadline {
                let detail = "the file is being written; the next poll reads it again";
                return Err(Error::new(ErrorKind::Unavailable, detail));
            }
            std::thread::sleep(QUIET);
            continue;
        }
        return Ok(Fetched {
            bytes: content.bytes,
            marks: Marks::default(),
            content_type: None,
        });
    }
}
