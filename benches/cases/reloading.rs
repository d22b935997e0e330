//! A large document again, with one change or none.

use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::time::Duration;

use liveprops::{DynamicProperty, Properties};

use crate::support::{Case, timed};
use crate::told::{CHANGED, Told, parsed, toml_text};

struct Rig {
    told: Told,
    handle: DynamicProperty<u32>,
    _props: Properties,
}

/// 100,000 keys with a handle on the one that changes.
fn rig() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(|| {
        let (told, props) = Told::alone();
        told.say(parsed(&toml_text(1)));
        Rig {
            told,
            handle: props.property(CHANGED).build().unwrap(),
            _props: props,
        }
    })
}

fn parse_and_change(n: u64) -> Duration {
    let rig = rig();
    let texts = [toml_text(1_000), toml_text(2_000)];
    rig.told.say(parsed(&texts[0]));
    let mut turn = 0;
    timed(n, || {
        turn += 1;
        rig.told.say(parsed(&texts[turn % 2]));
        assert_eq!(rig.handle.get(), if turn % 2 == 0 { 1_000 } else { 2_000 });
    })
}

fn parse_the_same(n: u64) -> Duration {
    let text = toml_text(1);
    rig().told.say(parsed(&text));
    timed(n, || rig().told.say(parsed(&text)))
}

/// The comparing without the parsing.
fn say_the_same(n: u64) -> Duration {
    let text = toml_text(1);
    rig().told.say(parsed(&text));
    let mut again: Vec<_> = (0..n).map(|_| parsed(&text)).collect();
    timed(n, || rig().told.say(again.pop().unwrap()))
}

fn case(
    name: &'static str,
    floor: &'static str,
    budget: f64,
    n: u64,
    run: fn(u64) -> Duration,
) -> Case {
    Case {
        name,
        floor,
        budget,
        n,
        counted: 2,
        run,
    }
}

const TABLE: &str = "toml::Table";
const HASH: &str = "hash of the text";
const PARSED: &str = "parsing alone, with origins";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(TABLE, "", 0.0, 4, |n| {
            let text = toml_text(1);
            timed(n, || toml::from_str::<toml::Table>(&text).unwrap())
        }),
        case(PARSED, TABLE, 1.3, 4, |n| {
            let text = toml_text(1);
            timed(n, || parsed(&text))
        }),
        case("reload, one key changed", TABLE, 1.3, 4, parse_and_change),
        case("reload, nothing changed", TABLE, 1.3, 4, parse_the_same),
        case(
            "the same document, parsed before",
            TABLE,
            0.0,
            4,
            say_the_same,
        ),
        // Why a file of the same bytes is not parsed at all.
        case(HASH, TABLE, 0.0, 100, |n| {
            let text = toml_text(1);
            let state = foldhash::quality::RandomState::default();
            timed(n, || state.hash_one(text.as_bytes()))
        }),
    ]
}
