//! What this thread knows of the secrets that types read.
//!
//! See [`secret_trials`](crate::decode::diagnose::secret_trials).

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;
use std::thread::LocalKey;

use crate::decode::diagnose::input_paths::{names_below, values_below, words_at};
use crate::decode::diagnose::secret_paths::{SecretPaths, SiteKind, TypePath};
use crate::decode::diagnose::secret_sites::{Exploration, Explored, NameAt};
use crate::decode::diagnose::target::{Target, TypeOf};
use crate::decode::diagnose::trial;
use crate::decode::request::Request;
use crate::value::Value;
use crate::value::key;
use crate::value::secret::buffered;

/// How many answers of each kind a thread keeps.
const MAX_MEMOIZED: usize = 1_000;

/// How many names of the program's values are tried at once as those of secrets.
pub(super) const MAX_NAMES: usize = 10_000;

/// A site of a type.
type Site = (TypeOf, TypePath);

/// A type, the names of a path inside it, and what distinguishes the questions about that path.
pub(super) type Question = (TypeOf, Vec<String>, String);

type Memo<K, V> = RefCell<HashMap<K, V>>;

thread_local! {
    /// Where types read secrets, and where serde may buffer values of them.
    static SECRET_PATHS: Memo<TypeOf, Rc<SecretPaths>> = RefCell::default();
    /// What trials have found at the sites of types. A type that fails again costs no further trials.
    static SITES: Memo<Site, Rc<RefCell<Explored>>> = RefCell::default();
    /// Whether values that the program has written are plain.
    static PLAIN: Memo<Question, bool> = RefCell::default();
}

pub(super) fn secret_paths(target: &dyn Target) -> Rc<SecretPaths> {
    memoized(&SECRET_PATHS, target.identity(), || {
        Rc::new(target.secret_paths())
    })
}

/// The key of a secret at or below a path, if the type may read one there.
pub(super) fn secret_below(
    target: &dyn Target,
    request: Request<'_>,
    path: &str,
) -> Option<String> {
    let names = names_below(request.key, path);
    let paths = secret_paths(target);
    let is_below = |secret: &&TypePath| secret.len() >= names.len() && is_alike(secret, &names);
    if let Some(secret) = paths.secrets.iter().find(is_below) {
        let mut below = path.to_owned();
        return match secret.get(names.len()) {
            None => Some(below),
            Some(Some(name)) => {
                key::push_segment(&mut below, name);
                Some(below)
            }
            Some(None) => Some(buffered::unnamed_below(path)),
        };
    }
    let mut sites = paths
        .sites
        .iter()
        .filter(|(site, _)| is_alike(site, &names));
    let is_secret = sites
        .any(|(site, kind)| holds_secret(target, site, *kind, &|| names_at(request, path, site)));
    is_secret.then(|| buffered::unnamed_below(path))
}

/// Whether a path of a type and the names of a path agree as far as both go.
fn is_alike(of_type: &TypePath, names: &[String]) -> bool {
    let mut both = of_type.iter().zip(names);
    both.all(|(segment, name)| segment.is_none_or(|segment| segment == name))
}

/// Whether a type may read a secret at a site. `names` are those that the program's values have.
pub(super) fn holds_secret(
    target: &dyn Target,
    site: &TypePath,
    kind: SiteKind,
    names: &dyn Fn() -> Vec<NameAt>,
) -> bool {
    let question = (target.identity(), site.clone());
    let explored = memoized(&SITES, question, Rc::default);
    // A type that reads itself from the properties while it is explored may hold one.
    let Ok(mut explored) = explored.try_borrow_mut() else {
        return true;
    };
    if !explored.has_secret {
        let run = |value: &Value| trial::run_at(target, site, value);
        let names = names().into_iter().take(MAX_NAMES).collect();
        Exploration::new(&run, kind == SiteKind::Entries).explore(&mut explored, names);
    }
    explored.has_secret
}

/// The names that the values at and below a path have, and the words of its text; no more once there are enough.
pub(super) fn names_at(request: Request<'_>, path: &str, site: &TypePath) -> Vec<NameAt> {
    let mut all: Vec<NameAt> = Vec::new();
    let mut add = |at: Option<usize>, name: String| {
        if key::list_index(&name).is_none() {
            all.push((at, name));
        }
        all.len() < MAX_NAMES
    };
    let mut paths = values_below(request, path);
    paths.push(path.to_owned());
    for path in paths {
        for (at, name) in names_below(request.key, &path).into_iter().enumerate() {
            if at >= site.len() && !add(Some(at - site.len()), name) {
                return all;
            }
        }
    }
    for word in words_at(request, path) {
        add(None, word);
    }
    all
}

/// The kept value of a key.
fn known<K: Eq + Hash, V: Clone>(all: &'static LocalKey<Memo<K, V>>, key: &K) -> Option<V> {
    let known = |all: &Memo<K, V>| all.borrow().get(key).cloned();
    all.try_with(known).ok().flatten()
}

fn keep<K: Eq + Hash, V>(all: &'static LocalKey<Memo<K, V>>, key: K, value: V) {
    let _ = all.try_with(|all| {
        let mut all = all.borrow_mut();
        if all.len() >= MAX_MEMOIZED {
            all.clear();
        }
        all.insert(key, value);
    });
}

/// The value of a key: the kept one, or else that of `make`.
fn memoized<K: Eq + Hash, V: Clone>(
    all: &'static LocalKey<Memo<K, V>>,
    key: K,
    make: impl FnOnce() -> V,
) -> V {
    known(all, &key).unwrap_or_else(|| {
        let value = make();
        keep(all, key, value.clone());
        value
    })
}

/// The kept answer to whether a value is plain.
pub(super) fn known_plain(question: &Question) -> Option<bool> {
    known(&PLAIN, question)
}

pub(super) fn keep_plain(question: Question, is_plain: bool) {
    keep(&PLAIN, question, is_plain);
}
