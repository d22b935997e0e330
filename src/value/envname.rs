//! Maps the name of an environment variable to a key.

/// Splits the name of a variable, without its prefix, into the segments of a key.
///
/// Two underscores or a dot separate segments, and all letters become lowercase:
/// `RATELIMIT__MAX_BURST` is `ratelimit.max_burst`. `None` if a segment would be empty or ambiguous: the
/// name is empty, begins or ends with a separator, or has three underscores in a row.
pub(crate) fn env_name_to_key(rest: &str) -> Option<Vec<String>> {
    if rest.contains("___") {
        return None;
    }
    let segments: Vec<String> = rest
        .split("__")
        .flat_map(|part| part.split('.'))
        .map(str::to_lowercase)
        .collect();
    let is_valid = segments.iter().all(|segment| !segment.is_empty());
    is_valid.then_some(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_underscores_separate_segments_and_one_does_not() {
        let key = |name| env_name_to_key(name).map(|segments| segments.join("|"));
        assert_eq!(
            key("RATELIMIT__MAX_BURST").as_deref(),
            Some("ratelimit|max_burst")
        );
        assert_eq!(key("a.B__c").as_deref(), Some("a|b|c"));
        assert_eq!(key("_A_").as_deref(), Some("_a_"));
    }

    #[test]
    fn names_with_an_empty_or_ambiguous_segment_map_to_nothing() {
        for name in [
            "", "__A", "A__", "A____B", "A___B", "A..B", ".A", "A.", "__", "A__.B",
        ] {
            assert_eq!(env_name_to_key(name), None, "{name}");
        }
    }
}
