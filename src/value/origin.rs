//! Where a value was written.

use std::fmt;
use std::sync::Arc;

use crate::value::{Value, count, position};

/// Where a value was written: `file app.toml:12:7`, `env CHECKOUT_RATELIMIT_QPS`,
/// `consul config/checkout/qps @ 4711`.
///
/// Cloning is cheap: all values of one document share the name of their place.
///
/// ```
/// use liveprops::Origin;
///
/// let file = Origin::new("file", "app.toml");
/// assert_eq!(file.at(12, 7).to_string(), "file app.toml:12:7");
/// assert_eq!(Origin::new("etcd", "app/qps").revision(4711).to_string(), "etcd app/qps @ 4711");
/// ```
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Origin {
    place: Arc<Place>,
    at: At,
}

#[derive(Debug, Eq, Hash, PartialEq)]
struct Place {
    kind: Box<str>,
    name: Box<str>,
}

/// A line and a column.
pub(crate) type Spot = (u32, u32);

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum At {
    Whole,
    Line(u32, u32),
    /// Of a list: where it begins, then where each value in it begins, in the order of
    /// [`position`]. Boxed once more, so that an origin without items is no larger.
    Items(Arc<Box<[Spot]>>),
    /// Of a list that several places make up: its own origin, then that of each value in it, in the
    /// order of [`position`]. None of them has parts.
    Parts(Arc<Box<[Origin]>>),
    Revision(u64),
}

impl Origin {
    /// Names a place: what kind of source it is, and which one.
    pub fn new(kind: &str, name: impl Into<String>) -> Self {
        let place = Place {
            kind: kind.into(),
            name: name.into().into(),
        };
        Self {
            place: Arc::new(place),
            at: At::Whole,
        }
    }

    /// The origin that shows a text such as `file app.toml`.
    pub(crate) fn of_text(text: &str) -> Self {
        let (kind, name) = text.split_once(' ').unwrap_or((text, ""));
        Self::new(kind, name)
    }

    /// The same place at a line and a column, both counted from 1; the column counts characters.
    #[must_use]
    pub fn at(&self, line: u32, column: u32) -> Self {
        Self {
            place: Arc::clone(&self.place),
            at: At::Line(line, column),
        }
    }

    /// The same place at a revision of its store.
    #[must_use]
    pub fn revision(&self, revision: u64) -> Self {
        Self {
            place: Arc::clone(&self.place),
            at: At::Revision(revision),
        }
    }

    /// The same place at a list and the values in it.
    pub(crate) fn with_items(&self, spots: Vec<Spot>) -> Self {
        let at = match *spots.as_slice() {
            [] => At::Whole,
            [(line, column)] => At::Line(line, column),
            _ => At::Items(Arc::new(spots.into())),
        };
        Self {
            place: Arc::clone(&self.place),
            at,
        }
    }

    /// The same place at a list whose values come from several places. `parts` begins with the origin
    /// of the list itself.
    pub(crate) fn with_parts(&self, parts: Vec<Origin>) -> Self {
        Self {
            place: Arc::clone(&self.place),
            at: At::Parts(Arc::new(parts.into())),
        }
    }

    /// Where a value and each value in it were written, in the order of [`position`], if this is the
    /// origin of the value. What has no origin of its own has that of the value.
    pub(crate) fn of_all(&self, value: &Value) -> Vec<Self> {
        let count = value.count();
        match &self.at {
            At::Items(spots) if spots.len() == count => spots
                .iter()
                .map(|(line, column)| self.at(*line, *column))
                .collect(),
            At::Parts(parts) if parts.len() == count => parts.to_vec(),
            _ => vec![self.clone(); count],
        }
    }

    /// Where the list and the values in it begin, if that is known.
    pub(crate) fn items(&self) -> Option<&[Spot]> {
        match &self.at {
            At::Items(spots) => Some(spots),
            _ => None,
        }
    }

    /// Where what stands at a path in a list was written, if this is the origin of the list; `None` if this does not
    /// say. The list may have been joined with another one since, and then its values are more.
    #[cold]
    pub(crate) fn of_item(&self, list: &[Value], path: &[String]) -> Option<Self> {
        match &self.at {
            At::Items(spots) if spots.len() == count(list) => {
                let (line, column) = *spots.get(position(list, path)?)?;
                Some(self.at(line, column))
            }
            At::Parts(parts) if parts.len() == count(list) => {
                parts.get(position(list, path)?).cloned()
            }
            _ => None,
        }
    }

    /// Whether the place of the value at a path in a list, as [`of_item`](Self::of_item) finds it, has no
    /// other value of the list.
    #[cold]
    pub(crate) fn is_of_one_item(&self, list: &[Value], path: &[String]) -> bool {
        let At::Parts(parts) = &self.at else {
            return false;
        };
        let Some(item) = self.of_item(list, path) else {
            return false;
        };
        // The list and a table in it have the origin of their first value.
        let around = (0..path.len()).filter(|end| {
            let around = self.of_item(list, &path[..*end]);
            around.is_some_and(|around| around == item)
        });
        parts.iter().filter(|part| **part == item).count() == around.count() + 1
    }

    /// The kind of source: `file`, `env`, `memory`.
    pub fn kind(&self) -> &str {
        &self.place.kind
    }

    /// Which one: the path, the variable, the store's key.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// The revision of its store, where the source has one.
    pub(crate) fn revised(&self) -> Option<u64> {
        match &self.at {
            At::Revision(revision) => Some(*revision),
            At::Parts(parts) => parts.first()?.revised(),
            _ => None,
        }
    }

    /// The line and the column, where the source has them.
    pub fn line(&self) -> Option<(u32, u32)> {
        match &self.at {
            At::Line(line, column) => Some((*line, *column)),
            At::Items(spots) => spots.first().copied(),
            At::Parts(parts) => parts.first()?.line(),
            _ => None,
        }
    }
}

impl From<&Origin> for Origin {
    fn from(origin: &Origin) -> Self {
        origin.clone()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place.kind)?;
        if !self.place.name.is_empty() {
            write!(f, " {}", self.place.name)?;
        }
        match (self.line(), self.revised()) {
            (Some((line, column)), _) => write!(f, ":{line}:{column}"),
            (None, Some(revision)) => write!(f, " @ {revision}"),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({self})")
    }
}
