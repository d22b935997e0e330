//! The environment of the process.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::sorted::{self, SortedMap};
use crate::source::{Policy, Source, Watching};
use crate::value::Value;
use crate::value::document::Document;
use crate::value::envname::env_name_to_key;
use crate::value::key::Key;
use crate::value::origin::Origin;

/// Reads properties from environment variables.
///
/// The prefix is removed, two underscores separate the segments of the key, and letters become lower case:
/// with `Env::prefix("CHECKOUT_")`, `CHECKOUT_RATELIMIT__MAX_BURST` is `ratelimit.max_burst`. A
/// dot separates segments as well: `CHECKOUT_LABELS__App.Name` is `labels.app.name`. A single underscore stays,
/// so no name is ambiguous. Values stay text and become numbers,
/// durations or lists where the program reads those. They contain no references: `${` in them is text, unless
/// [`with_references`](Self::with_references) is set.
///
/// Numbers are indexes: `CHECKOUT_HOSTS__1` overrides the second item of the list `hosts` of a lower
/// layer, and `CHECKOUT_HOSTS__1__PORT` a field of it. [`Layer`](crate::Layer) has the rules.
///
/// A variable overrides only the key that it maps to. Keys with `-` or capital letters, such as those of
/// `#[serde(rename_all = "kebab-case")]`, need [`name`](Self::name): `CHECKOUT_HTTP__MAX_BODY` sets
/// `http.max_body`, and neither `http.max-body` nor `http.maxBody`. A name with one underscore too few, such
/// as `CHECKOUT_RATELIMIT_QPS`, sets `ratelimit_qps`. If the key that is meant is missing, the error names the
/// variable and the remedy. The health of this source has a hint
/// ([`SourceHealth::hints`](crate::health::SourceHealth::hints)) for each variable whose key differs only by
/// `_`, `-`, `.` or case from a key of a weaker layer, of a [`Schema`](crate::Schema), of a live handle or of a
/// field of a struct that a handle reads. A prefix without its underscore is a hint as well.
///
/// What cannot be used is rejected and reported in the source's health, which is not `Up` then: a
/// name or value that is not UTF-8, a name that maps to no key, and the later (in order of names) of
/// two variables that map to one key, or to a value and a table at once. A variable whose value
/// becomes unusable keeps its last good value. `CHECKOUT_HOSTS__01` is the index of no item, and reported
/// as well.
///
/// ```
/// use liveprops::{Properties, sources::Env};
///
/// let env = Env::prefix("CHECKOUT_").vars([
///     ("CHECKOUT_RATELIMIT__QPS", "500"),
///     ("HTTP_PORT", "8080"),
/// ]);
/// let props = Properties::builder().source(env.name("HTTP_PORT", "http.port")).build()?;
/// assert_eq!(props.get::<u32>("ratelimit.qps")?, 500);
/// assert_eq!(props.get::<u16>("http.port")?, 8080);
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone)]
pub struct Env {
    prefix: String,
    names: SortedMap<String, String>,
    ignore_empty: bool,
    reread: Option<Duration>,
    vars: Vars,
    has_references: bool,
}

/// Where the variables come from.
type Vars = Arc<dyn Fn() -> Vec<(OsString, OsString)> + Send + Sync>;

impl Env {
    /// Reads the variables whose names begin with `prefix`, which includes its last `_`: `CHECKOUT_`.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            names: SortedMap::new(),
            ignore_empty: false,
            reread: None,
            vars: Arc::new(|| std::env::vars_os().collect()),
            has_references: false,
        }
    }

    /// Follows `${key}` in values as a reference to another key. By default the values contain no
    /// references, since a password may contain any characters.
    ///
    /// ```
    /// use liveprops::{Properties, sources::Env};
    ///
    /// let env = Env::prefix("APP_").vars([("APP_HOST", "db"), ("APP_URL", "pg://${host}")]);
    /// let props = Properties::builder().source(env.clone()).build()?;
    /// assert_eq!(props.get::<String>("url")?, "pg://${host}");
    /// let props = Properties::builder().source(env.with_references()).build()?;
    /// assert_eq!(props.get::<String>("url")?, "pg://db");
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    #[must_use]
    pub fn with_references(mut self) -> Self {
        self.has_references = true;
        self
    }

    /// Reads one variable as one key, whatever the prefix and the mapping say of its name.
    #[must_use]
    pub fn name(mut self, variable: impl Into<String>, key: impl Into<String>) -> Self {
        self.names.insert(variable.into(), key.into());
        self
    }

    /// Skips variables whose value is empty, as if they were not set: lower layers and defaults apply.
    ///
    /// By default an empty variable is an empty text, which is no number and no boolean. Container
    /// platforms often set a variable to nothing where it is meant to be absent.
    ///
    /// ```
    /// use liveprops::{Properties, sources::{Env, Memory}};
    ///
    /// let env = Env::prefix("APP_").ignore_empty().vars([("APP_PORT", "")]);
    /// let props = Properties::builder()
    ///     .source(Memory::from([("port", 80)]))
    ///     .source(env)
    ///     .build()?;
    /// assert_eq!(props.get::<u16>("port")?, 80);
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    #[must_use]
    pub fn ignore_empty(mut self) -> Self {
        self.ignore_empty = true;
        self
    }

    /// Reads the environment again after each pause. By default it is read once, since it rarely
    /// changes and reading it while another thread writes it is not safe on every platform.
    #[must_use]
    pub fn reread(mut self, every: Duration) -> Self {
        self.reread = Some(every);
        self
    }

    /// Reads these variables instead of the process's own, for tests.
    #[must_use]
    pub fn vars<K: Into<OsString>, V: Into<OsString>>(
        mut self,
        vars: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let vars: Vec<_> = vars
            .into_iter()
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
        self.vars = Arc::new(move || vars.clone());
        self
    }

    /// A hint if the prefix lacks its last underscore, so that keys begin with one.
    fn missing_separator(&self, vars: &[(OsString, OsString)]) -> Option<Error> {
        if self.prefix.is_empty() || self.prefix.ends_with(['_', '.']) {
            return None;
        }
        let names = vars.iter().filter_map(|(name, _)| name.to_str());
        let mut names = names.filter(|name| !self.names.contains_key(*name));
        let (name, rest) = names.find_map(|name| {
            let rest = name.strip_prefix(self.prefix.as_str())?;
            rest.starts_with('_').then_some((name, rest))
        })?;
        let prefix = &self.prefix;
        let key = rest.to_lowercase();
        let detail = format!(
            "the prefix `{prefix}` lacks its separator, so the key of `{name}` begins with an \
             underscore: `{key}`; write `Env::prefix(\"{prefix}_\")`"
        );
        Some(Error::new(ErrorKind::InvalidKey, detail).with_origin(self.origin()))
    }

    /// The segments of the key that a variable sets; `None` if its name has neither the prefix nor a mapping.
    fn key(&self, variable: &str) -> Option<Result<Vec<String>, Error>> {
        if let Some(key) = self.names.get(variable) {
            let segments = |key: Key| key.segments().map(Cow::into_owned).collect();
            return Some(Key::parse(key).map(segments));
        }
        let rest = variable.strip_prefix(self.prefix.as_str())?;
        let unclear = || {
            let detail = "maps to no key: `__` separates segments, and a segment is empty or begins with `_`";
            Error::new(ErrorKind::InvalidKey, detail)
        };
        Some(env_name_to_key(rest).ok_or_else(unclear))
    }
}

impl Source for Env {
    fn origin(&self) -> Origin {
        Origin::new("env", &*self.prefix)
    }

    fn load(&self) -> Result<Document, Error> {
        let mut vars = (self.vars)();
        sorted::sort(&mut vars);
        let mut document = Document::new();
        if let Some(hint) = self.missing_separator(&vars) {
            document.hint(hint);
        }
        for (name, value) in &vars {
            if self.ignore_empty && value.is_empty() {
                continue;
            }
            let Some(variable) = name.to_str() else {
                if begins_with(name, &self.prefix) {
                    let error = Error::new(
                        ErrorKind::Malformed,
                        "a variable whose name is not UTF-8 was skipped",
                    );
                    document.report_problem(error.with_origin(self.origin()));
                }
                continue;
            };
            let Some(key) = self.key(variable) else {
                continue;
            };
            let origin = Origin::new("env", variable);
            let put = key.and_then(|path| {
                let text = value.to_str().ok_or_else(|| {
                    Error::new(
                        ErrorKind::Malformed,
                        "its value is not UTF-8 and was skipped",
                    )
                })?;
                let path: Vec<Cow<'_, str>> = path.into_iter().map(Cow::Owned).collect();
                let key = Key::from_segments(&path)?;
                if let Some(first) = document.origin(key.as_str()) {
                    let detail = format!("is set twice: {first} counts, this one does not");
                    return Err(Error::new(ErrorKind::InvalidKey, detail).with_key(key));
                }
                document.set_path(&path, Value::from(text), &origin)
            });
            match put {
                Ok(()) => {}
                // Another variable counts, or the name means nothing.
                Err(error) if error.kind() == ErrorKind::InvalidKey => {
                    document.report_problem(error.with_origin(&origin));
                }
                Err(error) => document.report_fragment(&origin, error.with_origin(&origin)),
            }
        }
        Ok(document)
    }

    fn policy(&self) -> Policy {
        if self.has_references {
            Policy::new()
        } else {
            Policy::new().without_references()
        }
    }

    fn watching(&self) -> Watching {
        self.reread.map_or(Watching::Never, Watching::Poll)
    }
}

/// Whether a name that is not UTF-8 begins with the prefix.
fn begins_with(name: &OsStr, prefix: &str) -> bool {
    name.as_encoded_bytes().starts_with(prefix.as_bytes())
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env")
            .field("prefix", &self.prefix)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}
