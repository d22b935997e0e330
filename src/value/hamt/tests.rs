use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::value::Value;
use crate::value::node::Leaf;
use crate::value::origin::Origin;

fn entry(name: &str, value: i64) -> Arc<Entry> {
    let leaf = Leaf::new(Value::from(value), Origin::new("test", ""));
    Arc::new(Entry {
        name: name.into(),
        node: Node::Leaf(leaf),
    })
}

fn value(entry: &Entry) -> i64 {
    match &entry.node {
        Node::Leaf(leaf) => leaf.value.as_i64().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Four hashes for all names: two that collide, since no digit reaches the last four bits, one
/// that differs from them in the last digit, and one in the first.
fn colliding(name: &[u8]) -> u64 {
    [0, 0xF << 60, 1 << 55, 1][name.len() % 4]
}

fn hashes() -> impl Strategy<Value = Hash> {
    prop::sample::select(vec![scan::hash as Hash, colliding])
}

fn build(hash: Hash, model: &BTreeMap<String, i64>) -> Map {
    let mut map = Map::default();
    for (name, value) in model {
        map.insert_by(hash, entry(name, *value));
    }
    map
}

fn get<'a>(hash: Hash, map: &'a Map, name: &str) -> Option<&'a Arc<Entry>> {
    map.get_hashed(name.as_bytes(), hash(name.as_bytes()))
}

fn shape(map: &Map) -> String {
    fn of(branch: &Branch) -> String {
        if branch.is_list() {
            assert!(branch.branches.is_empty() && branch.entries.len() > 1);
            return format!("list{}", branch.entries.len());
        }
        let slots: Vec<_> = (0..DIGITS)
            .filter_map(|digit| branch.slot(digit))
            .map(|slot| match slot {
                Slot::Entry(entry) => entry.name.to_string(),
                Slot::Branch(next) => of(next),
            })
            .collect();
        assert_eq!(slots.len(), branch.entries.len() + branch.branches.len());
        format!("({})", slots.join(" "))
    }
    of(&map.root)
}

proptest! {
    #[test]
    fn a_map_answers_as_a_btreemap_does(
        hash in hashes(),
        steps in prop::collection::vec(("[a-f]{0,3}", prop::option::weighted(0.7, 0i64..5)), 0..400)
    ) {
        let mut model = BTreeMap::new();
        let mut map = Map::default();
        for (name, step) in steps {
            let before = map.clone();
            let kept: Vec<_> = before.sorted().into_iter().map(|e| (e.name.to_string(), value(e))).collect();
            let old = match step {
                Some(v) => (map.insert_by(hash, entry(&name, v)).map(|e| value(&e)), model.insert(name.clone(), v)),
                None => (map.remove_by(hash, &name).map(|e| value(&e)), model.remove(&name)),
            };
            prop_assert_eq!(old.0, old.1);
            prop_assert_eq!(map.len(), model.len());
            prop_assert_eq!(get(hash, &map, &name).map(|e| value(e)), model.get(&name).copied());
            let mut copy = map.clone();
            let replaced = copy.get_mut_by(hash, &name);
            let replaced = replaced.map(|e| value(&mem::replace::<Arc<Entry>>(e, entry(&name, 9))));
            prop_assert_eq!(replaced, model.get(&name).copied());
            prop_assert_eq!(get(hash, &copy, &name).map(|e| value(e)), replaced.map(|_| 9));
            prop_assert_eq!(get(hash, &map, &name).map(|e| value(e)), replaced);
            let still: Vec<_> = before.sorted().into_iter().map(|e| (e.name.to_string(), value(e))).collect();
            prop_assert_eq!(kept, still, "an older copy changed");
        }
        let all: Vec<_> = map.sorted().into_iter().map(|e| (e.name.to_string(), value(e))).collect();
        prop_assert_eq!(all, model.clone().into_iter().collect::<Vec<_>>());
        prop_assert_eq!(shape(&map), shape(&build(hash, &model)), "the shape depends on history");
    }

    #[test]
    fn diff_reports_the_names_that_differ_and_no_others(
        hash in hashes(),
        base in prop::collection::btree_map("[a-f]{0,3}", 0i64..5, 0..200),
        edits in prop::collection::vec(("[a-f]{0,3}", prop::option::of(0i64..5)), 0..40),
    ) {
        let old = build(hash, &base);
        let mut new = old.clone();
        for (name, edit) in edits {
            match edit {
                Some(v) => drop(new.insert_by(hash, entry(&name, v))),
                None => drop(new.remove_by(hash, &name)),
            }
        }
        let mut reported = BTreeSet::new();
        old.diff(&new, &mut |x, y| {
            let name = x.or(y).map(|e| e.name.to_string()).unwrap_or_default();
            assert_eq!(x.map(|e| value(e)), get(hash, &old, &name).map(|e| value(e)));
            assert_eq!(y.map(|e| value(e)), get(hash, &new, &name).map(|e| value(e)));
            assert!(reported.insert(name), "reported twice");
        });
        for entry in old.iter().chain(new.iter()) {
            let same = match (get(hash, &old, &entry.name), get(hash, &new, &entry.name)) {
                (Some(x), Some(y)) => Arc::ptr_eq(x, y),
                _ => false,
            };
            prop_assert_eq!(reported.contains(&*entry.name), !same, "{}", entry.name);
        }
    }
}
