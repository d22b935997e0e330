//! The methods of serde's traits that each deserializer of this module forwards in the same way.

/// The methods of a `Deserializer` that do the same as another method.
macro_rules! forward_similar_methods {
    () => {
        fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.deserialize_str(visitor)
        }

        fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.deserialize_bytes(visitor)
        }

        fn deserialize_unit_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            visitor: V,
        ) -> Result<V::Value, Fault> {
            self.deserialize_unit(visitor)
        }

        fn deserialize_tuple_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            len: usize,
            visitor: V,
        ) -> Result<V::Value, Fault> {
            self.deserialize_tuple(len, visitor)
        }
    };
}
pub(super) use forward_similar_methods;

/// The methods of a `VariantAccess` for a variant with several fields, which `content` deserializes.
macro_rules! forward_fields_of_variant {
    ($content:tt) => {
        fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
            self.$content.deserialize_tuple(len, visitor)
        }

        fn struct_variant<V: Visitor<'de>>(
            self,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Fault> {
            self.$content.deserialize_struct("", fields, visitor)
        }
    };
}
pub(super) use forward_fields_of_variant;
