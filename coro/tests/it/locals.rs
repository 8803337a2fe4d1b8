//! Goal: coroutine-locals are one per coroutine, made late, dropped at its end on its own stack.
#![expect(unsafe_code, reason = "does by hand what a linker may do to constants")]

use crate::every_order;
use coring_coro as coro;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

struct Note(&'static str, RefCell<Option<Rc<RefCell<Vec<String>>>>>);
impl Drop for Note {
    fn drop(&mut self) {
        let name = coro::current().name().map(str::to_owned);
        if let Some(log) = self.1.take() {
            let older = OLDER.try_with(|_| ()).is_ok();
            log.borrow_mut()
                .push(format!("{} {name:?} {older}", self.0));
        }
    }
}

coro::local! {
    static OLDER: Note = Note("older", RefCell::new(None));
    static YOUNGER: Note = Note("younger", RefCell::new(None));
    static COUNT: Cell<u32> = Cell::new(10);
    static PANICS: PanicsWhenDropped = PanicsWhenDropped;
}

coro::local! {
    static COUNTED: Counted = Counted(RefCell::new(None));
}

struct Counted(RefCell<Option<Rc<Cell<u32>>>>);
impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(count) = self.0.take() {
            count.set(count.get() + 1);
        }
    }
}

/// A result that uses a local when nobody has joined for it.
struct UsesLocal(Rc<Cell<u32>>);
impl Drop for UsesLocal {
    fn drop(&mut self) {
        COUNTED.with(|counted| counted.0.replace(Some(Rc::clone(&self.0))));
    }
}

struct PanicsWhenDropped;
impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("local");
    }
}

#[test]
fn each_coroutine_has_its_own() {
    every_order(|| {
        let counts = coro::join_all((0..3).map(|n| {
            move || {
                COUNT.with(|count| count.set(count.get() + n));
                coro::yield_now();
                COUNT.with(Cell::get)
            }
        }));
        assert_eq!(counts, [10, 11, 12]);
    });
}

#[test]
fn dropped_newest_first_inside_the_coroutine() {
    every_order(|| {
        let log = Rc::new(RefCell::new(Vec::new()));
        let worker = coro::Builder::new().name("worker").spawn({
            let log = log.clone();
            move || {
                OLDER.with(|note| note.1.replace(Some(log.clone())));
                YOUNGER.with(|note| note.1.replace(Some(log.clone())));
            }
        });
        worker.unwrap().join().unwrap();
        let expected = [
            "younger Some(\"worker\") true",
            "older Some(\"worker\") false",
        ];
        assert_eq!(*log.borrow(), expected);
    });
}

#[test]
fn a_destructor_that_panics_is_the_coroutines_panic() {
    every_order(|| {
        let handle = coro::spawn(|| PANICS.with(|_| 5));
        assert_eq!(handle.join().unwrap_err().panic_message(), Some("local"));
    });
}

#[test]
fn outside_there_is_none() {
    assert_eq!(COUNT.try_with(Cell::get), Err(coro::LocalAccessError));
}

/// Goal: keys of two types are two keys, even at one address: a linker may merge constants that look alike.
/// Method: the merge, done by hand.
#[test]
fn keys_of_two_types_never_share_a_value() {
    #[repr(transparent)]
    struct Other(Cell<u32>);
    every_order(|| {
        COUNT.with(|count| count.set(7));
        let merged: *const coro::LocalKey<Other> = (&raw const COUNT).cast();
        // SAFETY: a key holds its initialiser and nothing else, and the ABI of `fn() -> Other` is that of
        // `fn() -> Cell<u32>`, because `Other` is transparent.
        let merged: &'static coro::LocalKey<Other> = unsafe { &*merged };
        assert_eq!(merged.with(|other| other.0.get()), 10);
        assert_eq!(COUNT.with(Cell::get), 7);
    });
}

/// Goal: a local that is first used by the destructor of the unclaimed result is dropped, too.
#[test]
fn a_local_of_the_very_last_moment_is_dropped() {
    every_order(|| {
        let drops = Rc::new(Cell::new(0));
        for _ in 0..3 {
            let result = UsesLocal(Rc::clone(&drops));
            drop(coro::spawn(move || result));
        }
        while drops.get() < 3 && Rc::strong_count(&drops) > 1 {
            coro::yield_now();
        }
        assert_eq!((drops.get(), Rc::strong_count(&drops)), (3, 1));
    });
}
