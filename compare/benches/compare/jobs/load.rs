//! Measures loading a large document.

use liveprops::{
    Document, Error, Format, Origin, Properties, Source, SourceContext, Watching, sources::File,
};

use super::{floor, other, ours};
use crate::harness::{Column, How, Job, Probe, timed};
use crate::{heap, inputs};

/// About the size limit of liveprops.
const LARGE: usize = 10_000_000;
/// The size under valgrind, which would need minutes for `LARGE`.
const TENTH: usize = LARGE / 10;

pub(crate) fn job() -> Job {
    let column = |title, how, size| Column { title, how, size };
    Job {
        name: "load",
        title: "Loading 10 MB of TOML",
        note: "From text to something that keys can be looked up in, and dropping that, as a \
               reload does. liveprops keeps line and column of every value, the others at most \
               the source. Instructions are those for one key, counted on a tenth of \
               the text; bytes of heap are those for one key, at the worst moment and afterwards. \
               What starts from a file has the text on its own heap at the worst moment.",
        columns: vec![
            column("time", How::Time, LARGE),
            column("instructions a key", How::Instructions, TENTH),
            column("peak bytes a key", How::PeakBytes, LARGE),
            column("live bytes a key", How::LiveBytes, LARGE),
        ],
        base: 0,
        counted: Some(1),
        remark: "",
        contenders: vec![
            floor("`toml::Table`", table),
            ours("liveprops `Format::toml().parse`", liveprops),
            ours("liveprops `Properties` from a `File`", properties),
            other("config, from text", config_rs),
            other("figment, from text", figment),
            other("dynamic-config, from a file", dynamic_config),
        ],
    }
}

fn table(probe: &Probe) -> Option<f64> {
    measure(probe, |text| toml::from_str::<toml::Table>(text).unwrap())
}

fn liveprops(probe: &Probe) -> Option<f64> {
    let origin = Origin::new("file", "large.toml");
    measure(probe, |text| {
        Format::toml().parse(text.as_bytes(), &origin).unwrap()
    })
}

/// Includes everything up to a watched tree.
fn properties(probe: &Probe) -> Option<f64> {
    let (_dir, path) = inputs::file(&inputs::document_toml(probe.size).0);
    measure(probe, |_| {
        Properties::builder()
            .source(Counted(File::new(&path)))
            .build()
            .unwrap()
    })
}

/// A file that is loaded inside [`timed`], where valgrind counts. The load runs on the thread of the
/// source, and so does the watch afterwards, which is not counted.
struct Counted(File);

impl Source for Counted {
    fn origin(&self) -> Origin {
        self.0.origin()
    }

    fn load(&self) -> Result<Document, Error> {
        let mut loaded = None;
        timed(1, || loaded = Some(self.0.load()));
        loaded.unwrap()
    }

    fn watching(&self) -> Watching {
        self.0.watching()
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        self.0.watch(updates)
    }
}

fn config_rs(probe: &Probe) -> Option<f64> {
    measure(probe, inputs::config_rs)
}

fn figment(probe: &Probe) -> Option<f64> {
    measure(probe, inputs::figment)
}

/// Loads a file, since the builder of this crate reloads no text. Reading the file is a small part.
fn dynamic_config(probe: &Probe) -> Option<f64> {
    let (_dir, path) = inputs::file(&inputs::document_toml(probe.size).0);
    let builder = dynamic_config::Builder::values("")
        .whole_document()
        .file(path.to_str().unwrap());
    measure(probe, |_| builder.load().unwrap())
}

fn measure<R>(probe: &Probe, mut load: impl FnMut(&str) -> R) -> Option<f64> {
    let (text, keys) = inputs::document_toml(probe.size);
    let keys = keys as f64;
    match probe.how {
        How::PeakBytes => Some(heap::bytes(|| load(&text)).peak / keys),
        How::LiveBytes => Some(heap::bytes(|| load(&text)).live / keys),
        How::Instructions => Some(probe.time(|| load(&text))? * keys),
        _ => probe.time(|| load(&text)),
    }
}
