//! Finds a store part by part: in the environment, else in a file, else by default.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, MASK};
use crate::format::Format;
use crate::sources::fs::watch::absolute;
use crate::sources::fs::watch::read::{self, ReadError};
use crate::value::Value;
use crate::value::document::Document;
use crate::value::envname::env_name_to_key;
use crate::value::origin::Origin;
use crate::value::secret::mask_text;

/// Finds a store by its host, port and scheme, each from an environment variable, else from a file, else the
/// default.
///
/// With the prefix `WAZO_CONSUL` the variables are `WAZO_CONSUL_HOST`, `WAZO_CONSUL_PORT` and
/// `WAZO_CONSUL_SCHEME`, in the environment and in the file, which has the syntax of `.env` files.
/// A line that sets no variable is skipped. A missing file is no error; an empty
/// variable counts as none. A source looks each time it connects.
///
/// ```
/// use liveprops::sources::Locator;
///
/// let locator = Locator::new("WAZO_CONSUL")
///     .file("/etc/wazo-platform/consul")
///     .host("consul")
///     .port(8500)
///     .scheme("http");
/// let found = locator.find()?;
/// assert_eq!(found.url(), "http://consul:8500");
/// assert_eq!(
///     found.to_string(),
///     "http://consul:8500 (scheme by default, host by default, port by default)",
/// );
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Locator {
    prefix: String,
    file: Option<PathBuf>,
    host: String,
    port: Option<u16>,
    scheme: String,
    vars: Option<Vec<(String, String)>>,
}

/// The location of a store, and where each part of it was found.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Location {
    /// The scheme, such as `http`.
    pub scheme: LocationPart<String>,
    /// The name or the address of the host.
    pub host: LocationPart<String>,
    /// The port.
    pub port: LocationPart<u16>,
}

/// A part of a [`Location`], and where it was found.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct LocationPart<T> {
    /// The part.
    pub value: T,
    /// Where it was found; `None` for the default.
    pub origin: Option<Origin>,
}

impl Locator {
    /// A locator with a prefix for the names of its variables. The defaults are `localhost`, no
    /// port and `http`.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            file: None,
            host: "localhost".to_owned(),
            port: None,
            scheme: "http".to_owned(),
            vars: None,
        }
    }

    /// Sets the file for variables that the environment lacks.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(absolute(&path.into()));
        self
    }

    /// Sets the default host.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }

    /// Sets the default port; that of the store is used if none is set.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Sets the default port, unless one was set.
    pub(crate) fn or_port(mut self, port: u16) -> Self {
        self.port.get_or_insert(port);
        self
    }

    /// Sets the default scheme.
    pub fn scheme(mut self, scheme: impl Into<String>) -> Self {
        self.scheme = scheme.into();
        self
    }

    /// Replaces the environment of the process by these variables.
    pub fn vars<K: Into<String>, V: Into<String>>(
        mut self,
        vars: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let vars = vars
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        self.vars = Some(vars.collect());
        self
    }

    /// Looks for the store now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Malformed`] if a part or the file is not valid, with its origin;
    /// [`ErrorKind::Unavailable`] if the file cannot be read; [`ErrorKind::NotFound`] without a port.
    pub fn find(&self) -> Result<Location, Error> {
        let file = match &self.file {
            Some(path) => read_variables(path)?,
            None => Document::new(),
        };
        let host = found(self.find_part(&file, "HOST")?, || self.host.clone());
        let is_plain = |c: char| c.is_alphanumeric() || "-._:[]%".contains(c);
        if host.value.is_empty() || !host.value.chars().all(is_plain) {
            return Err(invalid("a host", "a name or an address", &host));
        }
        let scheme = found(self.find_part(&file, "SCHEME")?, || self.scheme.clone());
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        if scheme.value.is_empty() || !scheme.value.chars().all(is_plain) {
            return Err(invalid("a scheme", "`http` or `https`", &scheme));
        }
        let port = self.find_port(&file)?;
        Ok(Location { scheme, host, port })
    }

    /// The value of a part in the environment, else in the file.
    fn find_part(&self, file: &Document, part: &str) -> Result<Option<(String, Origin)>, Error> {
        let name = format!("{}_{part}", self.prefix);
        if let Some(value) = self.var(&name)? {
            return Ok(Some((value, Origin::new("env", &*name))));
        }
        let key = env_name_to_key(&name).unwrap_or_default().join(".");
        let found = file.get(&key).zip(file.origin(&key));
        Ok(found.and_then(|(value, origin)| match value {
            Value::Text(text) if !text.trim().is_empty() => {
                Some((text.trim().to_owned(), origin.clone()))
            }
            _ => None,
        }))
    }

    fn find_port(&self, file: &Document) -> Result<LocationPart<u16>, Error> {
        let Some((value, origin)) = self.find_part(file, "PORT")? else {
            let value = self.port.ok_or_else(|| {
                let detail = format!(
                    "no port: {}_PORT is not set, and the locator has no default",
                    self.prefix
                );
                Error::new(ErrorKind::NotFound, detail)
            })?;
            return Ok(LocationPart {
                value,
                origin: None,
            });
        };
        let origin = Some(origin);
        match value.parse().ok().filter(|port| *port > 0) {
            Some(value) => Ok(LocationPart { value, origin }),
            None => Err(invalid(
                "a port",
                "1 to 65535",
                &LocationPart { value, origin },
            )),
        }
    }

    fn var(&self, name: &str) -> Result<Option<String>, Error> {
        let value = match &self.vars {
            Some(vars) => {
                let mut named = vars.iter().rev().filter(|(other, _)| other == name);
                named.next().map(|(_, value)| value.clone())
            }
            None => match std::env::var_os(name).map(|value| value.into_string()) {
                None => None,
                Some(Ok(value)) => Some(value),
                Some(Err(_)) => {
                    let error = Error::new(ErrorKind::Malformed, "is not UTF-8");
                    return Err(error.with_origin(Origin::new("env", name)));
                }
            },
        };
        Ok(value
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty()))
    }
}

impl fmt::Debug for Locator {
    /// Shows the names of variables without their values, which may be those of the whole environment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vars = self.vars.as_deref().map(|vars| {
            let names = vars.iter().map(|(name, _)| name.as_str());
            names.collect::<Vec<_>>()
        });
        f.debug_struct("Locator")
            .field("prefix", &self.prefix)
            .field("file", &self.file)
            .field("host", &without_user(&self.host))
            .field("port", &self.port)
            .field("scheme", &mask_text(&self.scheme))
            .field("vars", &vars)
            .finish()
    }
}

/// A host without the part before an `@`, which may be a password.
fn without_user(host: &str) -> String {
    match host.rsplit_once('@') {
        Some((_, rest)) => format!("{MASK}@{rest}"),
        None => mask_text(host),
    }
}

/// Reads the variables of a file; none if it is missing.
fn read_variables(path: &Path) -> Result<Document, Error> {
    let origin = Origin::new("file", path.display().to_string());
    match read::read(path) {
        Ok(content) => Format::dotenv().parse(&content.bytes, &origin),
        Err(ReadError::Missing) => Ok(Document::new()),
        Err(fault) => {
            let error = Error::new(ErrorKind::Unavailable, fault.to_string());
            Err(error.with_origin(&origin))
        }
    }
}

fn found(part: Option<(String, Origin)>, default: impl FnOnce() -> String) -> LocationPart<String> {
    let (value, origin) = match part {
        Some((value, origin)) => (value, Some(origin)),
        None => (default(), None),
    };
    LocationPart { value, origin }
}

fn invalid(what: &str, expected: &str, found: &LocationPart<String>) -> Error {
    let shown: String = without_user(&found.value).chars().take(80).collect();
    let error = Error::new(ErrorKind::Malformed, format!("not {what}"));
    let error = error
        .with_expected(expected)
        .with_found(format!("{shown:?}"));
    match &found.origin {
        Some(origin) => error.with_origin(origin),
        None => error,
    }
}

impl Location {
    /// The location as an address, such as `http://consul:8500`.
    pub fn url(&self) -> String {
        let host = &self.host.value;
        if host.contains(':') && !host.starts_with('[') {
            format!("{}://[{host}]:{}", self.scheme.value, self.port.value)
        } else {
            format!("{}://{host}:{}", self.scheme.value, self.port.value)
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = |origin: &Option<Origin>| match origin {
            Some(origin) => format!("from {origin}"),
            None => "by default".to_owned(),
        };
        write!(
            f,
            "{} (scheme {}, host {}, port {})",
            self.url(),
            by(&self.scheme.origin),
            by(&self.host.origin),
            by(&self.port.origin)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::shared::kv::endpoints::Endpoints;

    fn locator(dir: &Path) -> Locator {
        Locator::new("WAZO_CONSUL")
            .file(dir.join("consul"))
            .host("consul")
            .port(8500)
            .vars([("", ""); 0])
    }

    #[test]
    fn each_part_is_found_by_itself_in_the_environment_the_file_or_by_default() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("consul");
        let parts = ["HOST", "PORT", "SCHEME"];
        for combination in 0..27usize {
            let layer = |part: usize| combination / 3usize.pow(part as u32) % 3;
            let value = |part: usize, layer: usize| match part {
                0 => ["consul", "file-host", "env-host"][layer],
                1 => ["8500", "1", "2"][layer],
                _ => ["http", "https", "HTTPS"][layer],
            };
            let line =
                |part: usize| format!("WAZO_CONSUL_{}=\"{}\"\n", parts[part], value(part, 1));
            let in_file = (0..3).filter(|part| layer(*part) > 0).map(line);
            let text = format!("# a comment\n; another\n{}", in_file.collect::<String>());
            std::fs::write(&path, text).unwrap();
            let vars = (0..3).filter(|part| layer(*part) == 2);
            let vars = vars.map(|part| (format!("WAZO_CONSUL_{}", parts[part]), value(part, 2)));
            let found = locator(dir.path()).vars(vars).find().unwrap();
            let at = |part| value(part, layer(part));
            assert_eq!(found.host.value, at(0));
            assert_eq!(found.port.value.to_string(), at(1));
            assert_eq!(found.scheme.value, at(2));
            let origins = [&found.host.origin, &found.port.origin, &found.scheme.origin];
            for (part, origin) in origins.into_iter().enumerate() {
                let kind = origin.as_ref().map_or("", Origin::kind);
                assert_eq!(kind, ["", "file", "env"][layer(part)]);
            }
        }
    }

    #[test]
    fn without_a_file_and_with_empty_variables_the_defaults_apply() {
        let dir = tempfile::tempdir().unwrap();
        let found = locator(dir.path())
            .vars([("WAZO_CONSUL_HOST", " ")])
            .find()
            .unwrap();
        assert_eq!(found.url(), "http://consul:8500");
        let six = locator(dir.path())
            .vars([("WAZO_CONSUL_HOST", "::1")])
            .find()
            .unwrap();
        assert_eq!(six.url(), "http://[::1]:8500");
    }

    #[test]
    fn a_bad_part_is_an_error_that_names_its_origin() {
        let dir = tempfile::tempdir().unwrap();
        for port in ["0", "65536", "http", "-1"] {
            let error = locator(dir.path())
                .vars([("WAZO_CONSUL_PORT", port)])
                .find()
                .unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains("env WAZO_CONSUL_PORT") && text.contains(port),
                "{text}"
            );
        }
        std::fs::write(dir.path().join("consul"), "\nWAZO_CONSUL_PORT=x\n").unwrap();
        let text = locator(dir.path()).find().unwrap_err().to_string();
        assert!(text.contains("consul:2:"), "{text}");
        for host in ["a b", "a/b", "me@host", "a\nb"] {
            assert!(
                locator(dir.path())
                    .vars([("WAZO_CONSUL_HOST", host)])
                    .find()
                    .is_err()
            );
        }
        assert!(
            Locator::new("X").vars([("", ""); 0]).find().is_err(),
            "no port"
        );
    }

    #[test]
    fn a_password_is_not_shown_and_a_store_has_a_port_of_its_own() {
        let with = |host: &str| Locator::new("X").vars([("X_HOST", host)]).or_port(8500);
        assert_eq!(with("consul").find().unwrap().url(), "http://consul:8500");
        let other = with("consul").port(1).or_port(2);
        assert_eq!(other.find().unwrap().url(), "http://consul:1");
        let text = with("me:s3cret@consul").find().unwrap_err().to_string();
        assert!(
            text.contains("******@consul") && !text.contains("s3cret"),
            "{text}"
        );
        let vars = [("X_HOST", "me:s3cret@consul"), ("DB_PASSWORD", "s3cret")];
        let locator = Locator::new("X").host("me:s3cret@h").vars(vars);
        let text = format!("{locator:?} {:?}", Endpoints::found_by(locator.clone()));
        assert!(
            text.contains("X_HOST") && !text.contains("s3cret"),
            "{text}"
        );
    }
}
