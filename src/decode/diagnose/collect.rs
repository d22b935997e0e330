//! Collects several faults in one pass, so that a list of bad items costs a few passes.
//!
//! A type may hide a fault, as an untagged enum does, so the first fault of each class must come out of a
//! whole pass. After that, faults of the same class are collected where they occur, and the type gets a
//! placeholder at once.

use std::collections::HashSet;

use crate::decode::deserializer::ValueDeserializer;
use crate::decode::diagnose::class_paths::{EACH, STEP};
use crate::decode::diagnose::fault::Fault;
use crate::decode::diagnose::placeholder::Placeholder;
use crate::decode::input::{Path, Segment};

/// The classes of which faults can be collected.
#[derive(Default)]
pub(crate) struct Collected {
    /// The classes of lists and maps, whose entries have one type.
    uniform: HashSet<String>,
    /// The classes of which a fault has come out of a pass.
    reported: HashSet<String>,
    /// The path and the class of the last fault that was not collected.
    raised: Option<(String, String)>,
}

impl Collected {
    /// The path with `*` for each entry of a list or a map; `None` if a name is not known.
    fn class(&self, path: &Path<'_>) -> Option<String> {
        let Some(parent) = path.parent else {
            return Some(String::new());
        };
        let mut class = self.class(parent)?;
        let each = self.uniform.contains(&class);
        class.push(STEP);
        match path.segment {
            Segment::Hidden => return None,
            _ if each => class.push_str(EACH),
            Segment::Name(name) => class.push_str(name),
            Segment::Index(at) => class.push_str(&at.to_string()),
        }
        Some(class)
    }

    /// Records a list or a map.
    fn record_uniform(&mut self, path: &Path<'_>) {
        if let Some(class) = self.class(path) {
            self.uniform.insert(class);
        }
    }

    /// Whether a fault at a path can be collected: no type hides those of its class.
    pub(crate) fn may_collect(&mut self, path: &Path<'_>, fault: &Fault) -> bool {
        let Some(class) = self.class(path) else {
            return false;
        };
        if self.reported.contains(&class) {
            return true;
        }
        let location = fault.0.location.as_ref();
        self.raised = location.map(|location| (location.path.clone(), class));
        false
    }

    /// Records that the fault at a path has come out of a pass.
    pub(crate) fn report(&mut self, path: &str) {
        let raised = self.raised.take();
        let class = raised.filter(|(at, _)| at == path).map(|(_, class)| class);
        self.reported.extend(class);
    }
}

impl ValueDeserializer<'_, '_> {
    /// Records a list or a map, whose entries have one type.
    pub(crate) fn record_uniform(&self) {
        if let Some(diagnosis) = self.context.diagnosis {
            let diagnosis = &mut *diagnosis.borrow_mut();
            if diagnosis.inference.reporting {
                diagnosis.collected.record_uniform(self.path);
            }
        }
    }

    /// The placeholder for a bad value, if its fault can be collected; otherwise the fault.
    #[cold]
    pub(crate) fn placeholder_for(&self, fault: Fault) -> Result<Placeholder, Fault> {
        match self.context.diagnosis {
            Some(diagnosis) if !self.is_name => diagnosis.borrow_mut().collect(self.path, fault),
            _ => Err(fault),
        }
    }
}

/// The value of a result, or else the answer of a placeholder, if the fault can be collected.
macro_rules! or_collect {
    ($self:ident, $result:expr, $placeholder:ident => $answer:expr) => {
        match $result {
            Ok(value) => value,
            Err(fault) => {
                let $placeholder = $self.placeholder_for(fault)?;
                return $answer.map_err(|fault| $self.locate(fault));
            }
        }
    };
}
pub(crate) use or_collect;
