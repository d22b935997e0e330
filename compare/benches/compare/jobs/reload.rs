//! A large file is read again after one value in it has changed.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use liveprops::{
    Document, Error, Format, Origin, Properties, Source, SourceContext, Update, Watching,
};
use tempfile::TempDir;

use super::{floor, ours, rival};
use crate::harness::{Column, How, Job, Probe};
use crate::inputs::{self, KEY};

const LARGE: usize = 100_000;
/// A tenth, for valgrind, which would take minutes over the whole.
const TENTH: usize = LARGE / 10;

pub(crate) fn job() -> Job {
    let column = |title, how, size| Column { title, how, size };
    Job {
        name: "reload",
        title: "Reloading 100,000 keys of which one has changed",
        note: "Read a TOML file, parse it, publish it, read the changed number. How the change is \
               noticed is not part of it. liveprops parses the whole file like the others, finds \
               what differs and tells the handles of that. Instructions are those for one key, \
               counted on a tenth of the file.",
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
            rival("config, build and swap", config_rs),
            rival("figment, merge and swap", figment),
            rival("dynamic-config `reload`", dynamic_config),
        ],
    }
}

/// A file of which one digit is changed in place: as small an edit as there can be, so that it is
/// nothing beside what follows.
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

/// Changes the file, has it reloaded, and sees that the new value is there.
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

/// A file that is read when this program says so: what `File` does once it knows of a change, on
/// the thread that counts and is timed.
struct Told {
    path: PathBuf,
    updates: Arc<OnceLock<SourceContext>>,
}

fn read(path: &Path) -> Result<Document, Error> {
    let origin = Origin::new("file", path.display().to_string());
    Format::toml().parse(&std::fs::read(path).unwrap(), &origin)
}

impl Source for Told {
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
        .source(Told {
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

/// `extract_inner` copies the tree and is part of it: there is no cheaper way to a value.
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
