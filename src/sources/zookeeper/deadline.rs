//! Deadlines of answers.

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::sources::zookeeper::connect::late;

/// How long answers may take: each after the one before it, and all together.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    each: Duration,
    limit: Duration,
    begun: Instant,
}

impl Deadline {
    /// A limit for all answers together.
    pub(super) fn all(limit: Duration) -> Self {
        Self::each(limit, limit)
    }

    /// Each answer extends the deadline by `each`, up to `limit`.
    pub(super) fn each(each: Duration, limit: Duration) -> Self {
        Self {
            each,
            limit,
            begun: Instant::now(),
        }
    }

    /// When the next answer is due.
    pub(super) fn next(&self) -> Instant {
        (Instant::now() + self.each).min(self.begun + self.limit)
    }

    pub(super) fn error(&self) -> Error {
        if self.begun.elapsed() < self.limit {
            return late("an answer");
        }
        let detail = format!("the answers timed out after {:?}", self.limit);
        Error::new(ErrorKind::Timeout, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_extends_a_deadline_up_to_its_limit() {
        let each = Deadline::each(Duration::from_secs(2), Duration::from_secs(60));
        let next = each.next() - each.begun;
        assert!(next >= Duration::from_secs(2) && next < Duration::from_secs(50));
        let near = Deadline {
            begun: Instant::now() - Duration::from_secs(59),
            ..each
        };
        assert_eq!(near.next(), near.begun + near.limit);
        let over = Deadline {
            begun: Instant::now() - Duration::from_secs(61),
            ..each
        };
        assert_eq!(over.error().kind(), ErrorKind::Timeout);
    }
}
