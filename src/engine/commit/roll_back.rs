//! Commits a roll-back, or its end.

use std::time::SystemTime;

use crate::engine::commit::pins::Pin;
use crate::engine::commit::{Base, CommitState, Committed};
use crate::error::{Error, ErrorKind};
use crate::tree::snapshot::Pinned;

impl CommitState {
    /// Pins the tree of a generation, or none.
    pub(super) fn set_pin(
        &mut self,
        base: &Base<'_>,
        generation: Option<u64>,
    ) -> Result<Committed, Error> {
        let pin = match generation {
            Some(number) => Some(self.pin_of(base, number)?),
            None => None,
        };
        let before = self.pins.set_pin(pin);
        let committed = self.rebuild(base, base.old.layers.clone());
        if committed.is_err() {
            self.pins.set_pin(before);
        }
        committed
    }

    fn pin_of(&self, base: &Base<'_>, number: u64) -> Result<Pin, Error> {
        let mut all = self.pins.past().chain([&base.old]);
        let found = all.find(|generation| generation.number() == number);
        let Some(found) = found else {
            let detail = format!("generation {number} is not kept; see `Builder::history`");
            return Err(Error::new(ErrorKind::NotFound, detail));
        };
        Ok(Pin {
            pinned: Pinned {
                generation: number,
                since: SystemTime::now(),
                by_earlier_run: false,
            },
            tree: found.root.clone(),
            missing_secrets: Vec::new(),
            hidden_defaults: Vec::new(),
        })
    }
}
