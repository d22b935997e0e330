//! Faults of rivals: several names of one table that mean the same field, variant or key.

use crate::decode::access::Child;
use crate::decode::containers::SplitEntries;
use crate::decode::deserializer::ValueDeserializer;
use crate::decode::diagnose::fault::Fault;
use crate::decode::location::first_origin;
use crate::error::ErrorKind;
use crate::value::key;
use crate::value::origin::Origin;

/// How many rivals an error names.
const MAX_RIVALS: usize = 4;

/// A rival and its origin, for an error.
pub(super) fn describe_rival(name: &str, origin: Option<&Origin>) -> String {
    match origin {
        Some(origin) => format!("`{name}` ({origin})"),
        None => format!("`{name}`"),
    }
}

impl<'a, 'de> ValueDeserializer<'a, 'de> {
    /// Locates a fault, and names the two spellings of a field that is set twice. `last` is the name that
    /// was read last.
    #[cold]
    pub(super) fn locate_duplicate(&self, fault: Fault, last: Option<&str>) -> Fault {
        let (Some(field), None, Some(last)) = (fault.0.duplicate, &fault.0.location, last) else {
            return self.locate(fault);
        };
        // serde reads its buffer after the last name, so that name is none of the two.
        let is_buffered = self.context.diagnosis.is_some_and(|diagnosis| {
            let mut path = self.path_text();
            key::push_segment(&mut path, last);
            diagnosis.borrow().inference.buffers_below(&path)
        });
        if is_buffered {
            return self.locate(fault);
        }
        let mut storage = SplitEntries::None;
        let entries = self.pairs(&mut storage, &String::new).unwrap_or_default();
        let is_of_field = |child: &&Child<'_>| child.name == field || child.name == last;
        let both: Vec<_> = entries.iter().filter(is_of_field).copied().collect();
        if both.len() == 2 {
            let what = format!("`{field}` is set twice");
            let mut fault = self.rivals_fault(&both, &what, String::new());
            fault.0.are_spellings = true;
            return fault;
        }
        // serde names the field and not the other spelling, which further passes find.
        let mut fault = self.locate(fault);
        let before = entries.iter().take_while(|child| child.name != last);
        fault.0.read_names = before.map(|child| child.name.into()).collect();
        fault.0.read_names.push(last.into());
        fault
    }

    /// The fault of rivals.
    #[cold]
    pub(super) fn rivals_fault(&self, all: &[Child<'_>], what: &str, expected: String) -> Fault {
        let origin =
            |child: &Child<'_>| child.origin.or_else(|| first_origin(child.input)).cloned();
        let describe = |child: &Child<'_>| describe_rival(child.name, origin(child).as_ref());
        let names: Vec<String> = all.iter().take(MAX_RIVALS).map(describe).collect();
        let detail = if names.is_empty() || self.is_masked(&self.path_text()) {
            format!("{what}; leave one")
        } else {
            format!("{what}: by {}; leave one of them", names.join(" and "))
        };
        let mut fault = if all.is_empty() {
            Fault::mismatch("no variant is set", expected)
        } else if expected.is_empty() {
            Fault::new(ErrorKind::Mismatch, detail)
        } else {
            Fault::mismatch(&detail, expected)
        };
        fault.0.rivals = all.iter().map(|child| child.name.into()).collect();
        let mut fault = self.locate(fault);
        if let (Some(location), Some(origin)) =
            (&mut fault.0.location, all.first().and_then(origin))
        {
            location.origin = Some(origin);
        }
        fault
    }

    /// The fault of two names of a map that convert to one key.
    #[cold]
    pub(super) fn duplicate_key_fault(&self, first: Child<'_>, second: Child<'_>) -> Fault {
        let mut fault = self.rivals_fault(&[first, second], "a key is given twice", String::new());
        // The rivals of an error are fields and variants, which layers may override.
        fault.0.rivals.clear();
        fault
    }
}
