//! The values that several sources share, by type.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::ReentrantMutex;

use crate::source::Make;
use crate::sync::lock::{self, Mutex};

/// One value of each type, for as long as a source has it.
#[derive(Default)]
pub(crate) struct SharedValues(Mutex<HashMap<TypeId, Shared>>);

#[derive(Default)]
struct Shared {
    gate: Arc<ReentrantMutex<()>>,
    value: Option<Weak<dyn Any + Send + Sync>>,
}

impl SharedValues {
    /// Returns the value of a type, or makes it.
    pub(crate) fn get_or_make(&self, kind: TypeId, make: Make<'_>) -> Arc<dyn Any + Send + Sync> {
        let gate = Arc::clone(&self.0.lock().entry(kind).or_default().gate);
        // One maker at a time for each type, and no lock over all of them: a maker may share
        // something else, such as a client that needs the runtime. A maker that asks for its own type
        // makes another. Inside a validator nobody is waited for: a maker may wait for the commit.
        let _one = if lock::is_committing() {
            gate.try_lock()
        } else {
            Some(gate.lock())
        };
        if let Some(value) = self.get(kind) {
            return value;
        }
        let made = make();
        if let Some(shared) = self.0.lock().get_mut(&kind) {
            shared.value = Some(Arc::downgrade(&made));
        }
        made
    }

    fn get(&self, kind: TypeId) -> Option<Arc<dyn Any + Send + Sync>> {
        self.0.lock().get(&kind)?.value.as_ref()?.upgrade()
    }
}
