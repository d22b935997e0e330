//! The error about a table that is read as a list and lacks items.

use crate::decode::access::Child;
use crate::decode::location::first_origin;

/// How many gaps of one list the error names.
const MAX_GAPS: usize = 3;

/// Describes the gaps of a list: each missing index with the items around it and their origins. `items`
/// has each index once, in order. `None` if there is no gap.
pub(super) fn detail(items: &[(usize, Child<'_>)]) -> Option<String> {
    let mut next = 0;
    let mut before = None;
    let mut gaps: Vec<String> = Vec::new();
    let mut others = 0;
    for item in items {
        if item.0 != next && gaps.len() < MAX_GAPS {
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
        Some(before) => format!(
            "{missing} between {} and {}",
            describe(before),
            describe(after)
        ),
        None => format!("{missing} before {}", describe(after)),
    }
}

fn describe((at, child): &(usize, Child<'_>)) -> String {
    match child.origin.or_else(|| first_origin(child.input)) {
        Some(origin) => format!("item {at} ({origin})"),
        None => format!("item {at}"),
    }
}
