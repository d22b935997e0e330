//! The entry of the diagnosis: what happens after the first pass has failed.
//!
//! [`diagnose`] first tries other forms of buffered values, which may succeed. Otherwise it collects all
//! errors in rounds: each round locates the fault of the last one, reports it, and puts a placeholder
//! in the place of the bad value, so that the next round gets further.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde::de::DeserializeOwned;

use crate::decode::diagnose::diagnosis::{Diagnosis, MAX_ERRORS};
use crate::decode::diagnose::fault::Fault;
use crate::decode::diagnose::secret_trials::SecretTrials;
use crate::decode::diagnose::target::{Target, TargetType};
use crate::decode::diagnose::{fault_search, passes};
use crate::decode::request::Request;
use crate::error::{Error, ErrorKind};
use crate::value::key;

/// How many rounds there are at most. A fault that a user's type finds costs a whole round.
const MAX_ROUNDS: usize = 400;

/// Added to the last error if the rounds end early.
const SEARCH_ENDED: &str = "more values may be bad: serde buffers them, and the search ended here";

/// Decodes after a failure: with buffered values in other forms, or else to report all errors.
#[cold]
pub(crate) fn diagnose<T: DeserializeOwned>(
    request: Request<'_>,
    first: Fault,
) -> Result<T, Error> {
    let target = TargetType::new();
    diagnose_target(&target, request, first)?;
    let is_missing =
        || Error::new(ErrorKind::Mismatch, "cannot be read").with_key_text(request.key);
    // The target has the value of the pass that succeeded.
    target.into_value().ok_or_else(is_missing)
}

/// As [`diagnose`]; the target keeps the value.
fn diagnose_target(
    target: &dyn Target,
    request: Request<'_>,
    mut first: Fault,
) -> Result<(), Error> {
    if !request.can_be_diagnosed() {
        return Err(first.into_error(request.key));
    }
    let diagnosis = RefCell::new(Diagnosis::default());
    // No other form of a value repairs a broken reference.
    if first.0.complete.is_none() && passes::decode_in_passes(target, request, &diagnosis).is_ok() {
        return Ok(());
    }
    let secret_trials = SecretTrials::new();
    let (mut errors, unread) = collect_errors(target, request, &diagnosis, &secret_trials);
    secret_trials.record_known(target, request);
    // A traced request has been diagnosed before.
    if !request.is_traced {
        secret_trials.record_unread_values(target, request, &unread);
    }
    if errors.is_empty() {
        secret_trials.mask(target, request, &diagnosis, &mut first);
        errors.push(first.into_error(request.key));
    }
    if errors.len() >= MAX_ERRORS && !errors.iter().any(Error::is_partial) {
        let note = format!("of more errors the first {MAX_ERRORS} are listed");
        add_note(&mut errors, &note);
    }
    let diagnosis = diagnosis.into_inner();
    let errors = errors
        .into_iter()
        .map(|error| diagnosis.add_missing_type(error));
    Err(Error::all(errors.collect()))
}

/// Runs rounds until the type accepts what is left, or until no placeholder helps. Also returns the paths at and
/// below which the type has not read all values.
fn collect_errors(
    target: &dyn Target,
    request: Request<'_>,
    diagnosis: &RefCell<Diagnosis>,
    secret_trials: &SecretTrials,
) -> (Vec<Error>, BTreeSet<String>) {
    diagnosis.borrow_mut().inference.reporting = true;
    let mut errors = Vec::new();
    let mut is_complete = false;
    for _ in 0..MAX_ROUNDS {
        let result = passes::decode_in_passes(target, request, diagnosis);
        let collected = diagnosis.borrow_mut().take_collected();
        for mut fault in collected {
            if !request.is_traced {
                secret_trials.mask(target, request, diagnosis, &mut fault);
            }
            errors.push(fault.into_error(request.key));
        }
        errors.truncate(MAX_ERRORS);
        let Err(fault) = result else {
            is_complete = errors.len() < MAX_ERRORS;
            break;
        };
        if errors.len() >= MAX_ERRORS {
            break;
        }
        if diagnosis.borrow().is_exhausted() && !errors.is_empty() {
            if diagnosis.borrow_mut().replace_placeholder(&fault) {
                continue;
            }
            // The fault may be that of a good value whose form is not inferred yet.
            diagnosis.borrow_mut().unread.insert(request.key.to_owned());
            break;
        }
        let may_continue = report_fault(
            target,
            request,
            diagnosis,
            secret_trials,
            fault,
            &mut errors,
        );
        if !may_continue || errors.len() >= MAX_ERRORS {
            break;
        }
    }
    let mut unread = diagnosis.borrow().unread.clone();
    if !unread.is_empty() && errors.len() < MAX_ERRORS {
        note_end_of_search(&mut errors, &unread);
    }
    if !is_complete {
        unread.insert(request.key.to_owned());
    }
    (errors, unread)
}

/// Adds a note to the last error in what was not read, or else to the last one.
fn note_end_of_search(errors: &mut [Error], unread: &BTreeSet<String>) {
    let is_there = |error: &Error| {
        let key = error.key_text().unwrap_or_default();
        unread.iter().any(|path| key::under(key, path))
    };
    let at = errors.iter().rposition(is_there);
    let at = at.or(errors.len().checked_sub(1));
    if let Some(error) = at.and_then(|at| errors.get_mut(at)) {
        *error = error.clone().with_more(SEARCH_ENDED);
    }
}

/// Reports the fault of a round, and those for the same reason; returns whether another round may find
/// more.
fn report_fault(
    target: &dyn Target,
    request: Request<'_>,
    diagnosis: &RefCell<Diagnosis>,
    secret_trials: &SecretTrials,
    mut fault: Fault,
    errors: &mut Vec<Error>,
) -> bool {
    fault_search::locate(target, request, diagnosis, &mut fault);
    let room = MAX_ERRORS - errors.len();
    let (mut others, left) =
        fault_search::rejected_alike(target, request, diagnosis, &fault, room - 1);
    diagnosis.borrow().refine(&mut fault);
    if !request.is_traced {
        secret_trials.mask(target, request, diagnosis, &mut fault);
        others.iter_mut().for_each(|other| other.mask_as(&fault));
    }
    let mut diagnosis = diagnosis.borrow_mut();
    let mut may_continue = diagnosis.work_around(fault, errors, request.key);
    for mut other in others {
        diagnosis.refine(&mut other);
        may_continue &= diagnosis.work_around(other, errors, request.key);
    }
    if left > 0 {
        add_note(
            errors,
            &format!("{left} more values are rejected for the same reason"),
        );
    }
    may_continue
}

/// Adds a note to the last error.
fn add_note(errors: &mut Vec<Error>, note: &str) {
    let last = errors.pop();
    errors.extend(last.map(|last| last.with_more(note)));
}
