//! The roll-back on disk, so that a restart does not undo it.
//!
//! Written by the thread that rolls back, which is told whether that worked. It holds the values as
//! they were written, so that a reference to a secret stays a reference; secrets are not in it, and
//! are what the layers say. A value that was fixed at the start is in it as it reads, and the names
//! of the defaults that a layer hid, since the next start has the defaults again.

use std::time::SystemTime;

use crate::engine::cache::{Cache, encoding, file, is_secret};
use crate::engine::commit::pins::hidden_defaults;
use crate::engine::core::Engine;
use crate::error::{Error, ErrorKind};
use crate::value::Value;
use crate::value::key::Key;
use crate::value::node::{Node, Table};

/// Has no hash in its name, as the file of every source does.
const FILE: &str = "rollback.cache";
const OWNER: &str = "a roll-back";

/// What a run before this one had rolled back to.
pub(crate) struct Before {
    /// The number of the generation in that run.
    pub(crate) generation: u64,
    pub(crate) since: SystemTime,
    pub(crate) tree: Table,
    pub(crate) secrets: Vec<Key>,
    /// The defaults of that run that a layer hid.
    pub(crate) hidden: Vec<Key>,
}

impl Cache {
    /// What a run before this one had rolled back to, if it had; why it cannot be had, if so.
    pub(crate) fn rolled_back(&self) -> Result<Option<Before>, Error> {
        let Some(dir) = self.dir.get() else {
            return Ok(None);
        };
        let path = dir.path.join(FILE);
        let unusable = |reason: String| {
            let detail = format!(
                "the roll-back of an earlier run, kept in {}, is {reason}; what the layers say is \
                 in force",
                path.display()
            );
            Error::new(ErrorKind::Malformed, detail)
        };
        let read = file::read(&path);
        *self.rollback.lock() = !matches!(read, Ok(None));
        let Some(bytes) = read.map_err(unusable)? else {
            return Ok(None);
        };
        let kept = encoding::read(&bytes, OWNER).map_err(unusable)?;
        let generation = kept.revision.as_deref().and_then(|text| text.parse().ok());
        Ok(Some(Before {
            generation: generation.ok_or_else(|| unusable("damaged: no generation".to_owned()))?,
            since: kept.confirmed,
            tree: kept.root,
            secrets: kept.left_out,
            hidden: kept.hidden,
        }))
    }

    /// Brings the file up to date with what is rolled back to now.
    pub(crate) fn keep_rollback(&self, engine: &Engine) -> Result<(), Error> {
        let Some(dir) = self.dir.get() else {
            return Ok(());
        };
        // Who comes last writes what is in force last.
        let mut ours = self.rollback.lock();
        let written = match engine.rolled_back()? {
            // Another process that shares the directory may have rolled back.
            None if !*ours => Ok(()),
            None => file::remove(&dir.path, FILE).inspect(|()| *ours = false),
            Some(pin) => {
                // What turns out to be a secret later must not stay on disk.
                let _ = self.run(engine);
                let hidden = |key: &str, value: &Value| is_secret(engine, key, value);
                let defaults = if pin.pinned.by_earlier_run {
                    pin.hidden
                } else {
                    hidden_defaults(&pin.tree, &engine.current.full().layers)
                };
                let tree = without_derived_secrets(engine, &pin.tree);
                let body = encoding::body_in_force(&tree, &pin.secrets, &defaults, &hidden);
                let generation = pin.pinned.generation.to_string();
                let (since, form) = (pin.pinned.since, encoding::Form::References);
                let file = encoding::file(OWNER, since, form, Some(&generation), &body);
                dir.write(FILE, &file).inspect(|()| *ours = true)
            }
        };
        written.map_err(|cause| {
            let detail = format!(
                "in force, but a restart will not know of it: {} cannot be written: {cause}",
                dir.path.join(FILE).display()
            );
            Error::new(ErrorKind::Unavailable, detail)
        })
    }
}

/// The tree with what was fixed from a secret as it was written, so that the secret stays off the
/// disk.
fn without_derived_secrets(engine: &Engine, tree: &Table) -> Table {
    let now = engine.current.full();
    let whole = Node::Table(tree.clone()).map_resolved(&|resolved| {
        if now.refers_to_secret(resolved) {
            Node::Leaf(resolved.raw.clone())
        } else {
            Node::Resolved(Box::new(resolved.clone()))
        }
    });
    match whole {
        Node::Table(tree) => tree,
        _ => tree.clone(),
    }
}
