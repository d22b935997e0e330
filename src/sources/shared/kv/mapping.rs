//! Which keys of a store are meant, and what they are called as properties.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind};
use crate::format::{Format, MAX_DOCUMENT_BYTES};
use crate::source::{Refusal, Scope};
use crate::value::key::Key;
use crate::value::origin::Origin;

/// What a single value may hold, unless it is a document.
pub(crate) const MAX_VALUE_BYTES: usize = 1 << 20;

/// Which keys of a store are meant, and what they become.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    /// What messages and origins call the store.
    pub(crate) kind: &'static str,
    /// What stands between the names of a key.
    separator: char,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// All keys that begin with this, which ends with the separator or is empty; some hold documents.
    Prefix {
        prefix: String,
        documents: BTreeMap<String, Format>,
    },
    /// One key that holds everything.
    Document { key: String, format: Option<Format> },
}

/// What one key of a store stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// A property.
    Value(Key),
    /// A subtree, or everything.
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
            what: What::Prefix {
                prefix: match prefix.is_empty() {
                    true => String::new(),
                    false => format!("{cut}{separator}"),
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
            what: What::Document {
                key: key.to_owned(),
                format: None,
            },
        }
    }

    /// What is asked of the store: all keys that begin with this, or the one that is this.
    pub(crate) fn wanted(&self) -> &str {
        match &self.what {
            What::Prefix { prefix, .. } => prefix,
            What::Document { key, .. } => key,
        }
    }

    /// The mappings of a scope below this prefix, the weakest first.
    ///
    /// # Errors
    ///
    /// If it is a document that is meant, or as [`Scope::names`], or if a name holds the separator:
    /// `checkout.prod` would be read as a part of `checkout` where a dot separates names.
    pub(crate) fn of_scope(&self, scope: &Scope) -> Result<Vec<Self>, Error> {
        if self.is_document() {
            let detail = format!(
                "`{}` is one document: a scope is below a prefix",
                self.wanted()
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
                return Err(error.with_origin(Origin::new(self.kind, self.wanted())));
            }
            let prefix = format!("{}{name}", self.wanted());
            Ok(Self::prefix_as_is(self.kind, self.separator, &prefix))
        };
        scope.names()?.into_iter().map(one).collect()
    }

    /// Whether it is one key that is meant.
    pub(crate) fn is_document(&self) -> bool {
        matches!(self.what, What::Document { .. })
    }

    /// How far a refusal reaches: a document is all or nothing.
    pub(crate) fn refusal(&self) -> Refusal {
        match self.is_document() {
            true => Refusal::Whole,
            false => Refusal::PerKey,
        }
    }

    /// Sets the format of the document.
    pub(crate) fn set_format(&mut self, new: Format) {
        if let What::Document { format, .. } = &mut self.what {
            *format = Some(new);
        }
    }

    /// Has a key below the prefix hold a document.
    pub(crate) fn add_document(&mut self, key: &str, format: Format) {
        if let What::Prefix { documents, .. } = &mut self.what {
            documents.insert(key.trim_matches(self.separator).to_owned(), format);
        }
    }

    /// What a key of the store stands for; `None` if it is not meant or a folder.
    pub(crate) fn place(&self, key: &str) -> Option<Result<Place, Error>> {
        match &self.what {
            What::Document { key: ours, .. } => {
                (key == ours).then(|| Ok(Place::Document(Key::root())))
            }
            What::Prefix { prefix, documents } => {
                let rest = key.strip_prefix(prefix.as_str())?;
                if rest.is_empty() || rest.ends_with(self.separator) {
                    return None;
                }
                Some(match documents.get(rest) {
                    Some(format) => {
                        let name = self.without_extension(rest, format);
                        self.property(name).map(Place::Document)
                    }
                    None => self.property(rest).map(Place::Value),
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
        match is_its && !is_empty {
            true => name,
            false => rest,
        }
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
        let given = match &self.what {
            What::Document { format, .. } => *format,
            What::Prefix { prefix, documents } => key
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

    /// How large the value of a place may be.
    pub(crate) fn limit(place: &Place) -> usize {
        match place {
            Place::Value(_) => MAX_VALUE_BYTES,
            Place::Document(_) => MAX_DOCUMENT_BYTES,
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
            assert_eq!(mapping.wanted(), "config/app/");
            let place = |key| mapping.place(key).map(Result::unwrap);
            assert_eq!(
                place("config/app/rate/qps"),
                Some(Place::Value(key("rate.qps")))
            );
            assert_eq!(
                place("config/app/rate.qps"),
                Some(Place::Value(key("rate.qps")))
            );
            assert_eq!(place("config/apple/rate"), None);
            assert_eq!(place("config/app"), None);
            assert_eq!(place("config/app/folder/"), None);
        }
    }

    #[test]
    fn a_separator_before_a_prefix_counts_where_keys_may_begin_with_one() {
        for (prefix, wanted) in [("/app", "/app/"), ("app/", "app/"), ("/", "/"), ("", "")] {
            assert_eq!(Mapping::prefix_as_is("test", '/', prefix).wanted(), wanted);
        }
        assert_eq!(Mapping::prefix("test", '/', "/").wanted(), "");
        assert_eq!(Mapping::document_as_is("test", '/', "/a").wanted(), "/a");
    }

    #[test]
    fn a_scope_whose_name_holds_the_separator_is_rejected_and_one_with_another_mark_is_kept_apart()
    {
        let of = |separator: char, scope: &Scope| {
            let mapping = Mapping::prefix("test", separator, "config");
            let all = mapping.of_scope(scope)?;
            let wanted = all.iter().map(|one| one.wanted().to_owned());
            Ok::<Vec<String>, Error>(wanted.collect())
        };
        let app = |name: &str| Scope::app(name).without_common();
        for scope in [
            app("checkout.prod"),
            app("checkout").profile("eu.west"),
            app("checkout").common("com.mon"),
        ] {
            let error = of('.', &scope).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey);
            let told = error.to_string();
            assert!(
                told.contains("`.` separates") && told.contains("test config."),
                "{told}"
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
    fn names_are_taken_as_they_are() {
        let mapping = Mapping::prefix("test", '/', "");
        let place = mapping.place("Umläute \"quoted\"/[0]").unwrap().unwrap();
        let Place::Value(key) = place else { panic!() };
        let names: Vec<_> = key.segments().collect();
        assert_eq!(names, ["Umläute \"quoted\"", "[0]"]);
        for bad in ["a//b", "/a", "a..b", ".a"] {
            assert!(mapping.place(bad).unwrap().is_err(), "{bad}");
        }
        let long = "x".repeat(2000);
        assert!(mapping.place(&long).unwrap().is_err());
    }

    #[cfg(feature = "toml")]
    #[test]
    fn a_key_may_hold_a_document() {
        let mut mapping = Mapping::prefix("test", '/', "app");
        mapping.add_document("limits", Format::toml());
        let place = mapping.place("app/limits").unwrap().unwrap();
        assert_eq!(place, Place::Document(key("limits")));
        assert_eq!(mapping.format_of("app/limits").unwrap().name(), "toml");

        let mapping = Mapping::document("test", '/', "app/all.toml");
        assert_eq!(
            mapping.place("app/all.toml").unwrap().unwrap(),
            Place::Document(Key::root())
        );
        assert!(mapping.place("app/all.tom").is_none());
        assert_eq!(mapping.format_of("app/all.toml").unwrap().name(), "toml");
        let nameless = Mapping::document("test", '/', "app/all");
        assert!(nameless.format_of("app/all").is_err());
    }

    #[cfg(all(feature = "toml", feature = "yaml"))]
    #[test]
    fn the_extension_of_a_document_is_no_name() {
        let place = |separator, document: &str, format: Format| {
            let mut mapping = Mapping::prefix("test", separator, "app");
            mapping.add_document(document, format);
            mapping.place(&format!("app{separator}{document}"))
        };
        let at = |name| Place::Document(key(name));
        for separator in ['/', '.'] {
            let of = |document, format| place(separator, document, format).unwrap().unwrap();
            assert_eq!(of("limits.toml", Format::toml()), at("limits"));
            assert_eq!(of("limits.v2.YML", Format::yaml()), at("limits.v2"));
            assert_eq!(of("limits.toml", Format::yaml()), at("limits.toml"));
            assert_eq!(of("limits.toml2", Format::toml()), at("limits.toml2"));
            assert_eq!(of("toml", Format::toml()), at("toml"));
        }
        let deeper = place('/', "a/b.toml", Format::toml());
        assert_eq!(deeper.unwrap().unwrap(), at("a.b"));
        for bad in [".toml", "a/.toml", "a..toml"] {
            assert!(place('/', bad, Format::toml()).unwrap().is_err(), "{bad}");
        }
        let mut mapping = Mapping::prefix("test", '/', "app");
        mapping.add_document("limits.toml", Format::toml());
        assert_eq!(mapping.format_of("app/limits.toml").unwrap().name(), "toml");
        // Only where it holds a document.
        let place = mapping.place("app/other.toml").unwrap().unwrap();
        assert_eq!(place, Place::Value(key("other.toml")));
    }
}
