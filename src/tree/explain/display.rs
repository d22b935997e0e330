//! Shows an explanation as a table for a person.

use std::borrow::Cow;
use std::fmt;

use crate::error::Plain;
use crate::tree::explain::{Absence, Explanation, LayerValue};
use crate::value::units;

/// Limits the bytes of a value in `Display`.
const MAX_SHOWN: usize = 1_024;

/// The beginning of a long value and its length, or the value.
fn shortened(value: &str) -> Cow<'_, str> {
    if value.len() <= MAX_SHOWN {
        return Cow::Borrowed(value);
    }
    let ends = value.char_indices().map(|(at, _)| at);
    let end = ends.take_while(|at| *at <= MAX_SHOWN).last().unwrap_or(0);
    Cow::Owned(format!("{}… ({} bytes)", &value[..end], value.len()))
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_value(f)?;
        self.fmt_layers(f)?;
        self.fmt_restart(f)?;
        for rejected in &self.rejected {
            write!(f, "\n  rejected: {rejected}")?;
        }
        for clash in &self.clashes {
            write!(f, "\n  note: {clash}")?;
        }
        Ok(())
    }
}

impl Explanation {
    /// The key and its value, or why it has none.
    fn fmt_value(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Plain(&self.key))?;
        match (&self.value, &self.broken) {
            (_, Some(error)) => write!(f, " cannot be read: {error}")?,
            (Some(value), None) => write!(f, " = {}", Plain(&shortened(value)))?,
            (None, None) => match &self.absent {
                Some(Absence::Unset { key, origin }) => {
                    write!(f, " is unset by {}", Plain(&origin.to_string()))?;
                    if key.as_str() != self.key {
                        write!(f, " at `{}`", Plain(key.as_str()))?;
                    }
                }
                Some(Absence::Hidden { key, origin }) => {
                    let origin = origin.to_string();
                    write!(f, " is hidden by the value of `{}`", Plain(key.as_str()))?;
                    write!(f, " ({})", Plain(&origin))?;
                }
                Some(Absence::NotKept { source }) => {
                    write!(f, " has no value until {} answers in full: ", Plain(source))?;
                    write!(
                        f,
                        "secrets are not kept on disk; see `Cached::with_secrets`"
                    )?;
                }
                Some(Absence::NoCase { origin }) => {
                    let origin = origin.to_string();
                    write!(
                        f,
                        " is absent: no case holds of the value ({})",
                        Plain(&origin)
                    )?;
                }
                Some(Absence::Undefined) if self.is_decided_by_layers() => {
                    write!(f, " is missing: no layer defines it")?;
                    if let Some(advice) = &self.advice {
                        write!(f, "; {}", Plain(advice))?;
                    }
                }
                Some(Absence::Undefined) | None => write!(f, " has no value of its own")?,
            },
        }
        Ok(())
    }

    /// One line for each layer.
    fn fmt_layers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .layers
            .iter()
            .map(|layer| layer.name.len())
            .max()
            .unwrap_or(0);
        for layer in &self.layers {
            let value = match &layer.value {
                LayerValue::Nothing => "-".to_owned(),
                LayerValue::Unset => "unset".to_owned(),
                LayerValue::Value(value) => shortened(value).into_owned(),
                LayerValue::Table(keys) => format!("a table of {keys}"),
            };
            let marker = if layer.wins { '>' } else { ' ' };
            let name = Plain(&layer.name).to_string();
            write!(f, "\n  {marker} {name:width$}  {}", Plain(&value))?;
            if let Some(origin) = &layer.origin {
                write!(f, "  ({})", Plain(&origin.to_string()))?;
            }
            if let Some(location) = &layer.location {
                write!(f, "  read from {}", Plain(location))?;
            }
            if let Some(confirmed) = layer.cached {
                let age = units::roughly(confirmed.elapsed().unwrap_or_default());
                write!(f, "  kept on disk, confirmed {age} ago")?;
            }
        }
        Ok(())
    }

    /// What a restart or an unpin would change.
    fn fmt_restart(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let restart = match self.pinned {
            Some(_) => "a restart after the unpin",
            None => "a restart",
        };
        match &self.pending_restart {
            Some(LayerValue::Value(value)) => {
                write!(f, "\n  {restart} brings {}", Plain(&shortened(value)))?;
            }
            Some(LayerValue::Table(keys)) => write!(f, "\n  {restart} brings a table of {keys}")?,
            Some(LayerValue::Nothing | LayerValue::Unset) => {
                write!(f, "\n  {restart} takes it away")?
            }
            None => {}
        }
        if let Some(pinned) = self.pinned {
            write!(f, "\n  {pinned}; the layers wait until it is unpinned")?;
        }
        Ok(())
    }
}
