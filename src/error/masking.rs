//! Errors without what they may not show.

use std::error::Error as StdError;
use std::sync::Arc;

use crate::error::{Error, Inner, Subject};
use crate::value::origin::Origin;

/// The text shown in place of a value that may be secret.
pub(crate) const MASK: &str = "******";

impl Error {
    /// Notes that the detail has no part of a value, so that it is shown if the key holds a secret.
    pub(crate) fn with_shareable_detail(self) -> Self {
        self.edit(|inner| inner.shareable = inner.detail.clone())
    }

    /// Whether the detail is shown even if the key holds a secret.
    pub(crate) fn has_shareable_detail(&self) -> bool {
        self.0.shareable.is_some()
    }

    /// The words that are shown if the key holds a secret.
    pub(crate) fn with_shareable(self, detail: String) -> Self {
        self.edit(|inner| inner.shareable = Some(detail.into()))
    }

    /// This with nothing of the detail to show if the key holds a secret.
    pub(crate) fn without_shareable(self) -> Self {
        self.edit(|inner| inner.shareable = None)
    }

    /// This without what it says of keys whose values must not be shown, if it says anything of one.
    pub(crate) fn without(&self, hidden: &dyn Fn(&str) -> bool) -> Option<Self> {
        let inner = &*self.0;
        if inner
            .related
            .iter()
            .any(|error| error.without(hidden).is_some())
        {
            let shown = |error: &Error| error.without(hidden).unwrap_or_else(|| error.clone());
            return Some(Self::all(inner.related.iter().map(shown).collect()));
        }
        let key = inner.key.as_ref().filter(|key| hidden(key.as_str()))?;
        let hidden = "what was wrong is not shown, as the key holds a secret";
        let detail = inner.shareable.as_deref().unwrap_or(hidden);
        Some(Self(Arc::new(Inner {
            key: Some(key.clone()),
            origin: inner.origin.clone(),
            detail: Some(detail.into()),
            unresolved: inner.unresolved,
            partial: inner.partial,
            shareable: inner.shareable.clone(),
            ..Inner::of(inner.kind)
        })))
    }

    /// This with other texts, where `map` has another one. The failure of a library is dropped if
    /// its own text would have to change. `map_own` is for the key and what was expected.
    pub(crate) fn map_texts(
        self,
        map: &dyn Fn(&str) -> Option<String>,
        map_own: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let inner = &*self.0;
        let mapped = |text: &Option<Box<str>>, map: &dyn Fn(&str) -> Option<String>| {
            let text = text.as_deref()?;
            let mapped = map(text).unwrap_or_else(|| text.to_owned());
            Some(mapped.into_boxed_str())
        };
        let key = inner.key.as_ref().map(|key| match map_own(key.as_str()) {
            Some(text) => Subject::of_text(&text),
            None => key.clone(),
        });
        let origin = inner
            .origin
            .as_ref()
            .map(|origin| match map(&origin.to_string()) {
                Some(text) => Origin::of_text(&text),
                None => origin.clone(),
            });
        let expected = mapped(&inner.expected, map_own);
        let [found, detail] = [&inner.found, &inner.detail].map(|text| mapped(text, map));
        let mut next: Option<&(dyn StdError + 'static)> = self.source();
        let mut shows = false;
        while let Some(cause) = next {
            shows |= map(&format!("{cause} {cause:?}")).is_some();
            next = cause.source();
        }
        let related = inner.related.iter().cloned();
        let related = related.map(|error| error.map_texts(map, map_own)).collect();
        self.edit(|inner| {
            (inner.key, inner.expected, inner.found) = (key, expected, found);
            (inner.origin, inner.detail, inner.related) = (origin, detail, related);
            inner.quoted = None;
            let shareable = inner.shareable.take();
            inner.shareable = shareable.filter(|text| map(text).is_none());
            if shows {
                inner.cause = None;
            }
        })
    }

    /// This with the details that `map` gives in place of those that quote a secret; `None` if none does.
    pub(crate) fn without_quotes(&self, map: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let inner = &*self.0;
        if inner.related.is_empty() {
            let detail = map(inner.detail.as_deref()?)?;
            return Some(
                self.clone()
                    .edit(|inner| inner.detail = Some(detail.into())),
            );
        }
        let shown: Vec<Option<Self>> = inner
            .related
            .iter()
            .map(|it| it.without_quotes(map))
            .collect();
        if shown.iter().all(Option::is_none) {
            return None;
        }
        let pairs = shown.into_iter().zip(&inner.related);
        let related = pairs.map(|(shown, error)| shown.unwrap_or_else(|| error.clone()));
        let related = related.collect();
        Some(self.clone().edit(|inner| inner.related = related))
    }
}
