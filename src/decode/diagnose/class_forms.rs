//! The forms that the values of one class expect, by how the values are written.

use crate::decode::deserializer::ValueDeserializer;
use crate::decode::diagnose::form::Form;
use crate::decode::input::Input;

/// How a value is written. Values of one class and one notation get the same form.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Notation {
    Text,
    /// An item of JSON text.
    Item,
    Number,
    Bool,
    Table,
    Other,
}

impl Notation {
    pub(crate) fn of(de: &ValueDeserializer<'_, '_>) -> Self {
        match de.input.canonical() {
            Input::Text(_) if de.json.is_some() => Notation::Item,
            Input::Text(_) => Notation::Text,
            Input::Bool(_) => Notation::Bool,
            Input::Int(_) | Input::Big(_) | Input::Float(_) => Notation::Number,
            Input::Table(_) | Input::Fields(_) | Input::AbsentTable => Notation::Table,
            _ => Notation::Other,
        }
    }
}

/// The forms of a class. A value gets the first form that it can be read in.
#[derive(Clone, Default)]
pub(crate) struct Forms(Vec<(Notation, Form)>);

impl Forms {
    /// The first form of a notation that applies.
    pub(crate) fn find<R>(
        &self,
        notation: Notation,
        apply: impl Fn(Form) -> Option<R>,
    ) -> Option<R> {
        let forms = self.0.iter().filter(|(of, _)| *of == notation);
        forms.map(|(_, form)| *form).find_map(apply)
    }

    /// Adds a form, behind those that earlier variants expect of the same value.
    pub(crate) fn add(&mut self, notation: Notation, earlier: &[Form], form: Form) {
        let position =
            |all: &[(Notation, Form)], form| all.iter().position(|it| *it == (notation, form));
        let expected = earlier.iter().copied().chain([form]);
        let first = expected.clone().find_map(|form| position(&self.0, form));
        let mut at = first.unwrap_or(self.0.len());
        for form in expected {
            match position(&self.0, form) {
                Some(known) => at = at.max(known + 1),
                None => {
                    self.0.insert(at, (notation, form));
                    at += 1;
                }
            }
        }
    }

    /// Puts a form before all others.
    pub(crate) fn promote(&mut self, notation: Notation, form: Form) {
        self.remove(notation, form);
        self.0.insert(0, (notation, form));
    }

    pub(crate) fn remove(&mut self, notation: Notation, form: Form) {
        self.0.retain(|it| *it != (notation, form));
    }
}
