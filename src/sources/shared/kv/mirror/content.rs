//! The parsed value of a key: one property, or a document.

use crate::error::{Error, ErrorKind};
use crate::sources::shared::kv::mapping::{Mapping, Target};
use crate::sources::shared::kv::mirror::StoreEntry;
use crate::value::Value;
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::origin::Origin;

#[derive(Clone, Debug)]
pub(super) enum Content {
    Value(Key, Value, Origin),
    Document(Key, Document),
}

impl Content {
    /// Parses the value of a key that maps to `target`.
    pub(super) fn parse(
        mapping: &Mapping,
        entry: &StoreEntry<'_>,
        target: Target,
        origin: &Origin,
    ) -> Result<Self, Error> {
        let (length, limit) = (entry.bytes.len(), target.max_bytes());
        if length > limit {
            let detail = format!("{length} bytes are more than {limit}");
            return Err(Error::new(ErrorKind::TooLarge, detail));
        }
        match target {
            Target::Document(key) => {
                let format = mapping.format_of(entry.key)?;
                let origin = Origin::new(mapping.kind, entry.key);
                Ok(Self::Document(key, format.parse(entry.bytes, &origin)?))
            }
            Target::Value(key) => match std::str::from_utf8(entry.bytes) {
                Ok(text) => Ok(Self::Value(key, Value::from(text), origin.clone())),
                Err(fault) => {
                    let at = fault.valid_up_to();
                    let detail =
                        format!("its value is not text: byte {at} of {length} is not UTF-8");
                    Err(Error::new(ErrorKind::Malformed, detail).with_key(&key))
                }
            },
        }
    }

    pub(super) fn is_document(&self) -> bool {
        matches!(self, Self::Document(..))
    }
}
