//! Tables inside lists.

use std::collections::BTreeMap;
use std::fmt;

use crate::sorted;
use crate::value::Value;

/// The fields of a table: values by name, in the order of their names.
///
/// ```
/// use liveprops::{Table, Value};
///
/// let server = Table::from([("port", 8080), ("host", 0)]);
/// assert_eq!(server.get("port").and_then(Value::as_i64), Some(8080));
/// assert_eq!(server.keys().collect::<Vec<_>>(), ["host", "port"]);
/// let servers = Value::from(vec![server]);
/// assert_eq!(servers.to_string(), "[{host = 0, port = 8080}]");
/// ```
// Sorted by name, without duplicates: half the memory of a map.
#[derive(Clone, Default, PartialEq)]
pub struct Table(Box<[(Box<str>, Value)]>);

impl Table {
    /// Creates a table without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the value of a field.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.find(name).map(|at| &self.0[at].1)
    }

    /// Returns how many fields there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the fields in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> + DoubleEndedIterator {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// Returns the names in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> + DoubleEndedIterator {
        self.0.iter().map(|(name, _)| &**name)
    }

    /// Returns the values in the order of their names.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Value> + DoubleEndedIterator {
        self.0.iter().map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.find(name).map(|at| &mut self.0[at].1)
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Value> {
        let at = self.find(name)?;
        let mut fields = std::mem::take(&mut self.0).into_vec();
        let (_, value) = fields.remove(at);
        self.0 = fields.into();
        Some(value)
    }

    /// Collects fields; of those with one name the last counts.
    pub(crate) fn from_fields(mut fields: Vec<(Box<str>, Value)>) -> Self {
        sorted::sort_by(&mut fields, |(a, _), (b, _)| a.cmp(b));
        fields.dedup_by(|later, kept| {
            let is_same = later.0 == kept.0;
            if is_same {
                std::mem::swap(later, kept);
            }
            is_same
        });
        Self(fields.into())
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.0.binary_search_by(|(own, _)| (**own).cmp(name)).ok()
    }
}

impl<K: Into<Box<str>>, V: Into<Value>> FromIterator<(K, V)> for Table {
    /// Collects fields; of those with one name the last counts.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(fields: I) -> Self {
        let fields = fields.into_iter();
        Self::from_fields(
            fields
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

impl<K: Into<Box<str>>, V: Into<Value>, const N: usize> From<[(K, V); N]> for Table {
    fn from(fields: [(K, V); N]) -> Self {
        fields.into_iter().collect()
    }
}

impl<K: Into<Box<str>>, V: Into<Value>> From<BTreeMap<K, V>> for Table {
    fn from(fields: BTreeMap<K, V>) -> Self {
        fields.into_iter().collect()
    }
}

impl IntoIterator for Table {
    type Item = (Box<str>, Value);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_vec().into_iter()
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_sorted_and_the_last_of_a_name_counts() {
        let mut table = Table::from([("b", 1), ("a", 2), ("b", 3), ("c", 4), ("b", 5)]);
        let fields: Vec<_> = table
            .iter()
            .map(|(name, value)| (name, value.as_i64()))
            .collect();
        assert_eq!(fields, [("a", Some(2)), ("b", Some(5)), ("c", Some(4))]);
        assert_eq!(table.get("d"), None);
        assert_eq!(table.remove("b"), Some(Value::from(5)));
        assert_eq!(table.remove("b"), None);
        assert_eq!(table, Table::from([("c", 4), ("a", 2)]));
    }
}
