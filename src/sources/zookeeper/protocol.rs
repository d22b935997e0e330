//! The protocol of ZooKeeper: requests, answers and their bytes.
//!
//! A message is its length in four bytes and that many bytes more. Numbers are big-endian; texts and byte
//! arrays follow their length. A length is checked before anything is allocated for it.

use crate::error::{Error, ErrorKind};

/// A request about a node.
#[derive(Debug)]
pub(super) enum Request {
    /// Send an event for every change of the node and of those below it from now on, even if it is missing.
    Watch(String),
    /// Catch up with the leader before the next answer.
    Sync(String),
    Data(String),
    Children(String),
}

/// An answer, which borrows from the message.
#[derive(Debug)]
pub(super) enum Answer<'a> {
    Done,
    Data {
        bytes: &'a [u8],
        /// The transaction that set it.
        revision: u64,
        has_children: bool,
    },
    Names(Names<'a>),
    /// The answer has this many bytes, which are too many to be kept.
    TooLarge(usize),
    NoNode,
    Denied,
}

/// The names of a node's children.
#[derive(Debug)]
pub(super) struct Names<'a> {
    body: Reader<'a>,
    left: usize,
}

impl<'a> Iterator for Names<'a> {
    type Item = Result<&'a str, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = self.body.text();
        if name.is_err() {
            self.left = 0;
        }
        Some(name)
    }
}

pub(super) fn unavailable(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, detail)
}

pub(super) fn malformed(what: &str) -> Error {
    let detail = format!("{what}: is this a server of ZooKeeper?");
    Error::new(ErrorKind::Malformed, detail)
}

pub(super) const EVENT_XID: i32 = -1;
pub(super) const AUTH_XID: i32 = -4;

const GET_DATA: i32 = 4;
const SYNC: i32 = 9;
const GET_CHILDREN2: i32 = 12;
pub(super) const AUTH: i32 = 100;
const ADD_WATCH: i32 = 106;
pub(super) const CLOSE: i32 = -11;

const RECURSIVE: i32 = 1;

const UNIMPLEMENTED: i32 = -6;
const BAD_ARGUMENTS: i32 = -8;
const NO_NODE: i32 = -101;
const NO_AUTH: i32 = -102;

impl Request {
    pub(super) fn message(&self, xid: i32) -> Vec<u8> {
        let mut message = Message::new();
        message.int(xid);
        match self {
            Request::Watch(path) => message.int(ADD_WATCH).text(path).int(RECURSIVE),
            Request::Sync(path) => message.int(SYNC).text(path),
            Request::Data(path) => message.int(GET_DATA).text(path).byte(0),
            Request::Children(path) => message.int(GET_CHILDREN2).text(path).byte(0),
        };
        message.framed()
    }

    /// Parses the body of an answer with this error in its header, or 0.
    pub(super) fn answer<'a>(&self, error: i32, mut body: Reader<'a>) -> Result<Answer<'a>, Error> {
        match (self, error) {
            (_, NO_NODE) => Ok(Answer::NoNode),
            (_, NO_AUTH) => Ok(Answer::Denied),
            (Request::Watch(_), UNIMPLEMENTED) => Err(unavailable(
                "the server has no watches of a whole tree: it is older than 3.6",
            )),
            (_, BAD_ARGUMENTS) => Err(Error::new(
                ErrorKind::InvalidConfig,
                "the path is not valid",
            )),
            (Request::Data(_), 0) => {
                let bytes = body.bytes()?;
                let stat = Stat::of(&mut body)?;
                Ok(Answer::Data {
                    bytes,
                    revision: stat.modified,
                    has_children: stat.children > 0,
                })
            }
            (Request::Children(_), 0) => {
                let left = usize::try_from(body.int()?).unwrap_or(0);
                Ok(Answer::Names(Names { body, left }))
            }
            (_, 0) => Ok(Answer::Done),
            (_, error) => Err(unavailable(format!(
                "the server answers with error {error}"
            ))),
        }
    }
}

pub(super) struct Header {
    pub(super) xid: i32,
    pub(super) zxid: i64,
    pub(super) error: i32,
}

impl Header {
    /// The length of a header in bytes.
    pub(super) const LENGTH: usize = 16;

    pub(super) fn of(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            xid: reader.int()?,
            zxid: reader.long()?,
            error: reader.int()?,
        })
    }
}

/// The metadata of a node.
struct Stat {
    modified: u64,
    children: i32,
}

impl Stat {
    fn of(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let _created = reader.long()?;
        let modified = reader.long()? as u64;
        // Two times, three versions, an owner and a length.
        reader.read(8 + 8 + 4 + 4 + 4 + 8 + 4)?;
        let children = reader.int()?;
        Ok(Self { modified, children })
    }
}

/// Writes a message, after room for its length.
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn new() -> Self {
        Self(vec![0; 4])
    }

    pub(super) fn byte(&mut self, byte: u8) -> &mut Self {
        self.0.push(byte);
        self
    }

    pub(super) fn int(&mut self, number: i32) -> &mut Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(super) fn long(&mut self, number: i64) -> &mut Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.int(bytes.len() as i32);
        self.0.extend(bytes);
        self
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    pub(super) fn framed(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.0);
        let length = (bytes.len() - 4) as u32;
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        bytes
    }
}

/// Reads a message.
#[derive(Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn read(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (bytes, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| malformed("a message that is too short"))?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn int(&mut self) -> Result<i32, Error> {
        let bytes = self.read(4)?;
        Ok(bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | i32::from(*byte)))
    }

    pub(super) fn long(&mut self) -> Result<i64, Error> {
        let bytes = self.read(8)?;
        Ok(bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | i64::from(*byte)))
    }

    /// A length below 0 means no bytes.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let length = self.int()?;
        self.read(usize::try_from(length).unwrap_or(0))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Error> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| malformed("a name is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_message_is_read_back() {
        let mut message = Message::new();
        message
            .int(-5)
            .long(i64::MIN + 7)
            .text("ä")
            .bytes(b"")
            .byte(9);
        let bytes = message.framed();
        assert_eq!(bytes[..4], [0, 0, 0, bytes.len() as u8 - 4]);
        let mut reader = Reader(&bytes[4..]);
        assert_eq!(reader.int().unwrap(), -5);
        assert_eq!(reader.long().unwrap(), i64::MIN + 7);
        assert_eq!(reader.text().unwrap(), "ä");
        assert_eq!(reader.bytes().unwrap(), b"");
        assert_eq!(reader.read(1).unwrap(), [9]);
        assert!(reader.read(1).is_err());
    }

    #[test]
    fn a_message_that_is_cut_short_is_an_error() {
        let request = Request::Data("/a".to_owned());
        let mut whole = Message::new();
        whole.bytes(b"data").0.extend([0; 68]);
        let whole = whole.framed();
        let body = &whole[4..];
        assert!(request.answer(0, Reader(body)).is_ok());
        // Of the last number nothing is read.
        for length in 0..body.len() - 8 {
            assert!(
                request.answer(0, Reader(&body[..length])).is_err(),
                "{length}"
            );
        }
        let mut names = Message::new();
        names.int(i32::MAX).text("a");
        let names = names.framed();
        let request = Request::Children("/a".to_owned());
        let Ok(Answer::Names(mut names)) = request.answer(0, Reader(&names[4..])) else {
            panic!("no names");
        };
        assert_eq!(names.next().unwrap().unwrap(), "a");
        assert!(names.next().unwrap().is_err());
        assert!(names.next().is_none(), "not two billion errors");
    }

    proptest::proptest! {
        #[test]
        fn whatever_bytes_come_they_are_an_answer_or_an_error(
            bytes in proptest::collection::vec(
                proptest::prop_oneof![proptest::prelude::Just(0u8), proptest::prelude::any::<u8>()],
                0..200,
            ),
            error in proptest::prelude::any::<i32>(),
        ) {
            for request in [
                Request::Watch("/a".to_owned()),
                Request::Sync("/a".to_owned()),
                Request::Data("/a".to_owned()),
                Request::Children("/a".to_owned()),
            ] {
                for error in [0, error] {
                    if let Ok(Answer::Names(names)) = request.answer(error, Reader(&bytes)) {
                        proptest::prop_assert!(names.count() <= bytes.len());
                    }
                }
            }
            let _ = Header::of(&mut Reader(&bytes));
            let _ = Stat::of(&mut Reader(&bytes));
        }
    }
}
