//! Several errors as one.

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Inner};

impl Error {
    /// Bundles several errors into one, of the kind of the first; a single one stays itself, and one
    /// that is a bundle gives its parts. Errors of the same kind and text count once. An empty list gives
    /// an error of kind [`ErrorKind::Rejected`].
    pub fn all(errors: Vec<Error>) -> Self {
        let pause = errors.iter().filter_map(|error| error.0.retry_after).max();
        let parts = errors.into_iter().flat_map(Error::into_parts).collect();
        let mut errors = Self::distinct(parts);
        match errors.len() {
            0 => Self::new(ErrorKind::Rejected, "no error was given"),
            1 => errors.remove(0),
            _ => {
                let kind = errors[0].kind();
                let key = errors[0].0.key.clone();
                Self(Arc::new(Inner {
                    key,
                    related: errors,
                    retry_after: pause,
                    ..Inner::of(kind)
                }))
            }
        }
    }

    /// Removes the errors that repeat the problem of a key. The text of an error contains its key and its origin.
    pub(crate) fn distinct(errors: Vec<Error>) -> Vec<Error> {
        if errors.len() < 2 {
            return errors;
        }
        let mut known = HashSet::new();
        // Two sources may fail alike.
        let mut is_new = |part: &Error| {
            part.key_text().is_none() || known.insert((part.kind(), part.to_string()))
        };
        let new_part = |error: Error| {
            let all = error.clone().into_parts();
            let count = all.len();
            let new: Vec<Error> = all.into_iter().filter(&mut is_new).collect();
            match new.len() {
                0 => None,
                some if some == count => Some(error),
                _ => Some(Self::all(new)),
            }
        };
        errors.into_iter().filter_map(new_part).collect()
    }

    /// The single errors in here, each with where it happened, if that is known of all.
    fn into_parts(self) -> Vec<Error> {
        if self.0.related.is_empty() {
            return vec![self];
        }
        let parts = self.0.related.iter().cloned();
        let placed = |part: Error| match (part.origin(), self.origin()) {
            (None, Some(origin)) => part.with_origin(origin),
            _ => part,
        };
        parts.map(placed).collect()
    }

    /// Every single error in here: those of all fields of a struct, or just this one.
    pub fn iter(&self) -> impl Iterator<Item = &Error> {
        let alone = self.0.related.is_empty().then_some(self);
        alone.into_iter().chain(self.0.related.iter())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::value::key::Key;

    #[test]
    fn of_several_errors_the_longest_pause_that_is_wanted_counts() {
        let error = |pause: u64| {
            let error = Error::new(ErrorKind::Unavailable, "busy");
            error.with_retry_after(Duration::from_secs(pause))
        };
        let plain = || Error::new(ErrorKind::Malformed, "odd");
        assert_eq!(Error::all(vec![plain(), plain()]).retry_after(), None);
        let inner = Error::all(vec![error(7), plain(), error(30)]);
        let all = Error::all(vec![plain(), error(20), inner, error(1)]);
        assert_eq!(all.retry_after(), Some(Duration::from_secs(30)));
    }

    #[test]
    fn bundles_of_bundles_are_one_list_in_which_each_says_where_it_is() {
        let plain = |detail: &str| Error::new(ErrorKind::Malformed, detail);
        let inner = Error::all(vec![plain("a"), plain("b").with_source_name("there")]);
        let all = Error::all(vec![inner.with_source_name("here"), plain("c")]);
        assert_eq!(all.to_string(), "3 problems; a (here); b (there); c");
        assert_eq!(all.iter().count(), 3);
        assert!(all.iter().all(|one| one.iter().count() == 1));
    }

    #[test]
    fn the_same_problem_of_a_key_counts_once_whatever_bundle_says_it() {
        let plain = |detail: &str| Error::new(ErrorKind::Malformed, detail);
        let of_key = |detail: &str| plain(detail).with_key(Key::parse("k").unwrap());
        let bundle = |details: [&str; 2]| Error::all(details.map(of_key).to_vec());
        let all = Error::all(vec![of_key("a"), bundle(["a", "b"]), bundle(["b", "a"])]);
        assert_eq!(all.to_string(), "2 problems; `k`: a; `k`: b");
        let same = Error::all(vec![of_key("a"), of_key("a")]);
        assert_eq!(same.to_string(), "`k`: a");
        let others = [
            of_key("a"),
            Error::new(ErrorKind::Rejected, "a").with_key(Key::parse("k").unwrap()),
            of_key("a").with_source_name("here"),
            plain("a").with_key(Key::parse("l").unwrap()),
        ];
        assert_eq!(Error::all(others.to_vec()).iter().count(), 4);
        // Two sources may be down alike.
        assert_eq!(Error::all(vec![plain("a"), plain("a")]).iter().count(), 2);
    }
}
