//! Where a value was written.

use std::fmt;
use std::sync::Arc;

use crate::value::{Value, count, position};

/// Where a value was written: `file app.toml:12:7`, `env CHECKOUT_RATELIMIT_QPS`,
/// `consul config/checkout/qps @ 4711`.
///
/// Cloning is cheap: all values of one document share its kind and name.
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
    within: Within,
}

/// The document, variable or store key: the kind of its source, and its name.
#[derive(Debug, Eq, Hash, PartialEq)]
struct Place {
    kind: Box<str>,
    name: Box<str>,
}

/// A line and a column, both counted from 1; the column counts characters.
pub(crate) type Position = (u32, u32);

/// The part of a place that an origin names.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Within {
    Whole,
    Line(u32, u32),
    /// The positions of a list and of each value in it, in the order of [`position`]. Boxed once more, so
    /// that an origin without items is no larger.
    Items(Arc<Box<[Position]>>),
    /// The origins of a composed list and of each value in it, in the order of
    /// [`position`]. None of them has parts.
    Parts(Arc<Box<[Origin]>>),
    Revision(u64),
}

impl Origin {
    /// Creates an origin: the kind of source, and the name of the document, variable or store key.
    pub fn new(kind: &str, name: impl Into<String>) -> Self {
        let place = Place {
            kind: kind.into(),
            name: name.into().into(),
        };
        Self {
            place: Arc::new(place),
            within: Within::Whole,
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
            within: Within::Line(line, column),
        }
    }

    /// The same place at a revision of its store.
    #[must_use]
    pub fn revision(&self, revision: u64) -> Self {
        Self {
            place: Arc::clone(&self.place),
            within: Within::Revision(revision),
        }
    }

    /// The same place, with the positions of a list and the values in it.
    pub(crate) fn with_items(&self, positions: Vec<Position>) -> Self {
        let within = match *positions.as_slice() {
            [] => Within::Whole,
            [(line, column)] => Within::Line(line, column),
            _ => Within::Items(Arc::new(positions.into())),
        };
        Self {
            place: Arc::clone(&self.place),
            within,
        }
    }

    /// The same place, with the origins of a list whose values come from several places. `parts` begins
    /// with the origin of the list itself.
    pub(crate) fn with_parts(&self, parts: Vec<Origin>) -> Self {
        Self {
            place: Arc::clone(&self.place),
            within: Within::Parts(Arc::new(parts.into())),
        }
    }

    /// The origins of a value and of each value in it, in the order of [`position`], if this is the origin
    /// of the value. A part without an origin of its own has that of the value.
    pub(crate) fn of_all(&self, value: &Value) -> Vec<Self> {
        let count = value.count();
        match &self.within {
            Within::Items(positions) if positions.len() == count => positions
                .iter()
                .map(|(line, column)| self.at(*line, *column))
                .collect(),
            Within::Parts(parts) if parts.len() == count => parts.to_vec(),
            _ => vec![self.clone(); count],
        }
    }

    /// The positions of a list and of the values in it, if they are known.
    pub(crate) fn items(&self) -> Option<&[Position]> {
        match &self.within {
            Within::Items(positions) => Some(positions),
            _ => None,
        }
    }

    /// The origin of the value at a path in a list, if this is the origin of the list; `None` if it is not
    /// known. It is not known of a list that was joined with another one since.
    #[cold]
    pub(crate) fn of_item(&self, list: &[Value], path: &[String]) -> Option<Self> {
        match &self.within {
            Within::Items(positions) if positions.len() == count(list) => {
                let (line, column) = *positions.get(position(list, path)?)?;
                Some(self.at(line, column))
            }
            Within::Parts(parts) if parts.len() == count(list) => {
                parts.get(position(list, path)?).cloned()
            }
            _ => None,
        }
    }

    /// Whether the place of the value at a path in a list, as [`of_item`](Self::of_item) finds it, has no
    /// other value of the list.
    #[cold]
    pub(crate) fn is_of_one_item(&self, list: &[Value], path: &[String]) -> bool {
        let Within::Parts(parts) = &self.within else {
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
        match &self.within {
            Within::Revision(revision) => Some(*revision),
            Within::Parts(parts) => parts.first()?.revised(),
            _ => None,
        }
    }

    /// The line and the column, where the source has them.
    pub fn line(&self) -> Option<(u32, u32)> {
        match &self.within {
            Within::Line(line, column) => Some((*line, *column)),
            Within::Items(positions) => positions.first().copied(),
            Within::Parts(parts) => parts.first()?.line(),
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
