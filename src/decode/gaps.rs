//! Tables that are read as lists and lack an item.

use crate::decode::access::Child;
use crate::decode::place::first_origin;

/// As many gaps of one list are named.
const MOST_GAPS: usize = 3;

/// What is wrong with items that do not begin at 0 or do not follow each other: each missing index with
/// the items around it and their places. Takes the items by index, in that order and each once.
pub(super) fn detail(items: &[(usize, Child<'_>)]) -> Option<String> {
    let mut next = 0;
    let mut before = None;
    let mut gaps: Vec<String> = Vec::new();
    let mut others = 0;
    for item in items {
        if item.0 != next && gaps.len() < MOST_GAPS {
            gaps.push(gap(next, before, item));
        } else if item.0 != next {
            others += 1;
        }
        next = item.0.saturating_add(1);
        before = Some(item);
    }
    if gaps.is_empty() {
        return None;
    }
    if others > 0 {
        gaps.push(format!("{others} more gaps follow"));
    }
    let gaps = gaps.join(", ");
    Some(format!(
        "a list with a gap: {gaps}; set what is missing, or the list in a lower layer"
    ))
}

/// The gap between two items.
fn gap(missing: usize, before: Option<&(usize, Child<'_>)>, after: &(usize, Child<'_>)) -> String {
    let missing = match after.0 - 1 {
        last if last == missing => format!("item {missing} is missing"),
        last => format!("items {missing} to {last} are missing"),
    };
    match before {
        Some(before) => format!("{missing} between {} and {}", place(before), place(after)),
        None => format!("{missing} before {}", place(after)),
    }
}

fn place((at, child): &(usize, Child<'_>)) -> String {
    match child.origin.or_else(|| first_origin(child.input)) {
        Some(origin) => format!("item {at} ({origin})"),
        None => format!("item {at}"),
    }
}
