//! A source that is told what to say, on the thread that tells it: so its parsing and committing
//! are timed and counted with it.

use std::sync::{Arc, Mutex};

use liveprops::source::Update;
use liveprops::{Document, Error, Format, Origin, Properties, Source, SourceContext, Watching};

/// The source; clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Mutex<Option<SourceContext>>>);

impl Told {
    /// A source and the properties that it alone fills.
    pub(crate) fn alone() -> (Self, Properties) {
        let told = Self::default();
        let props = Properties::builder().source(told.clone()).build().unwrap();
        (told, props)
    }

    /// Commits a document in place of the one before.
    pub(crate) fn say(&self, document: Document) {
        let updates = self.0.lock().unwrap().clone().unwrap();
        updates.send(Update::full(document)).unwrap();
    }
}

impl Source for Told {
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

/// What a `File` source makes of a text.
pub(crate) fn parsed(text: &str) -> Document {
    Format::toml()
        .parse(text.as_bytes(), &Origin::new("file", "large.toml"))
        .unwrap()
}

/// The key whose value is `changed` in [`toml_text`].
#[allow(dead_code)] // for the bench that changes it through a handle
pub(crate) const CHANGED: &str = "section500.key50050";

/// 100,000 keys, 100 in each section. No name comes twice: where a name lies in its section is
/// drawn by each process, and the same draw for all sections would be luck.
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
