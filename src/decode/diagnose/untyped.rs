//! Visits a value for a type that asks for a value of any type, while a failure is diagnosed.
//!
//! Such a type may be serde's buffer. So each visit is recorded, and the value is visited in the form that
//! was inferred for its class.

use std::cell::RefCell;

use serde::de::{Deserializer, Visitor};

use crate::decode::deserializer::ValueDeserializer;
use crate::decode::diagnose::diagnosis::Diagnosis;
use crate::decode::diagnose::fault::Fault;
use crate::decode::diagnose::form::Formed;
use crate::decode::diagnose::markers;
use crate::decode::diagnose::rejection::Reported;
use crate::decode::diagnose::trial;

/// Visits a value for a type that accepts any type.
pub(crate) fn visit_any<'de, V: Visitor<'de>>(
    de: ValueDeserializer<'_, 'de>,
    diagnosis: &RefCell<Diagnosis>,
    visitor: V,
) -> Result<V::Value, Fault> {
    let name = de.input.text().filter(|_| de.is_name);
    if let Some(number) = name.and_then(|name| trial::field_number(&name)) {
        return visitor.visit_u64(number);
    }
    if let Some(placeholder) = de.placeholder() {
        return visit_placeholder(de, placeholder.level(), diagnosis, visitor);
    }
    let (formed, marker, de) = {
        let inference = &mut diagnosis.borrow_mut().inference;
        let site = inference.site(&de);
        let (form, formed) = inference.form(&site, &de).unzip();
        let formed = formed.unwrap_or(Formed::Plain);
        let typed = if formed.is_plain() { de.as_json() } else { de };
        let mut reported = formed.reported_as(&typed);
        let marker = inference.marker(&site);
        if let Some(number) = marker {
            reported = markers::marker(&reported, number);
        }
        let marker = marker.map(|_| reported.clone());
        if !formed.is_plain() {
            de.record_name(|| format!("{reported:?}"));
        }
        inference.record_visit(site, &de, reported, form, false);
        inference.record_rejections_before();
        de.count_visit();
        (formed, marker, typed)
    };
    match marker {
        None => formed
            .visit(de, visitor)
            .map_err(|fault| mark_unbuffered(&de, fault)),
        Some(marker) => visit_marker(&marker, visitor).map_err(|fault| de.locate(fault)),
    }
}

/// Visits a placeholder for a type that accepts any type.
fn visit_placeholder<'de, V: Visitor<'de>>(
    de: ValueDeserializer<'_, 'de>,
    level: usize,
    diagnosis: &RefCell<Diagnosis>,
    visitor: V,
) -> Result<V::Value, Fault> {
    let path = de.path_text();
    let (placeholder, marker) = {
        let mut diagnosis = diagnosis.borrow_mut();
        let placeholder = diagnosis.buffered_placeholder(&path);
        let mut reported = placeholder.reported(level);
        let site = diagnosis.inference.site(&de);
        let marker = diagnosis.inference.marker(&site);
        if let Some(number) = marker {
            reported = markers::marker(&reported, number);
        }
        let marker = marker.map(|_| reported.clone());
        diagnosis
            .inference
            .record_visit(site, &de, reported, None, false);
        diagnosis.visited_placeholders.push(path);
        (placeholder, marker)
    };
    let result = match marker {
        Some(marker) => visit_marker(&marker, visitor),
        None => placeholder.visit(level, de, visitor),
    };
    result.map_err(|fault| de.locate(fault))
}

fn visit_marker<'de, V: Visitor<'de>>(marker: &Reported, visitor: V) -> Result<V::Value, Fault> {
    match marker {
        Reported::Number(marker) => visitor.visit_i64(marker.parse().unwrap_or(i64::MAX)),
        Reported::Text(marker) => visitor.visit_str(marker),
        _ => visitor.visit_unit(),
    }
}

/// Marks the fault of a visit: it is about the visited value, which serde has not buffered, unless it
/// comes from below.
fn mark_unbuffered(de: &ValueDeserializer<'_, '_>, mut fault: Fault) -> Fault {
    let location = fault.0.location.as_ref();
    fault.0.unbuffered |= location.is_some_and(|location| location.path == de.path_text());
    fault
}

/// Visits the name of an entry, or the tag of an enum.
pub(crate) fn visit_identifier<'de, V: Visitor<'de>>(
    de: ValueDeserializer<'_, 'de>,
    diagnosis: &RefCell<Diagnosis>,
    visitor: V,
) -> Result<V::Value, Fault> {
    let formed = {
        let inference = &mut diagnosis.borrow_mut().inference;
        if !de.is_name {
            inference.record_tag(&de);
        }
        let site = inference.site(&de);
        let (form, formed) = inference.form(&site, &de).unzip();
        let formed = formed.unwrap_or(Formed::Plain);
        let reported = formed.reported_as(&de);
        if !formed.is_plain() {
            de.record_name(|| format!("{reported:?}"));
        }
        inference.record_visit(site, &de, reported, form, true);
        formed
    };
    if !formed.is_plain() {
        return formed.visit(de, visitor);
    }
    let placeholder = de.placeholder();
    if let Some(placeholder) = placeholder {
        // The tag of an enum, in place of an unknown one.
        let invented = diagnosis.borrow().buffered_placeholder(&de.path_text());
        if let Some(name) = invented.variant(placeholder.level()) {
            return visitor.visit_str(name).map_err(|fault| de.locate(fault));
        }
    }
    match (placeholder, de.input.text()) {
        (None, Some(text)) => de
            .visit_text(&text, visitor)
            .map_err(|fault| de.locate_as::<V::Value>(fault)),
        _ => de.deserialize_str(visitor),
    }
}
