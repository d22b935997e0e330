//! When user code may run.
//!
//! User code is everything that a caller hands to this crate and that this crate runs: decoders and
//! validators, callbacks, wakers, sources, and every `Drop`, `Clone` and `PartialEq` of their values.
//! One rule holds for all of it:
//!
//! - **Decoders and validators** run under the commit lock, before the commit has changed anything.
//!   A decoder is a `Deserialize`, the `Clone` of a default, or the closure of a `map`.
//! - **All other user code** runs while its thread holds no lock of this crate, and never between
//!   the first store of a commit and the moment its listeners are known.
//!
//! One exception: the constructor of a value that sources share runs under a lock that only constructors of
//! its type take.
//!
//! [`discard`] ensures the second part: it drops a value at once on a thread without locks, and otherwise
//! when the thread releases its last lock. For that, each lock of this crate that a value of the user can
//! reach counts itself; see [`lock`](super::lock).

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

use crate::sync::panics;

/// The locks that one thread holds, and the values that it has discarded.
struct Thread {
    /// How many locks of this crate the thread holds.
    locks: Cell<usize>,
    /// The values that are dropped when the last of them is released.
    waiting: RefCell<Discarded>,
    /// Whether there are such values: cheaper to read than the list.
    any_waits: Cell<bool>,
    /// Whether the thread is between the first store of a commit and its list of listeners.
    publishing: Cell<bool>,
}

thread_local! {
    /// Never destroyed, so that it also works while the thread's other variables are dropped. It
    /// owns no memory while the thread holds no lock.
    static THREAD: ManuallyDrop<Thread> = const {
        ManuallyDrop::new(Thread {
            locks: Cell::new(0),
            waiting: RefCell::new(Discarded::new()),
            any_waits: Cell::new(false),
            publishing: Cell::new(false),
        })
    };
}

/// Drops a value whose `Drop` is user code: now if this thread holds no lock of this crate, else
/// when it releases the last one. A panic of the `Drop` is contained.
pub(crate) fn discard<T: 'static>(value: T) {
    let mut value = Some(value);
    // Without thread-local storage the value is dropped at once.
    let _ = THREAD.try_with(|thread| {
        if thread.locks.get() > 0 {
            if let Some(value) = value.take() {
                thread.waiting.borrow_mut().push(Box::new(value));
                thread.any_waits.set(true);
            }
        }
    });
    if let Some(value) = value {
        let _ = panics::drop_contained(value);
    }
}

/// A value that is [discarded](discard) unless somebody keeps it.
#[derive(Clone)]
pub(crate) struct Discard<T: 'static>(Option<T>);

impl<T> Discard<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// Returns the value, which is then not discarded.
    pub(crate) fn keep(mut self) -> T {
        match self.0.take() {
            Some(value) => value,
            None => unreachable!("only `keep` and `drop` take the value"),
        }
    }
}

impl<T> Deref for Discard<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => unreachable!("only `keep` and `drop` take the value"),
        }
    }
}

impl<T> DerefMut for Discard<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Some(value) => value,
            None => unreachable!("only `keep` and `drop` take the value"),
        }
    }
}

impl<T> Drop for Discard<T> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            discard(value);
        }
    }
}

/// Counts a lock that this thread holds, for as long as this lives.
#[derive(Debug)]
#[must_use = "values are dropped under the lock unless this lives as long as the lock"]
pub(crate) struct Deferral(
    /// Not `Send`: the count is that of one thread.
    PhantomData<*const ()>,
);

impl Deferral {
    #[inline]
    pub(crate) fn begin() -> Self {
        let _ = THREAD.try_with(|thread| thread.locks.set(thread.locks.get() + 1));
        Self(PhantomData)
    }

    /// Ends the deferral. Returns the discarded values, if this was the last lock.
    pub(crate) fn end(self) -> Discarded {
        std::mem::forget(self);
        if release() {
            take_waiting()
        } else {
            Discarded::new()
        }
    }
}

impl Drop for Deferral {
    #[inline]
    fn drop(&mut self) {
        if release() {
            drop(take_waiting());
        }
    }
}

/// Counts one lock less. Returns whether it was the last and values wait.
#[inline]
fn release() -> bool {
    let values_wait = THREAD.try_with(|thread| {
        let left = thread.locks.get().saturating_sub(1);
        thread.locks.set(left);
        left == 0 && thread.any_waits.get()
    });
    values_wait.unwrap_or(false)
}

#[cold]
fn take_waiting() -> Discarded {
    let values = THREAD.try_with(|thread| {
        thread.any_waits.set(false);
        std::mem::take(&mut *thread.waiting.borrow_mut())
    });
    values.unwrap_or_default()
}

/// Values that were discarded under a lock. Each is dropped by itself, its panic contained.
#[must_use = "dropping this runs user code"]
#[derive(Default)]
pub(crate) struct Discarded {
    /// A commit rarely discards more than one value, and one needs no list.
    first: Option<Box<dyn Any>>,
    rest: Vec<Box<dyn Any>>,
}

impl Discarded {
    const fn new() -> Self {
        Self {
            first: None,
            rest: Vec::new(),
        }
    }

    fn push(&mut self, value: Box<dyn Any>) {
        match self.first {
            None => self.first = Some(value),
            Some(_) => self.rest.push(value),
        }
    }
}

impl Drop for Discarded {
    #[inline]
    fn drop(&mut self) {
        for value in self.first.take().into_iter().chain(self.rest.drain(..)) {
            let _ = panics::drop_contained(value);
        }
    }
}

impl fmt::Debug for Discarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Discarded")
    }
}

/// Marks the time in which no user code may run, for as long as this lives. Debug builds check it
/// in [`panics::catch`], which runs all user code that may panic.
#[derive(Debug)]
pub(crate) struct Publishing(PhantomData<*const ()>);

impl Publishing {
    pub(crate) fn begin() -> Self {
        Self::set(true);
        Self(PhantomData)
    }

    /// Whether this thread is publishing.
    pub(crate) fn is_active() -> bool {
        THREAD
            .try_with(|thread| thread.publishing.get())
            .unwrap_or(false)
    }

    fn set(active: bool) {
        let _ = THREAD.try_with(|thread| thread.publishing.set(active));
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        Self::set(false);
    }
}

/// A value whose `Drop` is user code, such as a closure. Its panic is contained, so the other fields
/// of the owner are dropped as well.
///
/// The owner must not be dropped under a lock; see [`discard`].
pub(crate) struct Contained<T>(Option<T>);

impl<T> Contained<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// Returns the value. A panic of its `Drop` is the caller's then.
    pub(crate) fn into_inner(mut self) -> T {
        match self.0.take() {
            Some(value) => value,
            None => unreachable!("only this and `drop` take the value"),
        }
    }
}

impl<T> Deref for Contained<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => unreachable!("only `drop` takes the value"),
        }
    }
}

impl<T> DerefMut for Contained<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Some(value) => value,
            None => unreachable!("only `drop` takes the value"),
        }
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            let _ = panics::drop_contained(value);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Contained<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::sync::lock::Mutex;

    struct Note(&'static str, Rc<RefCell<Vec<&'static str>>>);

    impl Drop for Note {
        fn drop(&mut self) {
            self.1.borrow_mut().push(self.0);
            assert_ne!(self.0, "panics");
        }
    }

    #[test]
    fn a_discarded_value_is_dropped_when_the_last_lock_is_released() {
        let dropped = Rc::default();
        let note = |name| Note(name, Rc::clone(&dropped));
        discard(note("without a lock"));
        assert_eq!(dropped.take(), ["without a lock"]);
        let (outer, inner) = (Mutex::new(()), Mutex::new(()));
        let first = outer.lock();
        let second = inner.lock();
        discard(note("panics"));
        drop(second);
        discard(note("last"));
        assert!(dropped.borrow().is_empty());
        drop(first);
        assert_eq!(dropped.take(), ["panics", "last"]);
    }

    #[test]
    fn the_end_of_a_deferral_returns_the_discarded_values() {
        let dropped = Rc::default();
        let deferral = Deferral::begin();
        discard(Note("value", Rc::clone(&dropped)));
        let discarded = deferral.end();
        assert!(dropped.borrow().is_empty());
        drop(discarded);
        assert_eq!(dropped.take(), ["value"]);
    }

    #[test]
    fn each_field_that_panics_while_it_is_dropped_is_contained() {
        let dropped = Rc::default();
        let note = || Contained::new(Note("panics", Rc::clone(&dropped)));
        drop((note(), note()));
        assert_eq!(dropped.take(), ["panics", "panics"]);
    }
}
