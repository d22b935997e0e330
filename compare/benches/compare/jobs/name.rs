//! Measures reading a number by its name.

use std::hint::black_box;

use arc_swap::ArcSwap;

use super::{floor, other, ours};
use crate::harness::{Column, How, Job, Probe};
use crate::inputs;

pub(crate) fn job() -> Job {
    let column = |title, how, size| Column { title, how, size };
    Job {
        name: "name",
        title: "Reading one of many keys by its name",
        note: "A `u32` out of a configuration of so many keys: 64 names from all over it, one \
               after the other, again and again, so what leads to them is hot in the processor's \
               caches. The floor holds parsed numbers and nothing else. `config` and `figment` are \
               read as they are; a program that reloads them needs a lock or an `ArcSwap` around \
               them. Ratios are of 100,000 keys.",
        columns: vec![
            column("10 keys", How::Time, 10),
            column("1,000", How::Time, 1_000),
            column("100,000", How::Time, 100_000),
            column("instructions, 10 keys", How::Instructions, 10),
            column("1,000", How::Instructions, 1_000),
            column("100,000", How::Instructions, 100_000),
        ],
        base: 2,
        counted: Some(5),
        remark: "config-rs and figment are meant to be deserialized once into a struct; in an \
                 `ArcSwap`, a read of that struct costs as much as the row `ArcSwap::load` of the \
                 table `read`.",
        contenders: vec![
            floor("`ArcSwap<HashMap<String, u32>>`", map),
            ours("liveprops `props.get`", liveprops),
            other("config `Config::get`", config_rs),
            other("figment `extract_inner`", figment),
            other("dynamic-config `current().get(..)`", dynamic_config),
        ],
    }
}

fn map(probe: &Probe) -> Option<f64> {
    let swap = ArcSwap::from_pointee(inputs::map(probe.size));
    probe.time_over(&inputs::some_names(probe.size), |name| {
        swap.load().get(black_box(name.as_str())).copied().unwrap()
    })
}

fn liveprops(probe: &Probe) -> Option<f64> {
    let (_, props) = inputs::liveprops(probe.size);
    probe.time_over(&inputs::some_names(probe.size), |name| {
        props.get::<u32>(black_box(name.as_str())).unwrap()
    })
}

fn config_rs(probe: &Probe) -> Option<f64> {
    let config = inputs::config_rs(&inputs::numbers_toml(probe.size, ""));
    probe.time_over(&inputs::some_names(probe.size), |name| {
        config.get::<u32>(black_box(name.as_str())).unwrap()
    })
}

fn figment(probe: &Probe) -> Option<f64> {
    let figment = inputs::figment(&inputs::numbers_toml(probe.size, ""));
    probe.time_over(&inputs::some_names(probe.size), |name| {
        figment
            .extract_inner::<u32>(black_box(name.as_str()))
            .unwrap()
    })
}

/// Reads through the tree, without a struct: the cheaper method according to its documentation.
fn dynamic_config(probe: &Probe) -> Option<f64> {
    let (_dir, path) = inputs::file(&inputs::numbers_toml(probe.size, ""));
    let builder = dynamic_config::Builder::values("")
        .whole_document()
        .file(path.to_str().unwrap());
    let config = dynamic_config::Dynamic::new(builder);
    config.init().unwrap();
    probe.time_over(&inputs::some_names(probe.size), |name| {
        let values = config.current().unwrap();
        let number = values
            .get(black_box(name.as_str()))
            .and_then(|value| value.as_u64());
        u32::try_from(number.unwrap()).unwrap()
    })
}
