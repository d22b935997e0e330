//! Arguments without a value: they are `true`, and no text or number.

use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind};
use crate::tree::snapshot::{Found, Generation};
use crate::value::Value;
use crate::value::fields::fields_of;
use crate::value::hamt::Entry;
use crate::value::key::Key;
use crate::value::node::Node;
use crate::value::origin::Origin;

/// The kind of the origin of an argument.
const KIND: &str = "argument";
/// The start of the name of a source of arguments.
const SOURCE: &str = "args";

impl Generation {
    /// Adds to "mismatch" what to write, if the key was set by an argument without a value.
    pub(crate) fn explain_argument(&self, error: Error) -> Error {
        if error.iter().nth(1).is_some() {
            let all = error.iter().cloned();
            return Error::all(all.map(|error| self.explain_argument(error)).collect());
        }
        let key = error
            .key_text()
            .filter(|_| error.kind() == ErrorKind::Mismatch);
        match key.and_then(|key| self.valueless_argument(key)) {
            Some(origin) => error.with_note(&remedy(origin)),
            None => error,
        }
    }

    /// Checks that no type reads an argument without a value as text: the text would be `true`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Mismatch`] for each such argument.
    pub(crate) fn check_arguments<T: DeserializeOwned>(
        &self,
        key: &str,
        found: Found<'_>,
    ) -> Result<(), Error> {
        if !self.may_be_valueless(key, found) {
            return Ok(());
        }
        let key = Key::parse(key)?;
        let texts = fields_of::<T>().into_iter().filter(|field| field.is_text);
        let keys = texts.filter_map(|field| key.join(&Key::from_segments(field.path).ok()?).ok());
        let error = |key: Key| {
            let origin = self.valueless_argument(key.as_str())?;
            let detail = format!("wrong type: {}", remedy(origin));
            let error = Error::new(ErrorKind::Mismatch, detail).with_key(key);
            Some(error.with_expected("text").with_origin(origin))
        };
        let errors: Vec<Error> = keys.filter_map(error).collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Error::all(errors))
        }
    }

    /// Whether an argument without a value may set a key or one below it.
    fn may_be_valueless(&self, key: &str, found: Found<'_>) -> bool {
        if let Some(leaf) = found.leaf() {
            return valueless_origin(leaf).is_some();
        }
        let mut sources = self.layers.iter().filter(|it| it.name.starts_with(SOURCE));
        sources.any(|layer| Found::in_tree(&layer.root, key).is_ok_and(|found| !found.is_nothing()))
    }

    /// The argument without a value that sets a key.
    fn valueless_argument(&self, key: &str) -> Option<&Origin> {
        let found = Found::in_tree(&self.root, key).ok()?;
        valueless_origin(found.leaf()?)
    }
}

/// The origin of a leaf, if that is an argument without a value.
fn valueless_origin(leaf: &Entry) -> Option<&Origin> {
    match &leaf.node {
        Node::Leaf(leaf) if leaf.value == Value::from(true) && leaf.origin.kind() == KIND => {
            Some(&leaf.origin)
        }
        _ => None,
    }
}

fn remedy(argument: &Origin) -> String {
    let name = argument.name();
    format!("an argument without `=` is `true`; write `{name}=VALUE`")
}
