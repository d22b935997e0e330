//! References in the forms of other tools: defaults of shells, which are errors here, and look-ups such
//! as `${env:HOME}`, which are hints.

use crate::error::{Error, ErrorKind};
use crate::sorted;
use crate::tree::interpolate::parse::{Part, Parts};
use crate::tree::layer::SourceId;
use crate::tree::snapshot::{Found, Generation};
use crate::value::Value;
use crate::value::key::push_segment;
use crate::value::node::{Node, Resolved, Table};

/// What other tools write before the colon of a look-up.
const LOOKUPS: [&str; 16] = [
    "base64", "consul", "env", "file", "gcp", "http", "https", "k8s", "oc.env", "secret",
    "secrets", "sm", "sops", "ssm", "sys", "vault",
];

/// Limits the look-ups that are reported. Of more, those of any keys are.
const MAX_REPORTED: usize = 100;

/// The operator of a shell's default, if a default begins with one: `-`, `=`, `?` or `+`. A sign before a number
/// belongs to the number: `${offset:-1}` has the default -1.
pub(super) fn shell_operator(default: &Parts<'_>) -> Option<char> {
    let Some(Part::Text(text)) = default.0.first() else {
        return None;
    };
    let (operator, rest) = text.split_at_checked(1)?;
    let digits = rest.strip_prefix('.').unwrap_or(rest);
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit());
    match operator {
        "=" => Some('='),
        "?" => Some('?'),
        "-" if !is_number => Some('-'),
        "+" if !is_number => Some('+'),
        _ => None,
    }
}

/// What to write instead of a shell's default. `default` is the text behind the operator, if it may be shown.
pub(super) fn remedy(operator: char, key: &str, default: Option<&str>) -> String {
    let form = format!("`:{operator}` is a form of shells and no default");
    let default = default.unwrap_or("default");
    match operator {
        '-' | '=' => format!("{form}: write `${{{key}:{default}}}`"),
        '?' => format!("{form}: write `${{{key}}}`, which is an error while the key is missing"),
        // `:+` gives a text in place of a key that is set, so it is no default of this key.
        _ => format!("{form}: write `${{{key}:default}}`, or define the key"),
    }
}

impl Generation {
    /// Hints about references that take their defaults although they look like the look-ups of other
    /// tools, each with the source that wrote it.
    pub(crate) fn lookup_hints(&self) -> Vec<(SourceId, Error)> {
        let mut found = Vec::new();
        self.add_lookup_hints(&self.root, &mut String::new(), &mut found);
        sorted::sort_by(&mut found, |(_, a), (_, b)| a.key().cmp(&b.key()));
        found
    }

    fn add_lookup_hints(
        &self,
        table: &Table,
        path: &mut String,
        found: &mut Vec<(SourceId, Error)>,
    ) {
        // A table without this mark has no references in it.
        if !table.special() {
            return;
        }
        for entry in table.map().iter() {
            if found.len() >= MAX_REPORTED {
                return;
            }
            let before = path.len();
            push_segment(path, &entry.name);
            match &entry.node {
                Node::Table(below) => self.add_lookup_hints(below, path, found),
                Node::Resolved(resolved) => found.extend(self.hint_about(path, resolved)),
                Node::Leaf(_) => {}
            }
            path.truncate(before);
        }
    }

    /// The hint about the first look-up in a value.
    fn hint_about(&self, key: &str, resolved: &Resolved) -> Option<(SourceId, Error)> {
        let name = self.first_lookup_in_value(&resolved.raw.value)?;
        let found = Found::in_tree(&self.root, key).ok()?;
        let layer = self.winners(key, found).first().copied()?;
        let detail = format!(
            "`${{{name}:` looks nothing up: a reference names a key, no layer defines `{name}`, and \
             what follows the colon is the default; read such values by a source of their own, or \
             write `$${{` for a literal `${{`"
        );
        let hint = Error::new(ErrorKind::Reference, detail).with_key_text(key);
        let hint = hint.with_origin(&resolved.raw.origin);
        Some((self.layers[layer].id, hint))
    }

    /// The name of the first look-up in a value.
    fn first_lookup_in_value(&self, value: &Value) -> Option<&'static str> {
        match value {
            Value::Text(text) if value.may_refer() => {
                self.first_lookup_in_parts(&Parts::of(text, 0).ok()?)
            }
            Value::List(items) => items
                .iter()
                .find_map(|item| self.first_lookup_in_value(item)),
            Value::Table(fields) => fields
                .values()
                .find_map(|value| self.first_lookup_in_value(value)),
            _ => None,
        }
    }

    fn first_lookup_in_parts(&self, parts: &Parts<'_>) -> Option<&'static str> {
        parts.0.iter().find_map(|part| {
            let Part::Reference { key, default, .. } = part else {
                return None;
            };
            let default = default.as_ref()?;
            let in_this_reference = || match (key.0.as_slice(), default.0.first()) {
                ([Part::Text(name)], Some(Part::Text(text))) => {
                    self.known_lookup(name.trim(), text)
                }
                _ => None,
            };
            in_this_reference().or_else(|| self.first_lookup_in_parts(default))
        })
    }

    /// The name of a look-up, if no layer defines it as a key and the default looks like a path or like the
    /// name of a variable: so `${env:prod}` gives no hint.
    fn known_lookup(&self, name: &str, default: &str) -> Option<&'static str> {
        let name = LOOKUPS.into_iter().find(|known| *known == name)?;
        let is_capital = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let is_variable = default.chars().all(is_capital)
            && default.starts_with(|c: char| c.is_ascii_uppercase() || c == '_');
        let found = Found::in_tree(&self.root, name);
        let is_missing = found.is_ok_and(|found| found.is_nothing());
        (is_missing && (is_variable || default.contains('/'))).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_before_a_number_is_no_operator_of_a_shell() {
        let operator = |text: &str| shell_operator(&Parts::of(text, 0).unwrap());
        for default in ["-1", "+1", "-.5", "-0x1f", "1", "", "a-b", "${-x}"] {
            assert_eq!(operator(default), None, "{default}");
        }
        for form in [
            "-a",
            "=80",
            "?",
            "+x",
            "-",
            "--",
            "-/tmp",
            "?must be set",
            "-${x}",
        ] {
            assert_eq!(operator(form), form.chars().next(), "{form}");
        }
    }
}
