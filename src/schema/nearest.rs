//! Which declared key an undeclared one may stand for.

use std::collections::{BTreeMap, HashMap};

use crate::value::key::Key;

/// What may be spent on suggestions at a time: a name looked at is one, and so is a cell of the
/// table that compares two names. They are help for a person, and a crowd needs none.
pub(super) const BUDGET: usize = 1_000_000;

/// The declared keys by their last names.
#[derive(Debug)]
pub(super) struct Names {
    names: Vec<Name>,
    by_name: HashMap<String, usize>,
    by_length: BTreeMap<usize, Vec<usize>>,
    /// By all names but the last.
    by_parent: HashMap<String, Vec<Key>>,
}

/// A last name, folded, with the keys that have it.
#[derive(Debug)]
struct Name {
    letters: Vec<char>,
    keys: Vec<Key>,
}

impl Names {
    pub(super) fn of<'a>(keys: impl Iterator<Item = &'a Key>) -> Self {
        let mut all = Self {
            names: Vec::new(),
            by_name: HashMap::new(),
            by_length: BTreeMap::new(),
            by_parent: HashMap::new(),
        };
        for key in keys {
            let mut path: Vec<String> = key.segments().map(|name| fold(&name)).collect();
            let Some(last) = path.pop() else {
                continue;
            };
            let siblings = all.by_parent.entry(path.join(".")).or_default();
            siblings.push(key.clone());
            let at = match all.by_name.get(&last) {
                Some(at) => *at,
                None => {
                    let at = all.names.len();
                    let letters: Vec<char> = last.chars().collect();
                    all.by_length.entry(letters.len()).or_default().push(at);
                    all.by_name.insert(last, at);
                    let keys = Vec::new();
                    all.names.push(Name { letters, keys });
                    at
                }
            };
            all.names[at].keys.push(key.clone());
        }
        all
    }

    /// The declared key that may be meant, unless it takes more than the budget to find it, or
    /// several are as likely.
    pub(super) fn nearest(&self, key: &str, budget: &mut usize) -> Option<&Key> {
        let path: Vec<String> = Key::parse(key).ok()?.segments().map(|n| fold(&n)).collect();
        let (last, above) = path.split_last()?;
        let found = self
            .misspelled(&path, last, budget)
            .or_else(|| self.abbreviated(above, key, budget))
            .or_else(|| self.elsewhere(&path, last, budget));
        // What was found in part of the names may not be the nearest.
        found.filter(|_| *budget > 0)
    }

    /// The key whose names are spelled most alike.
    fn misspelled(&self, path: &[String], last: &str, budget: &mut usize) -> Option<&Key> {
        let letters: Vec<char> = last.chars().collect();
        let most = allowed(letters.len());
        let near = letters.len().saturating_sub(most)..=letters.len() + most;
        let exact = self.by_name.get(last).copied();
        let others = self.by_length.range(near).flat_map(|(_, names)| names);
        let others = others.copied().filter(|_| most > 0);
        let mut best: Option<(usize, &Key)> = None;
        for at in exact.into_iter().chain(others) {
            let name = &self.names[at];
            let Some(far) = apart(&letters, &name.letters, budget) else {
                continue;
            };
            for key in &name.keys {
                if !spend(budget, path.len()) {
                    return None;
                }
                let rest = path.len() - 1;
                let Some(above) = apart_above(&path[..rest], key, budget) else {
                    continue;
                };
                let candidate = (far + above, key);
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
    fn abbreviated(&self, above: &[String], key: &str, budget: &mut usize) -> Option<&Key> {
        let siblings = self.by_parent.get(&above.join("."))?;
        let wanted = words(key);
        let mut like = siblings
            .iter()
            .take_while(|_| spend(budget, 1 + wanted.len()))
            .filter(|sibling| {
                let known = words(sibling.as_str());
                let (few, many) = match known.len() < wanted.len() {
                    true => (&known, &wanted),
                    false => (&wanted, &known),
                };
                few.len() < many.len() && few.iter().all(|word| many.contains(word))
            });
        like.next().filter(|_| like.next().is_none())
    }

    /// The only key that has these names below or above others: `port` and `http.port`.
    fn elsewhere(&self, path: &[String], last: &str, budget: &mut usize) -> Option<&Key> {
        let name = &self.names[*self.by_name.get(last)?];
        let mut like = name
            .keys
            .iter()
            .take_while(|_| spend(budget, path.len()))
            .filter(|key| {
                let known: Vec<String> = key.segments().map(|name| fold(&name)).collect();
                known.ends_with(path) || path.ends_with(&known)
            });
        like.next().filter(|_| like.next().is_none())
    }
}

/// As many letters may be wrong in a whole key.
const MOST: usize = 3;

/// As many letters may be wrong in a name: in a short one hardly any, since most short names are
/// close to each other.
fn allowed(letters: usize) -> usize {
    match letters {
        0..=2 => 0,
        3..=4 => 1,
        5..=14 => 2,
        _ => 3,
    }
}

/// A name without what people write now so and now so: `maxBurst`, `max-burst`, `MAX_BURST`.
fn fold(name: &str) -> String {
    let letters = name.chars().filter(|c| !matches!(c, '-' | '_'));
    letters.flat_map(char::to_lowercase).collect()
}

/// The words of the last name of a key.
fn words(key: &str) -> Vec<String> {
    let name = key.rsplit('.').next().unwrap_or(key);
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

/// Takes from the budget; whether there was as much.
fn spend(budget: &mut usize, much: usize) -> bool {
    *budget = budget.saturating_sub(much);
    *budget > 0
}

/// How far the names above the last one are from those of a key, if it has as many.
fn apart_above(path: &[String], key: &Key, budget: &mut usize) -> Option<usize> {
    let mut known: Vec<String> = key.segments().map(|name| fold(&name)).collect();
    known.pop();
    if known.len() != path.len() {
        return None;
    }
    let mut far = 0;
    for (wanted, known) in path.iter().zip(&known) {
        if wanted != known {
            let letters = |name: &str| name.chars().collect::<Vec<char>>();
            far += apart(&letters(wanted), &letters(known), budget)?;
        }
    }
    Some(far)
}

/// How many letters to insert, remove, replace or swap with the next one to make one name of the
/// other, if it is few enough.
fn apart(a: &[char], b: &[char], budget: &mut usize) -> Option<usize> {
    let most = allowed(a.len().min(b.len()));
    if !spend(budget, 1) || a.len().abs_diff(b.len()) > most {
        return None;
    }
    if a == b {
        return Some(0);
    }
    // Hardly anybody misses the first letter, but for one more, one less or a swap.
    let begin = match (a, b) {
        ([x, ..], [y, ..]) if x == y => true,
        ([x, ..], [_, y, ..]) if x == y => true,
        ([_, x, ..], [y, ..]) if x == y => true,
        _ => false,
    };
    if most == 0 || !begin || !spend(budget, a.len() * b.len()) {
        return None;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut far = (row[j] + usize::from(x != y))
                .min(row[j + 1] + 1)
                .min(next[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                far = far.min(before[j - 1] + 1);
            }
            next.push(far);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().filter(|far| *far <= most)
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
    fn a_slip_is_recognised() {
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
        // Two slips are many for four letters, and few for five.
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
    fn what_is_nearer_comes_first() {
        let declared = ["http.port", "http.ports", "https.port"];
        assert_eq!(nearest(&declared, "http.prt").unwrap(), "http.port");
        assert_eq!(nearest(&declared, "HTTPS.port").unwrap(), "https.port");
    }

    #[test]
    fn a_used_up_budget_is_no_suggestion() {
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
