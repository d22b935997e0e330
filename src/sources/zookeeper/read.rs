//! One read of everything: the answers so far, and the nodes to ask for next.

use std::collections::{BTreeSet, HashSet, VecDeque};

use crate::error::Error;
use crate::sources::shared::kv::mirror::Mirror;
use crate::sources::zookeeper::changes::{Change, Changes, NODE_BYTES, check_bytes, denied};
use crate::sources::zookeeper::protocol::{Answer, Request};
use crate::sources::zookeeper::root::Root;

pub(super) struct TreeRead<'a> {
    root: &'a Root,
    /// The nodes that may not be read.
    denied: &'a mut BTreeSet<String>,
    mirror: &'a Mirror,
    changes: Changes,
    /// The bytes that were read or requested.
    bytes: usize,
    /// Nodes that are requested because the mirror knows them, and not because a parent lists them.
    known: HashSet<String>,
}

impl<'a> TreeRead<'a> {
    pub(super) fn new(
        root: &'a Root,
        denied: &'a mut BTreeSet<String>,
        mirror: &'a Mirror,
    ) -> Self {
        Self {
            root,
            denied,
            mirror,
            changes: Changes::default(),
            bytes: 0,
            known: HashSet::new(),
        }
    }

    pub(super) fn finish(self) -> Changes {
        self.changes
    }

    /// Records an answer, and adds the requests that follow from it to `more`.
    pub(super) fn record(
        &mut self,
        request: Request,
        answer: Answer<'_>,
        more: &mut VecDeque<Request>,
    ) -> Result<(), Error> {
        match (request, answer) {
            (
                Request::Data(path),
                Answer::Data {
                    bytes,
                    revision,
                    has_children,
                },
            ) => {
                self.count(bytes.len())?;
                self.insert(&path, Change::of(bytes, revision));
                if has_children && !self.root.is_alone {
                    more.push_back(Request::Children(path));
                }
            }
            (Request::Data(path), Answer::TooLarge(length)) => {
                self.insert(&path, Change::TooLarge(length));
                if !self.root.is_alone {
                    more.push_back(Request::Children(path));
                }
            }
            (Request::Children(path), Answer::Names(names)) => {
                for name in names {
                    let child = Root::child(&path, name?);
                    if self.root.key(&child).is_some() && !self.known.contains(&child) {
                        self.count(NODE_BYTES + child.len())?;
                        more.push_back(Request::Data(child));
                    }
                }
            }
            (Request::Data(path) | Request::Children(path), Answer::Denied) => {
                self.deny(path, more)?
            }
            (Request::Watch(_), Answer::Denied) => return Err(denied()),
            _ => {}
        }
        Ok(())
    }

    fn insert(&mut self, path: &str, change: Change) {
        if let Some(key) = self.root.key(path) {
            self.changes.insert(key, change);
        }
    }

    /// Records a node that may not be read. It does not list its children, which may be readable all the same:
    /// those that the mirror knows are requested.
    fn deny(&mut self, path: String, more: &mut VecDeque<Request>) -> Result<(), Error> {
        if path == self.root.path {
            return Err(denied());
        }
        if let Some(key) = self.root.key(&path) {
            for below in self.mirror.known_keys(&format!("{key}/")) {
                let child = self.root.node(below);
                if self.known.insert(child.clone()) {
                    self.count(NODE_BYTES + child.len())?;
                    more.push_back(Request::Data(child));
                }
            }
        }
        self.insert(&path, Change::Denied);
        self.denied.insert(path);
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes;
        check_bytes(self.bytes)
    }
}
