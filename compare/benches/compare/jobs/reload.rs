//! Measures reading a large file again after one of its values has changed.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use liveprops::{
    Document, Error, Format, Origin, Properties, Source, SourceContext, Update, Watching,
};
use tempfile::TempDir;

use super::{floor, other, ours};
use crate::harness::{Column, How, Job, Probe};
use crate::inputs::{self, KEY};

const LARGE: usize = 100_000;
/// The size under valgrind, which would need minutes for `LARGE`.
const TENTH: usize = LARGE / 10;

pub(crate) fn job() -> Job {
    let column = |title, how, size| Column { title, how, size };
    Job {
        name: "reload",
        title: "Reloading 100,000 keys of which one has changed",
        note: "Read a TOML file, parse it, publish it, read the changed number. Detecting \
               the change is excluded. liveprops parses the whole file like the others, finds \
               the differences and updates the handles. Instructions are per key, counted on a \
               tenth of the file.",
        columns: vec![
            column("time", How::Time, LARGE),
            column("instructions a key", How::Instructions, TENTH),
        ],
        base: 0,
        counted: Some(1),
        remark: "",
        contenders: vec![
            floor("`toml::Table`, swapped", table),
            ours("liveprops `Update::full`, 1,000 handles", liveprops),
            other("config, build and swap", config_rs),
            other("figment, merge and swap", figment),
            other("dynamic-config `reload`", dynamic_config),
        ],
    }
}

/// A file with one digit that changes in place: the smallest possible edit, whose cost is negligible.
struct Edited {
    _dir: TempDir,
    path: PathBuf,
    at: u64,
}

impl Edited {
    fn new(keys: usize) -> Self {
        let text = inputs::numbers_toml(keys, "");
        let line = "key7 = ";
        let at = text.find(line).unwrap() + line.len();
        let (dir, path) = inputs::file(&text);
        Self {
            _dir: dir,
            path,
            at: at as u64,
        }
    }

    fn write(&self, digit: u32) {
        let mut file = std::fs::File::options()
            .write(true)
            .open(&self.path)
            .unwrap();
        file.seek(SeekFrom::Start(self.at)).unwrap();
        write!(file, "{digit}").unwrap();
    }
}

/// Changes and reloads the file, and checks the new value.
fn measure(probe: &Probe, file: &Edited, mut reload: impl FnMut() -> u32) -> Option<f64> {
    let mut digit = 7;
    let ns = probe.time(|| {
        digit = (digit + 1) % 10;
        file.write(digit);
        assert_eq!(reload(), digit);
    })?;
    Some(match probe.how {
        How::Instructions => ns * probe.size as f64,
        _ => ns,
    })
}

fn table(probe: &Probe) -> Option<f64> {
    let file = Edited::new(probe.size);
    let live = ArcSwap::from_pointee(toml::Table::new());
    let (section, key) = KEY.split_once('.').unwrap();
    measure(probe, &file, || {
        let text = std::fs::read_to_string(&file.path).unwrap();
        live.store(Arc::new(toml::from_str::<toml::Table>(&text).unwrap()));
        live.load()[section][key].as_integer().unwrap() as u32
    })
}

/// A file that this program reloads: it does what `File` does after an event, on the measured thread.
struct ManualFile {
    path: PathBuf,
    updates: Arc<OnceLock<SourceContext>>,
}

fn read(path: &Path) -> Result<Document, Error> {
    let origin = Origin::new("file", path.display().to_string());
    Format::toml().parse(&std::fs::read(path).unwrap(), &origin)
}

impl Source for ManualFile {
    fn origin(&self) -> Origin {
        Origin::new("file", self.path.display().to_string())
    }

    fn load(&self) -> Result<Document, Error> {
        read(&self.path)
    }

    fn watching(&self) -> Watching {
        Watching::Push
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        updates.send(Update::full(self.load()?))?;
        let _ = self.updates.set(updates.clone());
        Ok(())
    }
}

fn liveprops(probe: &Probe) -> Option<f64> {
    let file = Edited::new(probe.size);
    let updates = Arc::new(OnceLock::new());
    let props = Properties::builder()
        .source(ManualFile {
            path: file.path.clone(),
            updates: Arc::clone(&updates),
        })
        .build()
        .unwrap();
    let updates = updates.get().unwrap();
    let watched = props.property::<u32>(KEY).build().unwrap();
    let _others = inputs::handles(&props, probe.size, 1_000);
    measure(probe, &file, || {
        updates
            .send(Update::full(read(&file.path).unwrap()))
            .unwrap();
        watched.get()
    })
}

fn config_rs(probe: &Probe) -> Option<f64> {
    let file = Edited::new(probe.size);
    let live = ArcSwap::from_pointee(config::Config::default());
    measure(probe, &file, || {
        let source = config::File::from(file.path.as_path());
        let built = config::Config::builder().add_source(source).build();
        live.store(Arc::new(built.unwrap()));
        live.load().get(KEY).unwrap()
    })
}

/// Includes `extract_inner`, which copies the tree: no cheaper method returns a value.
fn figment(probe: &Probe) -> Option<f64> {
    use figment::providers::{Format, Toml};
    let file = Edited::new(probe.size);
    let live = ArcSwap::from_pointee(figment::Figment::new());
    measure(probe, &file, || {
        let merged = figment::Figment::from(Toml::file_exact(&file.path));
        live.store(Arc::new(merged));
        live.load().extract_inner(KEY).unwrap()
    })
}

fn dynamic_config(probe: &Probe) -> Option<f64> {
    let file = Edited::new(probe.size);
    let builder = dynamic_config::Builder::values("")
        .whole_document()
        .file(file.path.to_str().unwrap());
    let config = dynamic_config::Dynamic::new(builder);
    config.init().unwrap();
    measure(probe, &file, || {
        config.reload().unwrap();
        let values = config.current().unwrap();
        values.get(KEY).and_then(|value| value.as_u64()).unwrap() as u32
    })
}
