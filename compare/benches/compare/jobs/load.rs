//! Loading a large document.

use liveprops::{
    Document, Error, Format, Origin, Properties, Source, SourceContext, Watching, sources::File,
};

use super::{floor, ours, rival};
use crate::harness::{Column, How, Job, Probe, timed};
use crate::{heap, inputs};

/// As large as liveprops accepts a document to be, in round figures.
const LARGE: usize = 10_000_000;
/// A tenth, for valgrind, which would take minutes over the whole.
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
            rival("config, from text", config_rs),
            rival("figment, from text", figment),
            rival("dynamic-config, from a file", dynamic_config),
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

/// The whole way, to a tree that is watched.
fn properties(probe: &Probe) -> Option<f64> {
    let (_dir, path) = inputs::file(&inputs::document_toml(probe.size).0);
    measure(probe, |_| {
        Properties::builder()
            .source(Counted(File::new(&path)))
            .build()
            .unwrap()
    })
}

/// A file as it is, but for being loaded inside [`timed`]: that happens on a thread of its own, and
/// valgrind counts on each thread what happens in there. What the watch does afterwards is on that
/// thread as well and not counted.
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

/// From a file: it has no entrance for a text that its builder would reload. Reading the file is
/// the least of it.
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
