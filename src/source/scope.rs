//! The names of an application's configuration: its own over the common one, and profiles over both.

use crate::error::{Error, ErrorKind};

/// The names of one program's configuration in a place that several programs share.
///
/// Examples are a file `checkout.toml` beside a `common.toml`, and a prefix `checkout` beside `common` in a
/// store. A later name overrides an earlier one: the program's own configuration overrides the common one,
/// and a profile overrides the configuration without it.
///
/// ```
/// use liveprops::source::Scope;
///
/// let scope = Scope::app("checkout").profile("prod").profile("eu");
/// assert_eq!(
///     scope.names()?,
///     [
///         "common", "common-prod", "common-eu", // lowest first
///         "checkout", "checkout-prod", "checkout-eu",
///     ],
/// );
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub struct Scope {
    app: String,
    common: Option<String>,
    profiles: Vec<String>,
}

impl Scope {
    /// The configuration of an application, over one named `common`, without profiles.
    pub fn app(name: impl Into<String>) -> Self {
        Self {
            app: name.into(),
            common: Some("common".to_owned()),
            profiles: Vec::new(),
        }
    }

    /// Sets the name of the common configuration. The default is `common`.
    pub fn common(mut self, name: impl Into<String>) -> Self {
        self.common = Some(name.into());
        self
    }

    /// Leaves out the common configuration.
    pub fn without_common(mut self) -> Self {
        self.common = None;
        self
    }

    /// Adds a profile, or another field such as a region, a cluster or a zone. A later one overrides an
    /// earlier one.
    pub fn profile(mut self, name: impl Into<String>) -> Self {
        self.profiles.push(name.into());
        self
    }

    /// The names, the weakest first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if a name or a profile is not 1 to 64 letters, digits, `_`, `.` or
    /// `-`, or is `.` or `..`: it becomes part of a path or of a store's key.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        for base in self.common.iter().chain([&self.app]) {
            names.push(checked(base)?.to_owned());
            for profile in &self.profiles {
                names.push(format!("{base}-{}", checked(profile)?));
            }
        }
        Ok(names)
    }
}

/// A name that can be part of a path and is nothing more.
fn checked(name: &str) -> Result<&str, Error> {
    if is_name(name) {
        return Ok(name);
    }
    let shown: String = name.chars().take(80).collect();
    let detail = format!(
        "`{shown}` is not a name or a profile; expected 1 to 64 letters, digits, `_`, `.` and `-`"
    );
    Err(Error::new(ErrorKind::InvalidKey, detail))
}

/// Whether a name or a profile can be part of a path and is nothing more.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(plain) && name != "." && name != ".."
}
