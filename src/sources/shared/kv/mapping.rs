//! Maps the keys of a store to properties.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind};
use crate::format::{Format, MAX_DOCUMENT_BYTES};
use crate::source::{RejectionScope, Scope};
use crate::value::key::Key;
use crate::value::origin::Origin;

/// The largest value of a key that holds no document.
pub(crate) const MAX_VALUE_BYTES: usize = 1 << 20;

/// Which keys a source reads, and what each becomes.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    /// The name of the store in messages and origins.
    pub(crate) kind: &'static str,
    /// The separator of the names of a key.
    separator: char,
    selection: Selection,
}

#[derive(Clone, Debug)]
enum Selection {
    /// All keys with a prefix, which ends with the separator or is empty; some hold documents.
    Prefix {
        prefix: String,
        documents: BTreeMap<String, Format>,
    },
    /// One key that holds everything.
    Document { key: String, format: Option<Format> },
}

/// What a key of the store becomes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    /// A property.
    Value(Key),
    /// A subtree, or the whole document.
    Document(Key),
}

impl Mapping {
    /// All keys below a prefix, which is cut at a separator: `app` means `app/`, never `apple`.
    #[allow(dead_code)] // by some stores only
    pub(crate) fn prefix(kind: &'static str, separator: char, prefix: &str) -> Self {
        Self::prefix_as_is(kind, separator, prefix.trim_start_matches(separator))
    }

    /// The same in a store where keys may begin with a separator: `/app` is not `app`.
    pub(crate) fn prefix_as_is(kind: &'static str, separator: char, prefix: &str) -> Self {
        let cut = prefix.trim_end_matches(separator);
        Self {
            kind,
            separator,
            selection: Selection::Prefix {
                prefix: if prefix.is_empty() {
                    String::new()
                } else {
                    format!("{cut}{separator}")
                },
                documents: BTreeMap::new(),
            },
        }
    }

    /// One key that holds a document.
    #[allow(dead_code)] // by some stores only
    pub(crate) fn document(kind: &'static str, separator: char, key: &str) -> Self {
        Self::document_as_is(kind, separator, key.trim_matches(separator))
    }

    /// The same in a store where keys may begin and end with a separator.
    pub(crate) fn document_as_is(kind: &'static str, separator: char, key: &str) -> Self {
        Self {
            kind,
            separator,
            selection: Selection::Document {
                key: key.to_owned(),
                format: None,
            },
        }
    }

    /// The prefix or the key that the source reads.
    pub(crate) fn path(&self) -> &str {
        match &self.selection {
            Selection::Prefix { prefix, .. } => prefix,
            Selection::Document { key, .. } => key,
        }
    }

    /// The mappings of a scope below this prefix, the weakest first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] for a document; the errors of [`Scope::names`]; [`ErrorKind::InvalidKey`] for a
    /// name that holds the separator. `checkout.prod` would be a part of `checkout` where a dot separates
    /// names.
    pub(crate) fn of_scope(&self, scope: &Scope) -> Result<Vec<Self>, Error> {
        if self.is_document() {
            let detail = format!(
                "`{}` is a single document; a scope needs a prefix",
                self.path()
            );
            return Err(Error::new(ErrorKind::InvalidConfig, detail));
        }
        let one = |name: String| {
            if name.contains(self.separator) {
                let detail = format!(
                    "`{name}` is not the name of a scope here: `{}` separates the names of a key, so \
                     that its keys would belong to `{}` as well; use `-` or `_`",
                    self.separator,
                    name.split(self.separator).next().unwrap_or_default(),
                );
                let error = Error::new(ErrorKind::InvalidKey, detail);
                return Err(error.with_origin(Origin::new(self.kind, self.path())));
            }
            let prefix = format!("{}{name}", self.path());
            Ok(Self::prefix_as_is(self.kind, self.separator, &prefix))
        };
        scope.names()?.into_iter().map(one).collect()
    }

    /// Whether the source reads a single key.
    pub(crate) fn is_document(&self) -> bool {
        matches!(self.selection, Selection::Document { .. })
    }

    /// How much a rejected value rejects: a document is all or nothing.
    pub(crate) fn rejection_scope(&self) -> RejectionScope {
        if self.is_document() {
            RejectionScope::Whole
        } else {
            RejectionScope::PerKey
        }
    }

    /// Sets the format of the document.
    pub(crate) fn set_format(&mut self, new: Format) {
        if let Selection::Document { format, .. } = &mut self.selection {
            *format = Some(new);
        }
    }

    /// Reads a key below the prefix as a document.
    pub(crate) fn add_document(&mut self, key: &str, format: Format) {
        if let Selection::Prefix { documents, .. } = &mut self.selection {
            documents.insert(key.trim_matches(self.separator).to_owned(), format);
        }
    }

    /// What a key of the store becomes; `None` if the source does not read it, or if it is a folder.
    pub(crate) fn target(&self, key: &str) -> Option<Result<Target, Error>> {
        match &self.selection {
            Selection::Document { key: ours, .. } => {
                (key == ours).then(|| Ok(Target::Document(Key::root())))
            }
            Selection::Prefix { prefix, documents } => {
                let rest = key.strip_prefix(prefix.as_str())?;
                if rest.is_empty() || rest.ends_with(self.separator) {
                    return None;
                }
                Some(match documents.get(rest) {
                    Some(format) => {
                        let name = self.without_extension(rest, format);
                        self.property(name).map(Target::Document)
                    }
                    None => self.property(rest).map(Target::Value),
                })
            }
        }
    }

    /// The name of a document: `limits` of `limits.toml`, if that is its format.
    fn without_extension<'a>(&self, rest: &'a str, format: &Format) -> &'a str {
        let Some((name, extension)) = rest.rsplit_once('.') else {
            return rest;
        };
        let named = Format::from_extension(extension);
        let is_its = named.is_some_and(|named| named.name() == format.name());
        let is_empty = name.is_empty() || name.ends_with([self.separator, '.']);
        if is_its && !is_empty { name } else { rest }
    }

    /// `a/b.c` and `a/b/c` are both `a.b.c`.
    fn property(&self, rest: &str) -> Result<Key, Error> {
        let names: Vec<Cow<'_, str>> = rest
            .split([self.separator, '.'])
            .map(Cow::Borrowed)
            .collect();
        if names.iter().any(|name| name.is_empty()) {
            let detail = "maps to no property: a name in it is empty";
            return Err(Error::new(ErrorKind::InvalidKey, detail));
        }
        Key::from_segments(&names)
    }

    /// The format of the document in a key.
    pub(crate) fn format_of(&self, key: &str) -> Result<Format, Error> {
        let given = match &self.selection {
            Selection::Document { format, .. } => *format,
            Selection::Prefix { prefix, documents } => key
                .strip_prefix(prefix.as_str())
                .and_then(|rest| documents.get(rest).copied()),
        };
        let of_name = || Format::of_path(key.as_ref());
        given.or_else(of_name).ok_or_else(|| {
            let why = Format::unknown(key.as_ref());
            Error::new(
                ErrorKind::InvalidConfig,
                format!("is to hold a document, and {why}"),
            )
        })
    }
}

impl Target {
    /// The largest value that a key may have.
    pub(crate) fn max_bytes(&self) -> usize {
        match self {
            Self::Value(_) => MAX_VALUE_BYTES,
            Self::Document(_) => MAX_DOCUMENT_BYTES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    #[test]
    fn a_prefix_is_cut_at_a_separator() {
        for prefix in ["config/app", "config/app/", "/config/app"] {
            let mapping = Mapping::prefix("test", '/', prefix);
            assert_eq!(mapping.path(), "config/app/");
            let target = |key| mapping.target(key).map(Result::unwrap);
            assert_eq!(
                target("config/app/rate/qps"),
                Some(Target::Value(key("rate.qps")))
            );
            assert_eq!(
                target("config/app/rate.qps"),
                Some(Target::Value(key("rate.qps")))
            );
            assert_eq!(target("config/apple/rate"), None);
            assert_eq!(target("config/app"), None);
            assert_eq!(target("config/app/folder/"), None);
        }
    }

    #[test]
    fn a_separator_before_a_prefix_counts_where_keys_may_begin_with_one() {
        for (prefix, wanted) in [("/app", "/app/"), ("app/", "app/"), ("/", "/"), ("", "")] {
            assert_eq!(Mapping::prefix_as_is("test", '/', prefix).path(), wanted);
        }
        assert_eq!(Mapping::prefix("test", '/', "/").path(), "");
        assert_eq!(Mapping::document_as_is("test", '/', "/a").path(), "/a");
    }

    #[test]
    fn a_scope_whose_name_holds_the_separator_is_rejected_and_one_with_another_character_is_not() {
        let of = |separator: char, scope: &Scope| {
            let mapping = Mapping::prefix("test", separator, "config");
            let all = mapping.of_scope(scope)?;
            let paths = all.iter().map(|one| one.path().to_owned());
            Ok::<Vec<String>, Error>(paths.collect())
        };
        let app = |name: &str| Scope::app(name).without_common();
        for scope in [
            app("checkout.prod"),
            app("checkout").profile("eu.west"),
            app("checkout").common("com.mon"),
        ] {
            let error = of('.', &scope).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey);
            let text = error.to_string();
            assert!(
                text.contains("`.` separates") && text.contains("test config."),
                "{text}"
            );
        }
        // In these stores `checkout.prod/` is no part of `checkout/`.
        let apart = of('/', &app("checkout.prod")).unwrap();
        assert_eq!(apart, ["config/checkout.prod/"]);
        assert_eq!(of('.', &app("checkout").profile("prod")).unwrap().len(), 2);
        for separator in ['.', '/'] {
            for name in [
                "a/b", "a b", "a\tb", "*", ">", "a*", "a.>", "", ".", "..", "ä",
            ] {
                for scope in [app(name), app("x").profile(name), app("x").common(name)] {
                    let error = of(separator, &scope).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::InvalidKey, "{name:?}");
                }
            }
        }
    }

    #[test]
    fn names_are_not_changed() {
        let mapping = Mapping::prefix("test", '/', "");
        let target = mapping.target("Umläute \"quoted\"/[0]").unwrap().unwrap();
        let Target::Value(key) = target else { panic!() };
        let names: Vec<_> = key.segments().collect();
        assert_eq!(names, ["Umläute \"quoted\"", "[0]"]);
        for bad in ["a//b", "/a", "a..b", ".a"] {
            assert!(mapping.target(bad).unwrap().is_err(), "{bad}");
        }
        let long = "x".repeat(2000);
        assert!(mapping.target(&long).unwrap().is_err());
    }

    #[cfg(feature = "toml")]
    #[test]
    fn a_key_may_hold_a_document() {
        let mut mapping = Mapping::prefix("test", '/', "app");
        mapping.add_document("limits", Format::toml());
        let target = mapping.target("app/limits").unwrap().unwrap();
        assert_eq!(target, Target::Document(key("limits")));
        assert_eq!(mapping.format_of("app/limits").unwrap().name(), "toml");

        let mapping = Mapping::document("test", '/', "app/all.toml");
        assert_eq!(
            mapping.target("app/all.toml").unwrap().unwrap(),
            Target::Document(Key::root())
        );
        assert!(mapping.target("app/all.tom").is_none());
        assert_eq!(mapping.format_of("app/all.toml").unwrap().name(), "toml");
        let nameless = Mapping::document("test", '/', "app/all");
        assert!(nameless.format_of("app/all").is_err());
    }

    #[cfg(all(feature = "toml", feature = "yaml"))]
    #[test]
    fn the_extension_of_a_document_is_no_name() {
        let target = |separator, document: &str, format: Format| {
            let mut mapping = Mapping::prefix("test", separator, "app");
            mapping.add_document(document, format);
            mapping.target(&format!("app{separator}{document}"))
        };
        let at = |name| Target::Document(key(name));
        for separator in ['/', '.'] {
            let of = |document, format| target(separator, document, format).unwrap().unwrap();
            assert_eq!(of("limits.toml", Format::toml()), at("limits"));
            assert_eq!(of("limits.v2.YML", Format::yaml()), at("limits.v2"));
            assert_eq!(of("limits.toml", Format::yaml()), at("limits.toml"));
            assert_eq!(of("limits.toml2", Format::toml()), at("limits.toml2"));
            assert_eq!(of("toml", Format::toml()), at("toml"));
        }
        let deeper = target('/', "a/b.toml", Format::toml());
        assert_eq!(deeper.unwrap().unwrap(), at("a.b"));
        for bad in [".toml", "a/.toml", "a..toml"] {
            assert!(target('/', bad, Format::toml()).unwrap().is_err(), "{bad}");
        }
        let mut mapping = Mapping::prefix("test", '/', "app");
        mapping.add_document("limits.toml", Format::toml());
        assert_eq!(mapping.format_of("app/limits.toml").unwrap().name(), "toml");
        // Only where it holds a document.
        let target = mapping.target("app/other.toml").unwrap().unwrap();
        assert_eq!(target, Target::Value(key("other.toml")));
    }
}
