//! Measures the memory of a configuration.

use liveprops::{Document, Error, Origin, Properties, Source, Watching, sources::File};

use super::{floor, other, ours};
use crate::harness::{Column, How, Job, Probe};
use crate::{heap, inputs};

pub(crate) fn job() -> Job {
    let column = |title, size| Column {
        title,
        how: How::LiveBytes,
        size,
    };
    Job {
        name: "memory",
        title: "Bytes of heap a key",
        note: "Heap in use per number after loading a configuration of numbers with names like \
               `section12.key34`. The table `load` has the same figure for 10 MB of numbers \
               and texts. Ratios are of 100,000 keys.",
        columns: vec![column("1,000 keys", 1_000), column("100,000", 100_000)],
        base: 1,
        counted: None,
        remark: "",
        contenders: vec![
            floor("`toml::Table`", |probe| {
                measure(probe, |text, _| {
                    toml::from_str::<toml::Table>(text).unwrap()
                })
            }),
            ours("liveprops `Properties` from a `File`", |probe| {
                measure(probe, |_, path| properties(path))
            }),
            ours(
                "liveprops, the same with a live handle on every key",
                |probe| {
                    measure(probe, |_, path| {
                        let props = properties(path);
                        let handles = inputs::handles(&props, probe.size, probe.size);
                        (props, handles)
                    })
                },
            ),
            other("`HashMap<String, u32>`", |probe| {
                measure(probe, |_, _| inputs::map(probe.size))
            }),
            other("config", |probe| {
                measure(probe, |text, _| inputs::config_rs(text))
            }),
            other("figment", |probe| {
                measure(probe, |text, _| inputs::figment(text))
            }),
            other("dynamic-config", |probe| {
                measure(probe, |_, path| {
                    let builder = dynamic_config::Builder::values("").whole_document();
                    let config = dynamic_config::Dynamic::new(builder.file(path));
                    config.init().unwrap();
                    config
                })
            }),
        ],
    }
}

fn properties(path: &str) -> Properties {
    Properties::builder()
        .source(Still(File::new(path)))
        .build()
        .unwrap()
}

/// A file without a watch. A watch reads the file once more, and chance would decide whether that text
/// counts.
struct Still(File);

impl Source for Still {
    fn origin(&self) -> Origin {
        self.0.origin()
    }

    fn load(&self) -> Result<Document, Error> {
        self.0.load()
    }

    fn watching(&self) -> Watching {
        Watching::Never
    }
}

fn measure<R>(probe: &Probe, load: impl FnOnce(&str, &str) -> R) -> Option<f64> {
    let text = inputs::numbers_toml(probe.size, "");
    let (_dir, path) = inputs::file(&text);
    let path = path.to_str().unwrap();
    Some(heap::bytes(|| load(&text, path)).live / probe.size as f64)
}
