//! A source whose documents the benchmark sends. Parsing and committing run on the thread of the
//! benchmark, so they are timed and counted with it.

use std::sync::{Arc, Mutex};

use liveprops::source::Update;
use liveprops::{Document, Error, Format, Origin, Properties, Source, SourceContext, Watching};

/// The source; clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct ManualSource(Arc<Mutex<Option<SourceContext>>>);

impl ManualSource {
    /// A source, and properties that have only this source.
    pub(crate) fn with_properties() -> (Self, Properties) {
        let source = Self::default();
        let props = Properties::builder()
            .source(source.clone())
            .build()
            .unwrap();
        (source, props)
    }

    /// Commits a document, which replaces the one before.
    pub(crate) fn send(&self, document: Document) {
        let context = self.0.lock().unwrap().clone().unwrap();
        context.send(Update::full(document)).unwrap();
    }
}

impl Source for ManualSource {
    fn origin(&self) -> Origin {
        Origin::new("file", "large.toml")
    }

    fn load(&self) -> Result<Document, Error> {
        Ok(Document::new())
    }

    fn watching(&self) -> Watching {
        Watching::Push
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        *self.0.lock().unwrap() = Some(updates.clone());
        Ok(())
    }
}

/// Parses a text as a `File` source does.
pub(crate) fn parsed(text: &str) -> Document {
    Format::toml()
        .parse(text.as_bytes(), &Origin::new("file", "large.toml"))
        .unwrap()
}

/// The key whose value is `changed` in [`toml_text`].
#[allow(dead_code)] // only one benchmark has a handle on it
pub(crate) const CHANGED: &str = "section500.key50050";

/// 100,000 keys, 100 in each section. No name occurs twice: the position of a name in its section
/// depends on the hash seed of the process, and equal names would all get the same position.
pub(crate) fn toml_text(changed: usize) -> String {
    let mut text = String::new();
    for i in 0..100_000 {
        if i % 100 == 0 {
            text.push_str(&format!("[section{}]\n", i / 100));
        }
        let value = if i == 50_050 { changed } else { i % 100 };
        text.push_str(&format!("key{i} = {value}\n"));
    }
    text
}
