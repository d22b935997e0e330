//! What happens after the first pass has failed: finding the form of buffered values, and all errors.
//!
//! Nothing in here runs while values are good and no type buffers them.
//!
//! # Flow
//!
//! - [`fault`] and [`rejection`]: what a pass reports. serde calls their constructors.
//! - [`target`]: the type that is decoded. Only this part is compiled for each type.
//! - [`report`]: the entry. It repeats the decoding in rounds, and turns faults into errors.
//! - [`passes`]: the passes of one round, until each buffered value has the form that its type expects.
//!   [`inference`], [`visits`] and [`assumptions`] keep what the passes have found; [`alternatives`] returns to
//!   earlier assumptions. [`class_paths`], [`class_forms`], [`tags`] and [`signature`] tell which values are alike.
//! - [`untyped`] and [`form`]: what a pass shows to a type that accepts a value of any type.
//! - [`fault_search`] and [`markers`]: move the fault of a round to the buffered value that it is about.
//! - [`diagnosis`], [`placeholder`], [`buffered_placeholder`], [`collect`] and [`budget`]: how the next round
//!   gets past a bad value.
//! - [`secret_paths`], [`secret_sites`], [`type_secrets`], [`secret_trials`], [`trial`], [`input_paths`] and
//!   [`visit_recorder`]: where a type reads secrets, which errors must not show.
//!
//! # Terms
//!
//! - *pass*: the type's `Deserialize` runs once over the value. *Round*: the passes up to one fault.
//! - *visit*: a call of the type's visitor with a value. *Site*: a path at which serde asks for a value of any
//!   type.
//! - *rejection*: a type does not accept a value that was visited or buffered.
//! - *class*: the values of one type, which share their form. *Form*: what a value is visited as. *Notation*: the
//!   kind of the value in the tree, such as text or a number.
//! - *tag*: the entry of a table whose text names the variant of an enum. *Signature*: what a value can be read as,
//!   to split a class without a tag.
//! - *probe*: an additional entry, to find out whether a table is a map. *Marker*: a unique value in the
//!   place of one of several equal ones. *Trial*: a pass with another value in the place of one, to find out
//!   whether the type reads a secret there.
//! - *placeholder*: an invented value in the place of a bad one.

pub(super) mod alternatives;
pub(super) mod assumptions;
pub(super) mod budget;
pub(super) mod buffered_placeholder;
pub(super) mod class_forms;
pub(super) mod class_paths;
pub(super) mod collect;
pub(super) mod diagnosis;
pub(super) mod fault;
pub(super) mod fault_search;
pub(super) mod form;
pub(super) mod inference;
pub(super) mod input_paths;
pub(super) mod markers;
pub(super) mod passes;
pub(super) mod placeholder;
pub(super) mod rejection;
pub(super) mod report;
pub(super) mod secret_paths;
pub(super) mod secret_sites;
pub(super) mod secret_trials;
pub(super) mod signature;
pub(super) mod tags;
pub(super) mod target;
pub(super) mod text_arena;
pub(super) mod trial;
pub(super) mod type_secrets;
pub(super) mod untyped;
pub(super) mod visit_recorder;
pub(super) mod visits;
pub(super) mod wording;
