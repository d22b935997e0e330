//! A schema as a table for a person.

use std::fmt::Write;

use crate::error::{MASK, Plain};
use crate::schema::field::Field;
use crate::schema::{Masking, Schema};
use crate::value::key::Key;

const HEAD: [&str; 6] = ["key", "type", "range", "default", "flags", "description"];

impl Schema {
    /// The declared keys as a table for a person, in order; defaults of secrets are masked.
    ///
    /// ```
    /// use liveprops::Schema;
    ///
    /// let schema = Schema::new()
    ///     .declare(Schema::key::<u32>("qps").range(1..=9).default(5).describe("requests a second"));
    /// assert_eq!(schema.to_text(), "\
    /// key  type  range  default  flags  description
    /// qps  u32   1..=9  5        -      requests a second
    /// ");
    /// ```
    pub fn to_text(&self) -> String {
        let mut rows = vec![HEAD.map(str::to_owned)];
        let secret_keys = self.secret_keys();
        let fields = self.fields.iter();
        rows.extend(
            fields.map(|(key, field)| row(key, field, self.masking(&secret_keys, key, field))),
        );
        let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max();
        let widths: Vec<usize> = (0..HEAD.len()).filter_map(width).collect();
        let mut text = String::new();
        for row in &rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                // Writing to a text does not fail.
                let _ = write!(line, "{cell:width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn row(key: &Key, field: &Field, masking: Masking) -> [String; 6] {
    let masked = masking != Masking::None;
    let limits: Vec<String> = field.limits.iter().map(|l| l.shown(masked)).collect();
    let default = field.default.as_ref().map(|default| {
        if masked {
            MASK.to_owned()
        } else {
            default.to_string()
        }
    });
    let mut flags = Vec::new();
    for (flag, set) in [
        ("required", field.required),
        ("secret", masking == Masking::Whole),
        ("restart", field.restart_required),
    ] {
        flags.extend(set.then(|| flag.to_owned()));
    }
    flags.extend(field.deprecated.as_ref().map(|instead| {
        if instead.is_empty() {
            "deprecated".to_owned()
        } else {
            format!("deprecated: {instead}")
        }
    }));
    let or_dash = |text: String| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            Plain(&text).to_string()
        }
    };
    [
        key.to_string(),
        field.shape.name.clone(),
        limits.join("; "),
        default.unwrap_or_default(),
        flags.join(", "),
        field.description.replace('\n', " "),
    ]
    .map(or_dash)
}
