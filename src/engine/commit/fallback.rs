//! Replaces layers that a start can do without, if the tree of all layers is rejected.
//!
//! User code decides about a tree, so few trees are tried: without the layers that the errors name,
//! without all layers restored from disk, and with every fallback.

use std::sync::Arc;
use std::time::SystemTime;

use crate::engine::commit::bootstrap::walk_at_and_below;
use crate::engine::commit::{Base, CommitState, Committed};
use crate::error::Error;
use crate::sorted::SortedSet;
use crate::tree::layer::{LayerState, SourceId};
use crate::value::key::Key;
use crate::value::node::Table;
use crate::value::origin::Origin;

/// After so many rejections, layers are replaced whether an error names them or not.
const MAX_NAMED: usize = 4;

/// The values that replace those of a new layer if they are rejected.
pub(crate) struct Fallback {
    pub(crate) source: SourceId,
    pub(crate) root: Table,
    /// When the source confirmed it, if it was restored from disk.
    pub(crate) restored: Option<SystemTime>,
    /// The secrets that the restored values lack.
    pub(crate) missing_secrets: Arc<[Key]>,
}

impl Fallback {
    /// A layer without values.
    pub(crate) fn empty(source: SourceId) -> Self {
        Self::not_restored(source, Table::default())
    }

    /// Values that were not restored from disk.
    pub(super) fn not_restored(source: SourceId, root: Table) -> Self {
        Self {
            source,
            root,
            restored: None,
            missing_secrets: Arc::default(),
        }
    }
}

impl CommitState {
    /// Publishes new layers. If their tree is rejected, it first removes the pin of an earlier run, then
    /// replaces layers by their fallbacks.
    pub(super) fn rebuild_with_fallbacks(
        &mut self,
        base: &Base<'_>,
        layers: Vec<Arc<LayerState>>,
        fallbacks: Vec<Fallback>,
    ) -> Result<Committed, Error> {
        let first = match self.rebuild(base, layers.clone()) {
            Err(rejection) => rejection,
            committed => return committed,
        };
        if self.pins.pin().is_none() || !base.old.is_initial() {
            return self.replace_rejected(base, layers, fallbacks, first);
        }
        self.pins.set_pin(None);
        let detail = format!(
            "the roll-back of an earlier run is rejected, and the layers are in force (it is tried \
             at each start, until `unpin` ends it): {first}"
        );
        let pin_rejection = Error::new(first.kind(), detail);
        match self.rebuild_with_fallbacks(base, layers, fallbacks) {
            Ok(mut committed) => {
                committed.clashes.push(pin_rejection);
                Ok(committed)
            }
            Err(rejection) => Err(Error::all(vec![pin_rejection, rejection])),
        }
    }

    /// Replaces layers by their fallbacks until the tree is accepted.
    fn replace_rejected(
        &mut self,
        base: &Base<'_>,
        mut layers: Vec<Arc<LayerState>>,
        mut fallbacks: Vec<Fallback>,
        first: Error,
    ) -> Result<Committed, Error> {
        let mut rejection = first.clone();
        let mut replaced = SortedSet::new();
        for attempt in 0.. {
            let sources = if attempt < MAX_NAMED {
                sources_to_replace(&rejection, &layers, &fallbacks)
            } else {
                fallbacks.iter().map(|fallback| fallback.source).collect()
            };
            if sources.is_empty() {
                break;
            }
            let is_chosen = |fallback: &Fallback| sources.contains(&fallback.source);
            let (chosen, others): (Vec<_>, Vec<_>) = fallbacks.into_iter().partition(is_chosen);
            fallbacks = others;
            replace(&mut layers, chosen);
            replaced.extend(sources);
            match self.rebuild(base, layers.clone()) {
                Ok(mut committed) => {
                    committed.outcome.rejected.push(first);
                    replaced
                        .iter()
                        .for_each(|source| self.guards.reset(*source));
                    return Ok(committed);
                }
                Err(next) => rejection = next,
            }
        }
        Err(first)
    }
}

/// The sources whose layers the errors name. Where an error names none, also all that were restored
/// from disk; where that leaves none, all that have a fallback.
fn sources_to_replace(
    rejection: &Error,
    layers: &[Arc<LayerState>],
    fallbacks: &[Fallback],
) -> SortedSet<SourceId> {
    let has_fallback = |layer: &&Arc<LayerState>| fallbacks.iter().any(|it| it.source == layer.id);
    let replaceable: Vec<_> = layers.iter().filter(has_fallback).collect();
    let mut sources = SortedSet::new();
    for error in rejection.iter() {
        let named = replaceable.iter().filter(|layer| names(error, layer));
        let named: Vec<SourceId> = named.map(|layer| layer.id).collect();
        if named.is_empty() {
            let restored = replaceable.iter().filter(|layer| layer.restored.is_some());
            sources.extend(restored.map(|layer| layer.id));
        }
        sources.extend(named);
    }
    if sources.is_empty() {
        sources.extend(replaceable.iter().map(|layer| layer.id));
    }
    sources
}

/// Whether an error is about a value of this layer: it names the key and where that was written.
fn names(error: &Error, layer: &LayerState) -> bool {
    let (Some(key), Some(at)) = (error.key(), error.origin()) else {
        return false;
    };
    let mut is_named = false;
    walk_at_and_below(&layer.root, key, &mut |_, entry| {
        let origin = entry.node.origin();
        is_named |= origin.is_some_and(|origin| is_in(at, origin));
    });
    is_named
}

/// Whether `at` is the document of an origin, or a line in it.
fn is_in(at: &Origin, origin: &Origin) -> bool {
    at.kind() == origin.kind() && at.name().starts_with(origin.name())
}

fn replace(layers: &mut [Arc<LayerState>], fallbacks: Vec<Fallback>) {
    for fallback in fallbacks {
        if let Some(layer) = layers.iter_mut().find(|layer| layer.id == fallback.source) {
            let layer = Arc::make_mut(layer);
            (layer.root, layer.restored) = (fallback.root, fallback.restored);
            layer.missing_secrets = fallback.missing_secrets;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use crate::error::{Error, ErrorKind};
    use crate::properties::Properties;
    use crate::properties::builder::Builder;
    use crate::schema::Schema;
    use crate::source::Source;
    use crate::value::document::Document;
    use crate::value::origin::Origin;

    /// A store with one key of its own name.
    #[derive(Clone)]
    struct Store {
        name: String,
        value: i64,
        is_down: Arc<AtomicBool>,
    }

    impl Store {
        fn new(name: &str) -> Self {
            Self {
                name: name.to_owned(),
                value: 1,
                is_down: Arc::default(),
            }
        }
    }

    impl Source for Store {
        fn origin(&self) -> Origin {
            Origin::new("store", &*self.name)
        }

        fn load(&self) -> Result<Document, Error> {
            if self.is_down.load(Ordering::SeqCst) {
                return Err(Error::new(ErrorKind::Unavailable, "is down"));
            }
            let mut document = Document::new();
            document.set(&self.name, self.value, self.origin())?;
            Ok(document)
        }
    }

    /// Some stores, whose values of 1 are in the cache.
    struct Stores {
        dir: tempfile::TempDir,
        all: Vec<Store>,
    }

    impl Stores {
        fn cached(names: &[&str]) -> Self {
            let stores = Self {
                dir: tempfile::tempdir().unwrap(),
                all: names.iter().map(|name| Store::new(name)).collect(),
            };
            drop(stores.builder().build().unwrap());
            stores
        }

        fn go_down(&self) {
            for store in &self.all {
                store.is_down.store(true, Ordering::SeqCst);
            }
        }

        fn builder(&self) -> Builder {
            let builder = Properties::builder().state_dir(self.dir.path());
            let stores = self.all.iter().cloned();
            stores.fold(builder, |builder, store| {
                builder.source(store.with(|policy| policy.optional().cached()))
            })
        }

        fn values(&self, props: &Properties) -> Vec<Option<i64>> {
            let names = self.all.iter().map(|store| &*store.name);
            names.map(|name| props.get_opt(name).unwrap()).collect()
        }
    }

    /// A schema that rejects the values of these keys.
    fn rejecting(keys: &[&str]) -> Schema {
        keys.iter().fold(Schema::new(), |schema, key| {
            schema.declare(Schema::key::<i64>(key).validate("is rejected", |value| {
                (*value != 1)
                    .then_some(())
                    .ok_or_else(|| "not accepted".into())
            }))
        })
    }

    #[test]
    fn an_error_in_restored_layers_removes_those_layers_only() {
        let stores = Stores::cached(&["a", "b", "c", "d"]);
        stores.go_down();
        let one = stores.builder().schema(rejecting(&["b"])).build().unwrap();
        assert_eq!(stores.values(&one), [Some(1), None, Some(1), Some(1)]);
        let two = stores.builder().schema(rejecting(&["a", "d"])).build();
        assert_eq!(stores.values(&two.unwrap()), [None, Some(1), Some(1), None]);
    }

    #[test]
    fn an_error_without_an_origin_removes_all_restored_layers() {
        let mut stores = Stores::cached(&["a", "b", "c"]);
        stores.go_down();
        stores.all[0].is_down = Arc::default();
        stores.all[0].value = 2;
        let builder = stores
            .builder()
            .validate(|tree| match tree.get_opt::<i64>("b") {
                Ok(None) => Ok(()),
                _ => Err("b is not wanted".into()),
            });
        let props = builder.build().unwrap();
        assert_eq!(stores.values(&props), [Some(2), None, None]);
    }

    #[test]
    fn a_loaded_layer_is_replaced_by_its_restored_values_once_no_other_is_left() {
        let mut stores = Stores::cached(&["a", "b"]);
        stores.all[1].value = 99;
        let builder = stores
            .builder()
            .validate(|tree| match tree.get_opt::<i64>("b") {
                Ok(Some(99)) => Err("b is too large".into()),
                _ => Ok(()),
            });
        let props = builder.build().unwrap();
        assert_eq!(stores.values(&props), [Some(1), Some(1)]);
    }

    #[test]
    fn user_code_decides_about_few_trees() {
        let names: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        let mut stores = Stores::cached(&names);
        stores.go_down();
        stores.all[0].is_down = Arc::default();
        let runs = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&runs);
        let builder = stores.builder().validate(move |tree| {
            counts.fetch_add(1, Ordering::SeqCst);
            match tree.get_opt::<i64>("k19") {
                Ok(None) => Ok(()),
                _ => Err("is rejected".into()),
            }
        });
        let props = builder.build().unwrap();
        let values = stores.values(&props);
        assert_eq!(values.iter().flatten().count(), 1, "the loaded one");
        assert_eq!(runs.load(Ordering::SeqCst), 2);

        stores.go_down();
        let checks = Arc::new(AtomicUsize::new(0));
        let schema = names.iter().fold(Schema::new(), |schema, name| {
            let checks = Arc::clone(&checks);
            let check = move |_: &i64| {
                checks.fetch_add(1, Ordering::SeqCst);
                Err("not accepted".to_owned())
            };
            schema.declare(Schema::key::<i64>(name).validate("is rejected", check))
        });
        let props = stores.builder().schema(schema).build().unwrap();
        assert!(stores.values(&props).iter().all(Option::is_none));
        let checks = checks.load(Ordering::SeqCst);
        assert!(checks <= 4 * names.len(), "{checks}");
    }
}
