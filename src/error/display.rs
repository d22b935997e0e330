//! Errors as text.

use std::error::Error as StdError;
use std::fmt;

use crate::error::Error;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if !inner.related.is_empty() {
            write!(f, "{} problems", inner.related.len())?;
            for error in &inner.related {
                write!(f, "; {error}")?;
            }
            return Ok(());
        }
        let mut gap = "";
        if let Some(key) = &inner.key {
            write!(f, "`{}`", Plain(key.as_str()))?;
            gap = ": ";
        }
        if let Some(detail) = &inner.detail {
            write!(f, "{gap}{}", Plain(detail))?;
            gap = ", ";
        }
        if let Some(expected) = &inner.expected {
            write!(f, "{gap}expected {}", Plain(expected))?;
            gap = ", ";
        }
        if let Some(found) = &inner.found {
            write!(f, "{gap}found {}", Plain(found))?;
            gap = ", ";
        }
        if let Some(pause) = inner.retry_after {
            write!(f, "{gap}wants no retry for {pause:?}")?;
        }
        if let Some(origin) = &inner.origin {
            write!(f, " ({})", Plain(&origin.to_string()))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}: {self})", self.kind())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let cause = self.0.cause.as_ref()?;
        Some(&***cause as &(dyn StdError + 'static))
    }
}

/// Shows text without its control characters, so that a value cannot forge a log line.
pub(crate) struct Plain<'a>(pub(crate) &'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            let steers = matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if c.is_control() || steers {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                fmt::Write::write_char(f, c)?;
            }
        }
        Ok(())
    }
}
