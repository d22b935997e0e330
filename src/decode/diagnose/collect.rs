//! Collects several faults in one pass, so that a list of bad items costs a few passes.
//!
//! A type may hide a fault, as an untagged enum does. So the first fault of each *pattern* must come out of a
//! whole pass. A pattern is a path with `*` in place of each index of a list and each name of a map. Later
//! faults of the same pattern are collected where they occur, and the type gets a placeholder at once.

use std::collections::HashSet;

use crate::decode::deserializer::ValueDeserializer;
use crate::decode::diagnose::class_paths::{EACH, STEP};
use crate::decode::diagnose::fault::Fault;
use crate::decode::diagnose::placeholder::Placeholder;
use crate::decode::input::{Path, Segment};

/// The patterns of which faults can be collected.
#[derive(Default)]
pub(crate) struct Collected {
    /// The patterns of lists and maps, whose entries have one type.
    uniform: HashSet<String>,
    /// The patterns of which a fault has come out of a pass.
    reported: HashSet<String>,
    /// The path and the pattern of the last fault that was not collected.
    raised: Option<(String, String)>,
}

impl Collected {
    /// The pattern of a path; `None` if a name is not known.
    fn pattern(&self, path: &Path<'_>) -> Option<String> {
        let Some(parent) = path.parent else {
            return Some(String::new());
        };
        let mut pattern = self.pattern(parent)?;
        let each = self.uniform.contains(&pattern);
        pattern.push(STEP);
        match path.segment {
            Segment::Hidden => return None,
            _ if each => pattern.push_str(EACH),
            Segment::Name(name) => pattern.push_str(name),
            Segment::Index(at) => pattern.push_str(&at.to_string()),
        }
        Some(pattern)
    }

    /// Records a list or a map.
    fn record_uniform(&mut self, path: &Path<'_>) {
        if let Some(pattern) = self.pattern(path) {
            self.uniform.insert(pattern);
        }
    }

    /// Whether a fault at a path can be collected: no type hides those of its pattern.
    pub(crate) fn may_collect(&mut self, path: &Path<'_>, fault: &Fault) -> bool {
        let Some(pattern) = self.pattern(path) else {
            return false;
        };
        if self.reported.contains(&pattern) {
            return true;
        }
        let location = fault.0.location.as_ref();
        self.raised = location.map(|location| (location.path.clone(), pattern));
        false
    }

    /// Records that the fault at a path has come out of a pass.
    pub(crate) fn record_reported(&mut self, path: &str) {
        let raised = self.raised.take();
        let pattern = raised
            .filter(|(at, _)| at == path)
            .map(|(_, pattern)| pattern);
        self.reported.extend(pattern);
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
