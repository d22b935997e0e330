//! Finds the declared key that an undeclared one may be a misspelling of.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use crate::sorted::SortedMap;
use crate::value::key::{self, Key};

/// The most steps for the suggestions of one report: a compared name is one step, and so is a cell of the
/// table that compares two names. A person reads few suggestions.
pub(super) const BUDGET: usize = 300_000;

/// The most steps to find out whether one key is like one that is declared secret.
const LIKE_BUDGET: usize = 20_000;

/// The most wrong letters of a whole key.
const MOST: usize = 3;

/// The declared keys by their last names.
#[derive(Debug)]
pub(super) struct Names {
    names: Vec<Name>,
    by_name: HashMap<Box<str>, usize>,
    by_length: SortedMap<usize, Vec<usize>>,
    /// By all names but the last.
    by_parent: HashMap<Box<str>, Vec<Key>>,
    /// By the whole key without its dots; `None` if several keys are alike.
    by_letters: HashMap<Box<str>, Option<Key>>,
}

/// A last name with the keys that have it.
#[derive(Debug)]
struct Name {
    text: Box<str>,
    keys: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    key: Key,
    folded: Box<str>,
}

impl Names {
    pub(super) fn of<'a>(keys: impl Iterator<Item = &'a Key>) -> Self {
        let mut all = Self {
            names: Vec::new(),
            by_name: HashMap::new(),
            by_length: SortedMap::new(),
            by_parent: HashMap::new(),
            by_letters: HashMap::new(),
        };
        for key in keys {
            let folded = fold(key.as_str());
            let (parent, last) = split(&folded);
            all.by_letters
                .entry(letters(&folded))
                .and_modify(|known| *known = None)
                .or_insert_with(|| Some(key.clone()));
            match all.by_parent.get_mut(parent) {
                Some(siblings) => siblings.push(key.clone()),
                None => drop(all.by_parent.insert(parent.into(), vec![key.clone()])),
            }
            let at = all.by_name.get(last).copied().unwrap_or_else(|| {
                let at = all.names.len();
                let length = last.chars().count();
                all.by_length.get_or_insert_with(length, Vec::new).push(at);
                all.by_name.insert(last.into(), at);
                let keys = Vec::new();
                all.names.push(Name {
                    text: last.into(),
                    keys,
                });
                at
            });
            all.names[at].keys.push(Known {
                key: key.clone(),
                folded: folded.into(),
            });
        }
        all
    }

    /// The declared key that may be meant, unless it takes more than the budget to find it, or
    /// several are as likely.
    pub(super) fn nearest(&self, key: &str, budget: &mut usize) -> Option<&Key> {
        let folded = fold(key);
        let (parent, last) = split(&folded);
        let found = self
            .joined_otherwise(&folded)
            .or_else(|| self.misspelled(parent, last, budget))
            .or_else(|| self.abbreviated(parent, key, budget))
            .or_else(|| self.elsewhere(&folded, last, budget));
        // If only a part of the names was compared, another one may be nearer.
        found.filter(|_| *budget > 0)
    }

    /// The key that differs only by `_`, `-` and `.`.
    fn joined_otherwise(&self, folded: &str) -> Option<&Key> {
        self.by_letters.get(&*letters(folded))?.as_ref()
    }

    /// The key whose names are spelled most alike.
    fn misspelled(&self, parent: &str, last: &str, budget: &mut usize) -> Option<&Key> {
        let length = last.chars().count();
        let most = allowed(length);
        let near = length.saturating_sub(most)..=length + most;
        let exact = self.by_name.get(last).copied();
        let others = self.by_length.iter();
        let others = others.filter(|(length, _)| near.contains(length));
        let others = others.flat_map(|(_, names)| names);
        let others = others.copied().filter(|_| most > 0);
        let mut best: Option<(usize, &Key)> = None;
        for at in exact.into_iter().chain(others) {
            if *budget == 0 {
                break;
            }
            let name = &self.names[at];
            let Some(far) = apart(last, &name.text, budget) else {
                continue;
            };
            for known in &name.keys {
                let Some(above) = apart_above(parent, split(&known.folded).0, budget) else {
                    continue;
                };
                let candidate = (far + above, &known.key);
                if candidate.0 <= MOST && best.is_none_or(|best| candidate < best) {
                    best = Some(candidate);
                }
            }
            if best.is_some_and(|(far, _)| far == 0) {
                break;
            }
        }
        best.map(|(_, key)| key)
    }

    /// The only neighbour whose last name has all the words of this one, or the other way round:
    /// `burst` and `max_burst`.
    fn abbreviated(&self, parent: &str, key: &str, budget: &mut usize) -> Option<&Key> {
        let siblings = self.by_parent.get(parent)?;
        let wanted = words(key);
        let mut like = siblings
            .iter()
            .take_while(|sibling| spend(budget, sibling.as_str().len()))
            .filter(|sibling| {
                let known = words(sibling.as_str());
                let (few, many) = if known.len() < wanted.len() {
                    (&known, &wanted)
                } else {
                    (&wanted, &known)
                };
                few.len() < many.len() && few.iter().all(|word| many.contains(word))
            });
        like.next().filter(|_| like.next().is_none())
    }

    /// The only key that has these names below or above others: `port` and `http.port`.
    fn elsewhere(&self, path: &str, last: &str, budget: &mut usize) -> Option<&Key> {
        let name = &self.names[*self.by_name.get(last)?];
        let ends = |long: &str, short: &str| {
            let above = long.strip_suffix(short);
            above.is_some_and(|above| above.ends_with('.'))
        };
        let mut like = name
            .keys
            .iter()
            .take_while(|_| spend(budget, 1))
            .filter(|known| ends(&known.folded, path) || ends(path, &known.folded));
        let first = like.next().filter(|_| like.next().is_none());
        first.map(|known| &known.key)
    }
}

/// Which keys may be misspellings of declared secrets.
pub(super) struct Lookalikes {
    declared: BTreeSet<Key>,
    secret: BTreeSet<Key>,
    all: Names,
    /// The secret keys alone, which are few: nearly all keys are like none of them.
    few: Names,
}

impl Lookalikes {
    /// Of the declared keys, and those of them that are secret; `None` if none is.
    pub(super) fn of(declared: BTreeSet<Key>, secret: BTreeSet<Key>) -> Option<Self> {
        (!secret.is_empty()).then(|| Self {
            all: Names::of(declared.iter()),
            few: Names::of(secret.iter()),
            declared,
            secret,
        })
    }

    /// Whether an undeclared key, or one above it, may be a misspelled name of a declared secret.
    pub(super) fn has(&self, key: &str) -> bool {
        if key::lineage(key).any(|above| self.declared.contains(above)) {
            return false;
        }
        let mut above = key::lineage(key).filter(|above| !above.is_empty());
        above.any(|above| !self.leads_to_declared(above) && self.is_like(above))
    }

    fn leads_to_declared(&self, key: &str) -> bool {
        let after = (Bound::Excluded(key), Bound::Unbounded);
        let after = self.declared.range::<str, _>(after);
        let mut begin = after.take_while(|other| other.as_str().starts_with(key));
        begin.any(|other| key::under(other.as_str(), key))
    }

    fn is_like(&self, key: &str) -> bool {
        let mut budget = LIKE_BUDGET;
        if self.few.nearest(key, &mut budget).is_none() {
            return false;
        }
        let near = self.all.nearest(key, &mut budget);
        // Without an answer the key counts as like a secret.
        budget == 0 || near.is_some_and(|near| self.secret.contains(near))
    }
}

/// The most wrong letters of a name: few in a short one, since most short names are close to each other.
fn allowed(letters: usize) -> usize {
    match letters {
        0..=2 => 0,
        3..=4 => 1,
        5..=14 => 2,
        _ => 3,
    }
}

/// A key without the differences between spellings: `maxBurst`, `max-burst`, `MAX_BURST`. A dot in a quoted
/// name counts as a separator, in all keys.
fn fold(key: &str) -> String {
    let mut folded = String::with_capacity(key.len());
    for c in key.chars().filter(|c| !matches!(c, '-' | '_' | '"')) {
        if c.is_ascii() {
            folded.push(c.to_ascii_lowercase())
        } else {
            folded.extend(c.to_lowercase())
        }
    }
    folded
}

/// A folded key without its dots.
fn letters(folded: &str) -> Box<str> {
    folded.replace('.', "").into()
}

/// The names above the last one, and that one.
fn split(folded: &str) -> (&str, &str) {
    folded.rsplit_once('.').unwrap_or(("", folded))
}

/// The words of the last name of a key.
fn words(key: &str) -> Vec<String> {
    let name = split(key).1;
    let mut words = vec![String::new()];
    let mut after_small = false;
    for c in name.chars() {
        let gap = matches!(c, '-' | '_' | '"' | ' ');
        if gap || (c.is_uppercase() && after_small) {
            words.push(String::new());
        }
        after_small = c.is_lowercase() || c.is_numeric();
        if let (false, Some(word)) = (gap, words.last_mut()) {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Subtracts steps from the budget. Returns whether some are left.
fn spend(budget: &mut usize, much: usize) -> bool {
    *budget = budget.saturating_sub(much);
    *budget > 0
}

/// The number of wrong letters in the names above the last one, if both keys have as many names.
fn apart_above(path: &str, known: &str, budget: &mut usize) -> Option<usize> {
    if !spend(budget, 1) {
        return None;
    }
    if path == known {
        return Some(0);
    }
    let (mut names, mut others) = (path.split('.'), known.split('.'));
    let mut far = 0;
    loop {
        match (names.next(), others.next()) {
            (None, None) => return Some(far),
            (Some(name), Some(other)) if name == other => {}
            (Some(name), Some(other)) => {
                far += apart(name, other, budget)?;
            }
            _ => return None,
        }
    }
}

/// The number of letters to insert, remove, replace or swap with the next one that make two names equal, if
/// it is small enough.
fn apart(a: &str, b: &str, budget: &mut usize) -> Option<usize> {
    let (a_len, b_len) = (a.chars().count(), b.chars().count());
    let most = allowed(a_len.min(b_len));
    if !spend(budget, 1) || a_len.abs_diff(b_len) > most {
        return None;
    }
    if a == b {
        return Some(0);
    }
    if most == 0 || !begins_alike(a, b) || !spend(budget, a_len * b_len) {
        return None;
    }
    Some(strsim::osa_distance(a, b)).filter(|far| *far <= most)
}

/// Whether the first letters are the same, except for one more, one less or a swap: other mistakes in the
/// first letter are rare.
fn begins_alike(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.chars(), b.chars());
    let (a, b) = ([a.next(), a.next()], [b.next(), b.next()]);
    let is_at = |letter: Option<char>, at: Option<char>| letter.is_some() && letter == at;
    is_at(a[0], b[0]) || is_at(a[0], b[1]) || is_at(a[1], b[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nearest(declared: &[&str], key: &str) -> Option<String> {
        let keys: Vec<Key> = declared
            .iter()
            .map(|key| Key::parse(key).unwrap())
            .collect();
        let names = Names::of(keys.iter());
        let near = names.nearest(key, &mut { BUDGET });
        near.map(ToString::to_string)
    }

    #[test]
    fn a_typing_error_is_recognized() {
        for (wrong, right) in [
            ("http.prot", "http.port"),
            ("http.por", "http.port"),
            ("http.ports", "http.port"),
            ("htpt.port", "http.port"),
            ("ttp.port", "http.port"),
            ("hhttp.prt", "http.port"),
            ("nmae", "name"),
            ("qsp", "qps"),
            ("timeuot", "timeout"),
            ("tiemuot", "timeout"),
            ("conection-timeout-milis", "connection_timeout_millis"),
        ] {
            assert_eq!(
                nearest(&[right, "x.y", "other"], wrong).as_deref(),
                Some(right)
            );
        }
    }

    #[test]
    fn short_names_must_be_closer() {
        for (wrong, right) in [
            ("abl", "ttl"),
            ("tls", "ttl"),
            ("db.ssl", "db.url"),
            ("db", "dc"),
            ("a", "b"),
            ("ab", "abc"),
            ("nmea", "name"),
            ("post", "path"),
            ("timer", "names"),
            ("bttl", "axtl"),
            ("conn.tls", "http.ttl"),
        ] {
            assert_eq!(nearest(&[right], wrong), None, "{wrong}");
            assert_eq!(nearest(&[wrong], right), None, "{right}");
        }
        assert_eq!(nearest(&["ttl"], "ttls").as_deref(), Some("ttl"));
        // Two errors are too many for four letters, and not for five.
        assert_eq!(nearest(&["port"], "pxxt"), None);
        assert_eq!(nearest(&["ports"], "pxxts").as_deref(), Some("ports"));
        assert_eq!(nearest(&["portals"], "pxxxals"), None);
        assert_eq!(nearest(&["abc.def.ghi.jkl"], "abd.deg.ghj.jkm"), None);
        assert_eq!(
            nearest(&["abc.def.ghi.jkl"], "abc.deg.ghj.jkm").unwrap(),
            "abc.def.ghi.jkl"
        );
    }

    #[test]
    fn case_and_gaps_do_not_matter() {
        for wrong in [
            "HTTP.MAX_BODY",
            "http.maxBody",
            "Http.max-body",
            "http.maxbody",
        ] {
            let near = nearest(&["http.max_body", "http.max_bode"], wrong);
            assert_eq!(near.as_deref(), Some("http.max_body"));
        }
        assert_eq!(nearest(&["a_b"], "A-B").as_deref(), Some("a_b"));
    }

    #[test]
    fn a_missing_word_is_found() {
        let declared = ["ratelimit.max_burst", "ratelimit.qps", "http.maxRetries"];
        assert_eq!(
            nearest(&declared, "ratelimit.burst").unwrap(),
            "ratelimit.max_burst"
        );
        assert_eq!(
            nearest(&declared, "http.retries").unwrap(),
            "http.maxRetries"
        );
        assert_eq!(nearest(&["a.burst"], "a.max_burst").unwrap(), "a.burst");
        assert_eq!(nearest(&["a.burst_max"], "a.max_burst"), None);
        assert_eq!(
            nearest(&["a.max_burst", "a.min_burst"], "a.burst"),
            None,
            "either"
        );
        assert_eq!(nearest(&["b.max_burst"], "a.burst"), None, "elsewhere");
        assert_eq!(nearest(&["a.outburst"], "a.burst"), None, "no word");
    }

    #[test]
    fn a_key_without_its_prefix_is_found() {
        let declared = ["http.port", "ratelimit.max_burst", "db.url"];
        assert_eq!(nearest(&declared, "port").unwrap(), "http.port");
        assert_eq!(
            nearest(&declared, "max_burst").unwrap(),
            "ratelimit.max_burst"
        );
        assert_eq!(nearest(&declared, "app.http.port").unwrap(), "http.port");
        assert_eq!(nearest(&declared, "ldap.port"), None);
        assert_eq!(
            nearest(&["http.port", "admin.port"], "port"),
            None,
            "either"
        );
    }

    #[test]
    fn the_nearest_key_is_suggested() {
        let declared = ["http.port", "http.ports", "https.port"];
        assert_eq!(nearest(&declared, "http.prt").unwrap(), "http.port");
        assert_eq!(nearest(&declared, "HTTPS.port").unwrap(), "https.port");
    }

    #[test]
    fn an_exhausted_budget_gives_no_suggestion() {
        let keys: Vec<Key> = (0..1_000)
            .map(|i| Key::parse(&format!("name{i}")).unwrap())
            .collect();
        let names = Names::of(keys.iter());
        assert!(names.nearest("nmae7", &mut { BUDGET }).is_some());
        let mut little = 2_000;
        assert_eq!(names.nearest("nmae7", &mut little), None);
        assert_eq!(little, 0);
    }
}
