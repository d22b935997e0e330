//! The protocol of NATS: parses what a server sends.
//!
//! An operation is a line; the line of a message states the length of the bytes that follow. Lengths are
//! checked before anything is kept: a line has at most [`MAX_LINE`] bytes and a kept message
//! [`MAX_MESSAGE`]. Of a longer message only the head is kept.

use serde_json::Value as Json;

use crate::error::{Error, ErrorKind};
use crate::format::MAX_DOCUMENT_BYTES;

/// The longest line; an INFO that lists two thousand servers fits.
const MAX_LINE: usize = 64 << 10;
/// The largest message that is kept: the largest document, with room for its head.
const MAX_MESSAGE: usize = MAX_DOCUMENT_BYTES + (1 << 20);
/// The largest message that a server may be set up to take, and the largest headers.
const LARGEST: usize = 65 << 20;
const MAX_HEADERS: usize = 64 << 10;
/// The most memory that is kept for the next message.
const MAX_IDLE_BYTES: usize = 256 << 10;

/// An operation of the server.
#[derive(Debug)]
pub(super) enum Op {
    Info(Info),
    Message(u64, Message),
    Ping,
    Pong,
    Ok,
    /// An error in the words of the server.
    Error(String),
}

/// The parts of `INFO` that the client uses.
#[derive(Debug, Default)]
pub(super) struct Info {
    pub(super) needs_tls: bool,
    /// The bytes to sign for a login by key.
    pub(super) nonce: String,
}

impl Info {
    fn of(text: &[u8]) -> Result<Self, Error> {
        let json: Json =
            serde_json::from_slice(text).map_err(|_| malformed("an INFO is no JSON"))?;
        Ok(Self {
            needs_tls: json["tls_required"].as_bool().unwrap_or_default(),
            nonce: json["nonce"].as_str().unwrap_or_default().to_owned(),
        })
    }
}

/// A message, with its headers as they came.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) subject: String,
    pub(super) reply: Option<String>,
    headers: Vec<u8>,
    pub(super) payload: Vec<u8>,
    /// The length of the payload, of which none is kept if it is too long.
    pub(super) length: usize,
}

impl Message {
    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        let reply = self.reply.as_ref().map_or(0, String::len);
        size_of::<Self>() + self.subject.len() + reply + self.headers.len() + self.payload.len()
    }

    /// Whether its payload was too large to be kept.
    pub(super) fn is_cut(&self) -> bool {
        self.payload.len() < self.length
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        let text = std::str::from_utf8(&self.headers).unwrap_or_default();
        text.split("\r\n")
    }

    /// The status that a server sends in place of, or besides, a payload.
    pub(super) fn status(&self) -> Option<u16> {
        let rest = self.lines().next()?.strip_prefix("NATS/1.0")?;
        rest.split_whitespace().next()?.parse().ok()
    }

    /// The value of the first header of a name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.lines().skip(1).find_map(|line| {
            let (other, value) = line.split_once(':')?;
            (other == name).then(|| value.trim())
        })
    }

    #[cfg(test)]
    pub(super) fn made_up(subject: &str, reply: &str, headers: &str, payload: &[u8]) -> Self {
        Self {
            subject: subject.to_owned(),
            reply: (!reply.is_empty()).then(|| reply.to_owned()),
            headers: headers.as_bytes().to_vec(),
            payload: payload.to_vec(),
            length: payload.len(),
        }
    }
}

/// The line of a message.
struct Head {
    sid: u64,
    subject: String,
    reply: Option<String>,
    headers: usize,
    total: usize,
}

impl Head {
    /// Parses `subject sid [reply] [headers] total`.
    fn of(line: &str, has_headers: bool) -> Result<Self, Error> {
        let bad = || malformed("the line of a message");
        let words: Vec<&str> = line.split_ascii_whitespace().take(6).collect();
        let lengths = 1 + usize::from(has_headers);
        let (head, numbers) = words
            .len()
            .checked_sub(lengths)
            .and_then(|at| words.split_at_checked(at))
            .ok_or_else(bad)?;
        let (subject, sid, reply) = match head {
            [subject, sid] => (*subject, *sid, None),
            [subject, sid, reply] => (*subject, *sid, Some((*reply).to_owned())),
            _ => return Err(bad()),
        };
        let number = |text: &str| text.parse::<usize>().map_err(|_| bad());
        let total = number(numbers.last().ok_or_else(bad)?)?;
        let headers = match numbers {
            [headers, _] => number(headers)?,
            _ => 0,
        };
        if total > LARGEST || headers > total || headers > MAX_HEADERS {
            let detail = format!("a message of {total} bytes, {headers} of them headers");
            return Err(malformed(&detail));
        }
        Ok(Self {
            sid: sid.parse().map_err(|_| bad())?,
            subject: subject.to_owned(),
            reply,
            headers,
            total,
        })
    }
}

/// The bytes that have arrived and are not yet parsed.
#[derive(Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    read: usize,
    /// The number of bytes from `read` on that hold no end of a line.
    scanned: usize,
    /// A message that is too long, and the number of its bytes that have not arrived.
    cut: Option<(u64, Message, usize)>,
}

impl Inbox {
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.read));
        if self.bytes.is_empty() && self.bytes.capacity() > MAX_IDLE_BYTES {
            self.bytes = Vec::new();
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.read == self.bytes.len()
    }

    /// The next operation, if all of it has arrived.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Malformed`] if it is not valid, or too long.
    pub(super) fn next(&mut self) -> Result<Option<Op>, Error> {
        if let Some((sid, message, to_come)) = self.cut.take() {
            let here = to_come.min(self.bytes.len() - self.read);
            self.read += here;
            if here < to_come {
                self.cut = Some((sid, message, to_come - here));
                return Ok(None);
            }
            return Ok(Some(Op::Message(sid, message)));
        }
        let rest = self.bytes.get(self.read..).unwrap_or_default();
        let fresh = rest.get(self.scanned..).unwrap_or_default();
        let Some(end) = fresh.windows(2).position(|two| two == b"\r\n") else {
            if rest.len() > MAX_LINE {
                return Err(malformed("a line without an end"));
            }
            self.scanned = rest.len().saturating_sub(1);
            return Ok(None);
        };
        let end = self.scanned + end;
        if end > MAX_LINE {
            return Err(malformed("a line that is too long"));
        }
        let line = &rest[..end];
        let word = line
            .split(u8::is_ascii_whitespace)
            .next()
            .unwrap_or_default();
        let text = |from: usize| {
            let text = std::str::from_utf8(line.get(from..).unwrap_or_default());
            text.map_err(|_| malformed("a line is not UTF-8"))
        };
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        let op = if is(b"MSG") || is(b"HMSG") {
            let head = Head::of(text(word.len())?, is(b"HMSG"))?;
            return Ok(self.message(head, end + 2));
        } else if is(b"PING") {
            Op::Ping
        } else if is(b"PONG") {
            Op::Pong
        } else if is(b"+OK") {
            Op::Ok
        } else if is(b"INFO") {
            Op::Info(Info::of(&line[word.len()..])?)
        } else if is(b"-ERR") {
            Op::Error(text(word.len())?.trim().trim_matches('\'').to_owned())
        } else {
            return Err(malformed("an operation that does not exist"));
        };
        self.advance(end + 2);
        Ok(Some(op))
    }

    /// The message whose body begins after `line` bytes, if the kept part of it has arrived.
    fn message(&mut self, head: Head, line: usize) -> Option<Op> {
        let is_cut = head.total > MAX_MESSAGE;
        let kept = if is_cut { head.headers } else { head.total + 2 };
        let body = self.bytes.get(self.read + line..self.read + line + kept);
        let Some(body) = body else {
            // The next call finds the end of the line at once.
            self.scanned = line - 2;
            return None;
        };
        let (headers, payload) = body.split_at(head.headers);
        let payload = if is_cut {
            &[]
        } else {
            &payload[..payload.len() - 2]
        };
        let message = Message {
            subject: head.subject,
            reply: head.reply,
            headers: headers.to_vec(),
            payload: payload.to_vec(),
            length: head.total - head.headers,
        };
        self.advance(line + kept);
        if is_cut {
            self.cut = Some((head.sid, message, head.total - head.headers + 2));
            return self.next().ok().flatten();
        }
        Some(Op::Message(head.sid, message))
    }

    fn advance(&mut self, bytes: usize) {
        self.read += bytes;
        self.scanned = 0;
    }
}

pub(super) fn malformed(what: &str) -> Error {
    let detail = format!("{what}: is this a server of NATS?");
    Error::new(ErrorKind::Malformed, detail)
}

/// Whether a subject can be written without becoming something else.
pub(super) fn is_subject(subject: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control();
    !subject.is_empty() && subject.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], step: usize) -> Result<Vec<Op>, Error> {
        let mut inbox = Inbox::default();
        let mut ops = Vec::new();
        for some in bytes.chunks(step) {
            inbox.extend(some);
            while let Some(op) = inbox.next()? {
                ops.push(op);
            }
        }
        Ok(ops)
    }

    #[test]
    fn operations_are_read_however_they_are_cut_up() {
        let text = b"INFO {\"nonce\":\"n\",\"tls_required\":true}\r\nPING\r\npong\r\n+OK\r\n\
                     -ERR 'Authorization Violation'\r\nMSG a.b 7 2\r\n\r\n\r\n\
                     MSG a 7 reply 0\r\n\r\n\
                     HMSG a.c 8 r.x 36 38\r\nNATS/1.0 100 Idle\r\nName: a value\r\n\r\nhi\r\n";
        for step in [1, 2, 3, 7, 1000] {
            let ops = all(text, step).unwrap();
            let [
                Op::Info(info),
                Op::Ping,
                Op::Pong,
                Op::Ok,
                Op::Error(error),
                rest @ ..,
            ] = &ops[..]
            else {
                panic!("{ops:?}");
            };
            assert!(info.needs_tls && info.nonce == "n");
            assert_eq!(error, "Authorization Violation");
            let [
                Op::Message(7, plain),
                Op::Message(7, empty),
                Op::Message(8, full),
            ] = rest
            else {
                panic!("{rest:?}");
            };
            assert_eq!(plain.payload, b"\r\n");
            assert_eq!((plain.status(), plain.header("Name")), (None, None));
            assert_eq!(empty.reply.as_deref(), Some("reply"));
            assert_eq!(
                (full.subject.as_str(), full.reply.as_deref()),
                ("a.c", Some("r.x"))
            );
            assert_eq!(
                (full.status(), full.header("Name")),
                (Some(100), Some("a value"))
            );
            assert_eq!(full.payload, b"hi");
        }
    }

    #[test]
    fn a_message_that_is_too_large_is_skipped_and_the_next_is_read() {
        let length = MAX_MESSAGE + 1;
        let mut bytes = format!("HMSG a 1 r 12 {}\r\nNATS/1.0\r\n\r\n", length + 12).into_bytes();
        bytes.extend(vec![b'x'; length]);
        bytes.extend(b"\r\nPING\r\n");
        for step in [64 << 10, bytes.len()] {
            let ops = all(&bytes, step).unwrap();
            let [Op::Message(1, message), Op::Ping] = &ops[..] else {
                panic!("{} operations", ops.len());
            };
            assert!(message.is_cut() && message.length == length);
        }
    }

    #[test]
    fn an_invalid_operation_is_an_error_before_it_is_kept() {
        let long = format!("INFO {}", "x".repeat(MAX_LINE));
        for bad in [
            "MSG a 1 100000000000\r\n",
            "MSG a 1 18446744073709551615\r\n",
            "HMSG a 1 5 4\r\n",
            "HMSG a 1 70000 90000\r\n",
            "HMSG a 1 4\r\n",
            "MSG a x 4\r\n",
            "MSG a 1 -4\r\n",
            "MSG\r\n",
            "MSG a b c d e f g h 4\r\n",
            "INFO {\r\n",
            "GET / HTTP/1.1\r\n",
            "\r\n",
            &long,
        ] {
            for step in [1, 1000, bad.len()] {
                let error = all(bad.as_bytes(), step.min(bad.len())).unwrap_err();
                assert!(error.to_string().contains("NATS?"), "{error}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_bytes_come_they_are_operations_or_an_error(
            bytes in proptest::collection::vec(
                proptest::prop_oneof![
                    proptest::prelude::Just(b'\r'), proptest::prelude::Just(b'\n'),
                    proptest::prelude::Just(b' '), proptest::prelude::Just(b'1'),
                    proptest::prelude::any::<u8>(),
                ],
                0..60,
            ),
            first in proptest::sample::select(vec!["MSG ", "HMSG ", "INFO ", "MSG a 1 ", "HMSG a 1 ", ""]),
        ) {
            let mut all_bytes = first.as_bytes().to_vec();
            all_bytes.extend(bytes);
            let at_once = all(&all_bytes, all_bytes.len().max(1)).map(|ops| ops.len()).ok();
            let one_by_one = all(&all_bytes, 1).map(|ops| ops.len()).ok();
            proptest::prop_assert_eq!(at_once, one_by_one);
        }
    }
}
