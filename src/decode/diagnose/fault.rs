//! What goes wrong on the way, before it is an [`Error`].

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{Expected, Unexpected};

use crate::decode::diagnose::form::INTEGERS;
use crate::decode::diagnose::identity::address;
use crate::decode::diagnose::suspect;
use crate::decode::input::Input;
use crate::error::{Error, ErrorKind, MASK};
use crate::value::origin::Origin;

/// Stands for the words of a user's type: they may quote the value, and that one may be secret.
const UNSAID: &str = "cannot be read";

/// Said about a variable that is set to nothing.
pub(in crate::decode) const EMPTY_VARIABLE: &str = "empty text: the variable is set to nothing; unset it, or \
                                         skip empty variables by `Env::ignore_empty`";

/// Stands for the name of a type that is inside of serde.
const INSIDE: &str = "\u{1}serde";

/// What is said of a value whose type is never taken.
const WRONG_TYPE: &str = "wrong type";

const WRONG_LENGTH: &str = "wrong length";

/// What a [`Secret`](crate::Secret) says that serde had buffered.
const UNREAD_SECRET: &str = "a secret that cannot be read";

/// A failure that learns its place while it travels up. Boxed, so that success stays small.
#[derive(Debug)]
pub(in crate::decode) struct Fault(pub(in crate::decode) Box<Inner>);

#[derive(Debug)]
pub(in crate::decode) struct Inner {
    pub(in crate::decode) kind: ErrorKind,
    pub(in crate::decode) detail: String,
    /// Whether `detail` comes from a type of the user and may quote the value.
    pub(in crate::decode) custom: bool,
    pub(in crate::decode) wanted: Option<String>,
    /// Whether `wanted` is the type around the place, as its own words name none.
    pub(in crate::decode) by_type: bool,
    /// The type of the field, where `wanted` is inside of serde.
    pub(in crate::decode) asked: Option<String>,
    /// Whether the value was refused while it was handed over, so serde had not buffered it.
    pub(in crate::decode) direct: bool,
    /// What serde says it got, when it judged a value that it had buffered.
    pub(in crate::decode) got: Option<Got>,
    /// Which value that was; see [`Judged`].
    pub(in crate::decode) at: Option<usize>,
    /// The names that would have been taken for a variant.
    pub(in crate::decode) variants: Option<&'static [&'static str]>,
    /// The field of which a struct has several spellings.
    pub(in crate::decode) twice: Option<&'static str>,
    /// The names below the place that mean the same thing.
    pub(in crate::decode) rivals: Vec<Box<str>>,
    /// The field a struct lacks.
    pub(in crate::decode) missing: Option<&'static str>,
    /// The field a struct does not know.
    pub(in crate::decode) unknown: Option<String>,
    /// What is added to the detail.
    pub(in crate::decode) note: Cow<'static, str>,
    /// An error that is complete already.
    pub(in crate::decode) done: Option<Error>,
    pub(in crate::decode) place: Option<Place>,
}

impl Inner {
    /// Whether the detail may quote a secret.
    fn hides_words(&self) -> bool {
        let place = self.place.as_ref();
        let may_quote = place.is_none_or(|place| place.masked || place.quotes);
        self.custom && may_quote && !is_of_serde(&self.detail)
    }
}

/// Whether these are serde's own words about an untagged enum, which quote no value.
fn is_of_serde(words: &str) -> bool {
    let name = words.strip_prefix("data did not match any variant of untagged enum ");
    name.is_some_and(|name| {
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

/// Where a fault was noticed.
#[derive(Clone, Debug)]
pub(in crate::decode) struct Place {
    pub(in crate::decode) path: String,
    pub(in crate::decode) found: Option<String>,
    pub(in crate::decode) origin: Option<Origin>,
    pub(in crate::decode) masked: bool,
    /// Whether the words of a user's type may quote a secret that stands below.
    pub(in crate::decode) quotes: bool,
    /// Whether the name was at fault, not the value.
    pub(in crate::decode) name: bool,
    /// Whether it was written in a variable of the environment.
    pub(in crate::decode) variable: bool,
}

/// A scalar as serde reports it back.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(in crate::decode) enum Got {
    Text(String),
    Number(String),
    Bool(bool),
    Map,
    Seq,
    Unit,
    Other,
}

/// What serde said about a value that it had buffered.
#[derive(Clone, Debug)]
pub(in crate::decode) struct Judged {
    pub(in crate::decode) got: Got,
    /// The address of the text that was judged; after the pass its place among all that the pass has
    /// handed over.
    pub(in crate::decode) at: Option<usize>,
    pub(in crate::decode) wanted: String,
    /// The values that it may be about, where not all are meant that are equal.
    pub(in crate::decode) among: Vec<usize>,
    pub(in crate::decode) variants: Option<&'static [&'static str]>,
}

thread_local! {
    /// A type may hide what serde said: an untagged enum tries its variants, and a secret keeps it
    /// back.
    static LOG: RefCell<Option<Vec<Judged>>> = const { RefCell::new(None) };
    /// The field of which a struct has found two spellings.
    static TWICE: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Does something and gives all that serde said about buffered values meanwhile, the last at the
/// end.
pub(in crate::decode) fn noting<R>(act: impl FnOnce() -> R) -> (R, Vec<Judged>) {
    /// Puts the outer log back, even if a type panics.
    struct Outer(Option<Vec<Judged>>);
    impl Drop for Outer {
        fn drop(&mut self) {
            LOG.set(self.0.take());
        }
    }
    let _outer = Outer(LOG.replace(Some(Vec::new())));
    TWICE.set(None);
    let outcome = act();
    (outcome, LOG.take().unwrap_or_default())
}

/// The field of which a struct had two spellings in the last [`noting`].
pub(in crate::decode) fn twice() -> Option<&'static str> {
    TWICE.get()
}

/// How much serde has said so far.
pub(in crate::decode) fn noted() -> usize {
    LOG.with_borrow(|log| log.as_ref().map_or(0, Vec::len))
}

impl Got {
    /// How serde reports a value back that it got as it is.
    pub(in crate::decode) fn of_input(input: &Input<'_>) -> Option<Self> {
        Some(match input {
            Input::Text(text) => Got::Text((*text).to_owned()),
            Input::Bool(value) => Got::Bool(*value),
            Input::Int(value) => Got::Number(value.to_string()),
            Input::Big(value) => match u64::try_from(value.get()) {
                Ok(value) => Got::Number(value.to_string()),
                Err(_) => Got::Other,
            },
            Input::Float(value) => Got::Number(format!("{value:?}")),
            Input::List(_) => Got::Seq,
            Input::Table(_) | Input::Fields(_) | Input::Nothing => Got::Map,
            _ => return None,
        })
    }

    fn of(unexpected: &Unexpected<'_>) -> Self {
        match *unexpected {
            Unexpected::Str(text) => Got::Text(text.into()),
            Unexpected::Char(c) => Got::Text(c.into()),
            Unexpected::Signed(value) => Got::Number(value.to_string()),
            Unexpected::Unsigned(value) => Got::Number(value.to_string()),
            Unexpected::Float(value) => Got::Number(format!("{value:?}")),
            Unexpected::Bool(value) => Got::Bool(value),
            Unexpected::Map => Got::Map,
            Unexpected::Seq => Got::Seq,
            Unexpected::Unit => Got::Unit,
            _ => Got::Other,
        }
    }

    pub(in crate::decode) fn shown(&self) -> Option<String> {
        match self {
            Got::Text(value) => Some(format!("text {}", shorten(value))),
            Got::Number(value) => Some(format!("number {value}")),
            Got::Bool(value) => Some(format!("boolean {value}")),
            Got::Map | Got::Seq | Got::Unit | Got::Other => None,
        }
    }
}

impl Judged {
    fn of(unexpected: &Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self {
            got: Got::of(unexpected),
            at: match unexpected {
                Unexpected::Str(text) => Some(address(text)),
                _ => None,
            },
            wanted: expected.to_string(),
            among: Vec::new(),
            variants: None,
        }
    }
}

impl Fault {
    pub(in crate::decode) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            detail: detail.into(),
            custom: false,
            wanted: None,
            by_type: false,
            asked: None,
            direct: false,
            got: None,
            at: None,
            variants: None,
            twice: None,
            rivals: Vec::new(),
            missing: None,
            unknown: None,
            note: Cow::Borrowed(""),
            done: None,
            place: None,
        }))
    }

    pub(in crate::decode) fn mismatch(detail: &str, wanted: impl Into<String>) -> Self {
        let mut fault = Self::new(ErrorKind::Mismatch, detail);
        fault.0.wanted = Some(wanted.into());
        fault
    }

    pub(in crate::decode) fn done(error: Error) -> Self {
        let mut fault = Self::new(error.kind(), "");
        fault.0.done = Some(error);
        fault
    }

    fn judged(detail: &str, judged: Judged) -> Self {
        LOG.with_borrow_mut(|log| {
            if let Some(log) = log {
                log.push(judged.clone());
            }
        });
        let mut fault = Self::mismatch(detail, judged.wanted);
        fault.0.got = Some(judged.got);
        fault.0.at = judged.at;
        fault.0.variants = judged.variants;
        fault
    }

    /// Says that names of a table mean the same thing.
    pub(in crate::decode) fn name_rivals(
        &mut self,
        table: String,
        names: Vec<String>,
        twice: Option<&str>,
    ) {
        let Some(place) = &mut self.0.place else {
            return;
        };
        let what = match twice {
            Some(field) => format!("`{field}` is set twice"),
            None => "several variants are set".to_owned(),
        };
        let by: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        self.0.detail = if place.masked {
            format!("{what}; leave one")
        } else {
            format!("{what}: by {}; leave one of them", by.join(" and "))
        };
        if place.path != table {
            place.path = table;
            place.found = None;
        }
        self.0.custom = false;
        self.0.rivals = names.into_iter().map(String::into_boxed_str).collect();
    }

    /// Whether two faults of the same type are one and the same.
    pub(in crate::decode) fn is_like(&self, other: &Self) -> bool {
        let (one, other) = (&self.0, &other.0);
        let path = |inner: &Inner| inner.place.as_ref().map(|place| place.path.clone());
        one.detail == other.detail
            && one.wanted == other.wanted
            && one.got == other.got
            && one.missing == other.missing
            && one.unknown == other.unknown
            && path(one) == path(other)
    }

    /// Whether it is about a secret, whose value no place shows.
    pub(in crate::decode) fn is_of_secret(&self) -> bool {
        self.0.detail.contains(UNREAD_SECRET)
    }

    /// Whether it may be about a value that serde had buffered.
    pub(in crate::decode) fn may_be_buffered(&self) -> bool {
        let by_serde = self.0.custom || self.0.got.is_some() || self.0.detail == WRONG_LENGTH;
        by_serde && !self.0.direct
    }

    /// What serde said about a buffered value, if this is that.
    pub(in crate::decode) fn judged_here(&self) -> Option<Judged> {
        Some(Judged {
            got: self.0.got.clone()?,
            at: self.0.at,
            wanted: self.0.wanted.clone().unwrap_or_default(),
            among: Vec::new(),
            variants: self.0.variants,
        })
    }

    /// What serde said about a text where it wants a number or a boolean: it says that about each text.
    pub(in crate::decode) fn wants_no_text(&self) -> Option<Judged> {
        let judged = self.judged_here()?;
        let is_scalar = judged.wanted == "a boolean" || is_number(&judged.wanted);
        let is_text = matches!(judged.got, Got::Text(_));
        (is_scalar && is_text && self.0.detail == WRONG_TYPE).then_some(judged)
    }

    /// The same fault of another text.
    pub(in crate::decode) fn of_text(text: Got, wanted: &str, place: Place) -> Self {
        let mut fault = Self::mismatch(WRONG_TYPE, wanted);
        fault.0.got = Some(text);
        fault.0.place = Some(place);
        fault
    }

    /// Masks what another fault for the same reason masks.
    pub(in crate::decode) fn mask_as(&mut self, other: &Fault) {
        if let (Some(place), Some(other)) = (&mut self.0.place, &other.0.place) {
            place.masked |= other.masked;
            place.quotes |= other.quotes;
        }
    }

    /// Moves it to another place, where the type around the old one is not what is wanted.
    pub(in crate::decode) fn move_to(&mut self, place: Place) {
        let inner = &mut *self.0;
        let is_elsewhere = inner
            .place
            .as_ref()
            .is_none_or(|old| old.path != place.path);
        if is_elsewhere && inner.by_type {
            inner.wanted = None;
        }
        inner.place = Some(place);
    }

    pub(in crate::decode) fn into_error(self, key: &str) -> Error {
        let inner = *self.0;
        let unsaid = inner.hides_words();
        let (path, found, origin, masked) = match inner.place {
            Some(place) => (place.path, place.found, place.origin, place.masked),
            None => (key.to_owned(), None, None, true),
        };
        if let Some(mut error) = inner.done {
            if error.key_text().is_none() {
                error = error.with_key_text(&path);
            }
            return match (error.origin().is_some(), origin) {
                (false, Some(origin)) => error.with_origin(origin),
                _ => error,
            };
        }
        let detail = if unsaid {
            UNSAID.to_owned()
        } else {
            inner.detail
        };
        let detail = detail + &*inner.note;
        let mut error = Error::new(inner.kind, detail);
        if !inner.rivals.is_empty() {
            error = error.with_rivals(inner.rivals);
        }
        // The empty key is the root of the tree, which has no name to show.
        if !path.is_empty() {
            error = error.with_key_text(&path);
        }
        let wanted = inner.wanted.filter(|wanted| !is_inside_of_serde(wanted));
        if let Some(wanted) = wanted.or(inner.asked) {
            error = error.with_expected(wanted);
        }
        // The name is what is wrong. The value may be a secret of the field that was meant.
        if let Some(found) = found.filter(|_| inner.unknown.is_none()) {
            error = error.with_found(if masked { MASK.to_owned() } else { found });
        }
        if let Some(origin) = origin {
            error = error.with_origin(origin);
        }
        error
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A type may wrap these words into an error of its own, so a secret is kept out here too.
        let unsaid = self.0.place.is_some() && self.0.hides_words();
        f.write_str(if unsaid { UNSAID } else { &self.0.detail })
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = cut(&message.to_string(), 200);
        let mut fault = Self::new(ErrorKind::Mismatch, message);
        fault.0.custom = true;
        fault
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::judged(WRONG_TYPE, Judged::of(&unexpected, expected))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let judged = Judged::of(&unexpected, expected);
        let is_integer = matches!(unexpected, Unexpected::Signed(_) | Unexpected::Unsigned(_));
        let detail = if is_integer && INTEGERS.contains(&judged.wanted.as_str()) {
            "out of range"
        } else {
            "invalid value"
        };
        Self::judged(detail, judged)
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::mismatch(WRONG_LENGTH, expected.to_string())
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        suspect::note_variants(expected);
        let judged = Judged {
            got: Got::Text(variant.into()),
            at: Some(address(variant)),
            wanted: one_of(expected),
            among: Vec::new(),
            variants: Some(expected),
        };
        Self::judged("unknown variant", judged)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let mut fault = Self::mismatch("unknown field", one_of(expected));
        fault.0.unknown = Some(field.into());
        fault
    }

    fn missing_field(field: &'static str) -> Self {
        suspect::note_fields(&[field]);
        let mut fault = Self::new(ErrorKind::NotFound, "not set");
        fault.0.missing = Some(field);
        fault
    }

    fn duplicate_field(field: &'static str) -> Self {
        let mut fault = Self::new(ErrorKind::Mismatch, format!("`{field}` is set twice"));
        fault.0.twice = Some(field);
        TWICE.set(Some(field));
        fault
    }
}

/// Whether this is what serde calls a type of numbers.
fn is_number(wanted: &str) -> bool {
    INTEGERS.contains(&wanted) || ["f32", "f64"].contains(&wanted)
}

fn one_of(names: &[&str]) -> String {
    if names.is_empty() {
        return "nothing".into();
    }
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    cut(&format!("one of {}", names.join(", ")), 200)
}

/// Quotes text and cuts it to a readable length.
pub(in crate::decode) fn shorten(text: &str) -> String {
    format!("{:?}", cut(text, 32))
}

pub(in crate::decode) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// The type whose implementation of a trait a name is made in: `X` of `<impl Trait for X>::f::Visitor`.
fn implemented_for(name: &str) -> &str {
    let start = name
        .find("<impl ")
        .and_then(|at| Some(at + name[at..].find(" for ")? + " for ".len()));
    let Some(start) = start else { return name };
    let mut depth = 1usize;
    let end = name[start..].find(|c| {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    &name[start..end.map_or(name.len(), |end| start + end)]
}

/// Whether the name of what is wanted says nothing to who does not know the inside of serde.
pub(in crate::decode) fn is_inside_of_serde(wanted: &str) -> bool {
    wanted == INSIDE || wanted == "any value"
}

/// The name of a type without its modules.
pub(in crate::decode) fn type_name<T: ?Sized>() -> String {
    let full = std::any::type_name::<T>();
    let inside = [
        "serde_core::private",
        "serde::__private",
        "serde::private",
        "::__Field",
    ];
    if inside.iter().any(|part| full.contains(part)) {
        return INSIDE.to_owned();
    }
    let full = implemented_for(full);
    let mut short = String::new();
    let mut word = String::new();
    let mut chars = full.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ':' && chars.peek() == Some(&':') {
            chars.next();
            word.clear();
        } else if c.is_alphanumeric() || c == '_' {
            word.push(c);
        } else {
            short.push_str(&std::mem::take(&mut word));
            short.push(c);
        }
    }
    short.push_str(&word);
    cut(&short, 60)
}
