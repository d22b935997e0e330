//! The roll-back on disk, so that a restart does not undo it.
//!
//! The thread that rolls back writes the file, and gets the error if that fails. The file contains the
//! values as they were written, so that a reference to a secret stays a reference. It lacks secrets,
//! which come from the layers. A value that was fixed at the start is written as it was resolved. The file
//! also names the defaults that a layer hid, since the next start has the defaults again.

use std::time::SystemTime;

use crate::engine::cache::{Cache, encoding, file, is_secret};
use crate::engine::commit::pins::hidden_defaults;
use crate::engine::core::Engine;
use crate::error::{Error, ErrorKind};
use crate::value::Value;
use crate::value::key::Key;
use crate::value::node::{Node, Table};

/// Differs from the file of any source, whose name ends with a hash.
const FILE: &str = "rollback.cache";
const OWNER: &str = "a roll-back";

/// The tree that an earlier run had rolled back to.
pub(crate) struct EarlierPin {
    /// The number of the generation in that run.
    pub(crate) generation: u64,
    pub(crate) since: SystemTime,
    pub(crate) tree: Table,
    /// The keys of the secrets that the tree lacks.
    pub(crate) missing_secrets: Vec<Key>,
    /// The defaults of that run that a layer hid.
    pub(crate) hidden_defaults: Vec<Key>,
}

impl Cache {
    /// Reads the tree that an earlier run had rolled back to, if it had.
    pub(crate) fn earlier_pin(&self) -> Result<Option<EarlierPin>, Error> {
        let Some(dir) = self.dir.get() else {
            return Ok(None);
        };
        let path = dir.path.join(FILE);
        let unusable = |reason: String| {
            let detail = format!(
                "the roll-back of an earlier run, kept in {}, is {reason}; the layers are in \
                 force",
                path.display()
            );
            Error::new(ErrorKind::Malformed, detail)
        };
        let read = file::read(&path);
        *self.owns_roll_back.lock() = !matches!(read, Ok(None));
        let Some(bytes) = read.map_err(unusable)? else {
            return Ok(None);
        };
        let kept = encoding::read(&bytes, OWNER).map_err(unusable)?;
        let generation = kept.revision.as_deref().and_then(|text| text.parse().ok());
        Ok(Some(EarlierPin {
            generation: generation.ok_or_else(|| unusable("damaged: no generation".to_owned()))?,
            since: kept.confirmed,
            tree: kept.root,
            missing_secrets: kept.missing_secrets,
            hidden_defaults: kept.hidden_defaults,
        }))
    }

    /// Brings the file up to date with the present roll-back.
    pub(crate) fn write_roll_back(&self, engine: &Engine) -> Result<(), Error> {
        let Some(dir) = self.dir.get() else {
            return Ok(());
        };
        // The last writer writes the newest state.
        let mut is_own = self.owns_roll_back.lock();
        let written = match engine.pin()? {
            // Another process that shares the directory may have rolled back.
            None if !*is_own => Ok(()),
            None => file::remove(&dir.path, FILE).inspect(|()| *is_own = false),
            Some(pin) => {
                // A value that turns out to be a secret later must not stay on disk.
                let _ = self.run(engine);
                let hidden = |key: &str, value: &Value| is_secret(engine, key, value);
                let defaults = if pin.pinned.by_earlier_run {
                    pin.hidden_defaults
                } else {
                    hidden_defaults(&pin.tree, &engine.current.full().layers)
                };
                let tree = without_derived_secrets(engine, &pin.tree);
                let body = encoding::body_in_force(&tree, &pin.missing_secrets, &defaults, &hidden);
                let generation = pin.pinned.generation.to_string();
                let (since, syntax) = (pin.pinned.since, encoding::TextSyntax::References);
                let file = encoding::file(OWNER, since, syntax, Some(&generation), &body);
                dir.write(FILE, &file).inspect(|()| *is_own = true)
            }
        };
        written.map_err(|cause| {
            let detail = format!(
                "in force until the next restart only: {} cannot be written: {cause}",
                dir.path.join(FILE).display()
            );
            Error::new(ErrorKind::Unavailable, detail)
        })
    }
}

/// The tree in which values that were fixed from a secret are references again, so that the secret stays
/// off the disk.
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
