//! Measures a change of one key of many until a reader sees it.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use dynamic_config::dynamic_config;
use serde::Deserialize;

use super::{floor, other, ours};
use crate::harness::{Column, How, Job, Probe};
use crate::inputs::{self, KEY};

pub(crate) fn job() -> Job {
    let column = |title, how, size| Column { title, how, size };
    Job {
        name: "change",
        title: "Changing one key of many",
        note: "Each operation changes a number and reads it back by the cheapest method. \
               The floor is one swapped number that belongs to no configuration at all. The first \
               row of liveprops does what the other crates do, an override above a layer that has all \
               keys, and has 1,000 live handles besides, as the last one has that changes the \
               layer itself. dynamic-config reads its file again, the others have parsed it \
               before. Ratios are of 100,000 keys.",
        columns: vec![
            column("1,000 keys", How::Time, 1_000),
            column("100,000", How::Time, 100_000),
            column("1,000,000", How::Time, 1_000_000),
            column("instructions, 100,000 keys", How::Instructions, 100_000),
        ],
        base: 1,
        counted: Some(3),
        remark: "",
        contenders: vec![
            floor("one `ArcSwap<u32>`", slot),
            ours("liveprops `props.set`, override, 1,000 handles", |probe| {
                liveprops(probe, 1_000, true)
            }),
            ours("liveprops `Memory::set`, 1 handle", |probe| {
                liveprops(probe, 1, false)
            }),
            ours("liveprops `Memory::set`, 1,000 handles", |probe| {
                liveprops(probe, 1_000, false)
            }),
            other("clone a `HashMap`, swap it", clone_map),
            other("config, override and build", config_rs),
            other("figment, clone and merge", figment),
            other("dynamic-config, override and `reload`", dynamic_config),
        ],
    }
}

fn slot(probe: &Probe) -> Option<f64> {
    let swap = ArcSwap::from_pointee(0u32);
    let mut value = 0;
    probe.time(|| {
        value += 1;
        swap.store(Arc::new(value));
        assert_eq!(**swap.load(), value);
    })
}

fn liveprops(probe: &Probe, handles: usize, over: bool) -> Option<f64> {
    let (memory, props) = inputs::liveprops(probe.size);
    let watched = props.property::<u32>(KEY).build().unwrap();
    let _others = inputs::handles(&props, probe.size, handles);
    let mut value = 0u32;
    probe.time(|| {
        value += 1;
        if over {
            props.set(KEY, value).unwrap();
        } else {
            memory.set(KEY, value).unwrap();
        }
        assert_eq!(watched.get(), value);
    })
}

fn clone_map(probe: &Probe) -> Option<f64> {
    let swap = ArcSwap::from_pointee(inputs::map(probe.size));
    let mut value = 0;
    probe.time(|| {
        value += 1;
        let mut next = inputs::Map::clone(&swap.load());
        *next.get_mut(KEY).unwrap() = value;
        swap.store(Arc::new(next));
        assert_eq!(swap.load()[KEY], value);
    })
}

/// The parsed configuration is the source and the builder stays alive, so nothing is parsed again.
/// `build_cloned` copies the tree once, the least it can do.
fn config_rs(probe: &Probe) -> Option<f64> {
    let base = inputs::config_rs(&inputs::numbers_toml(probe.size, ""));
    let live = ArcSwap::from_pointee(base.clone());
    let mut builder = config::Config::builder().add_source(base);
    let mut value = 0u32;
    probe.time(|| {
        value += 1;
        builder = std::mem::take(&mut builder)
            .set_override(KEY, value)
            .unwrap();
        live.store(Arc::new(builder.build_cloned().unwrap()));
        assert_eq!(live.load().get::<u32>(KEY).unwrap(), value);
    })
}

/// Merges the new value over the parsed configuration, so nothing is parsed again.
fn figment(probe: &Probe) -> Option<f64> {
    let base = inputs::figment(&inputs::numbers_toml(probe.size, ""));
    let live = ArcSwap::from_pointee(base.clone());
    let mut value = 0u32;
    probe.time(|| {
        value += 1;
        live.store(Arc::new(base.clone().merge((KEY, value))));
        assert_eq!(live.load().extract_inner::<u32>(KEY).unwrap(), value);
    })
}

#[dynamic_config]
#[derive(Deserialize)]
struct Many {
    sections: HashMap<String, HashMap<String, u32>>,
}

/// The override layer sets one value. Only a reload of all layers shows it, and a reload reads the
/// file again.
fn dynamic_config(probe: &Probe) -> Option<f64> {
    let (_dir, path) = inputs::file(&inputs::numbers_toml(probe.size, "many.sections."));
    let builder = Many::builder("many").file(path.to_str().unwrap());
    builder.init().unwrap();
    let (section, key) = KEY.split_once('.').unwrap();
    let mut value = 0u32;
    probe.time(|| {
        value += 1;
        Many::set_override(&format!("sections.{KEY}"), value).unwrap();
        builder.reload().unwrap();
        assert_eq!(Many::current().sections[section][key], value);
    })
}
