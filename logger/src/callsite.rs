//! The static record behind every log statement, and the one load that decides whether it does anything.
//!
//! ```text
//!   gate:  0            off: the statement is a load, a compare and a branch
//!          1..          on: this is the site's id in records
//!          u32::MAX     never reached yet, or no logger: take the slow way, ask the filter
//! ```
//!
//! Sites link themselves into one list the first time they are reached (compare-and-swap, no allocation, no lock), so that a
//! change of the filter can set all gates at once. The order that makes this safe: a site is in the list *before* it reads the
//! filter, and a change replaces the filter *before* it walks the list; one of the two sees the other.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use log::Level;

const OFF: u32 = 0;
const UNKNOWN: u32 = u32::MAX;

/// What is known of a log statement at compile time.
#[derive(Debug)]
#[doc(hidden)]
pub struct Callsite {
    gate: AtomicU32,
    id: AtomicU32,
    /// Whether the drain writes its lines; if not they stay in the ring, for the flight recorder.
    written: AtomicBool,
    next: AtomicPtr<Callsite>,
    pub(crate) level: Level,
    pub(crate) target: &'static str,
    pub(crate) module: &'static str,
    pub(crate) file: &'static str,
    pub(crate) line: u32,
    pub(crate) format: &'static str,
    /// Names of the fields, which follow the arguments of the message in a record.
    pub(crate) keys: &'static [&'static str],
}

/// First id of a call site; smaller ones are the logger's own records (see `record.rs`).
pub(crate) const FIRST_ID: u32 = 16;

static SITES: AtomicPtr<Callsite> = AtomicPtr::new(std::ptr::null_mut());
static NEXT_ID: AtomicU32 = AtomicU32::new(FIRST_ID);

/// What the filter says about a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    Off,
    Recorded,
    Written,
}

impl Callsite {
    #[doc(hidden)]
    #[must_use]
    pub const fn new(
        level: Level,
        target: &'static str,
        module: &'static str,
        place: (&'static str, u32),
        format: &'static str,
        keys: &'static [&'static str],
    ) -> Self {
        Self {
            gate: AtomicU32::new(UNKNOWN),
            id: AtomicU32::new(0),
            written: AtomicBool::new(true),
            next: AtomicPtr::new(std::ptr::null_mut()),
            level,
            target,
            module,
            file: place.0,
            line: place.1,
            format,
            keys,
        }
    }

    /// The site's id if it is on, else 0.
    #[doc(hidden)]
    #[inline(always)]
    pub fn gate(&'static self) -> u32 {
        let gate = self.gate.load(Ordering::Relaxed);
        if gate == OFF {
            // Asked first: what is off has one branch.
            return OFF;
        }
        if gate == UNKNOWN {
            self.first_reached()
        } else {
            gate
        }
    }

    #[cold]
    fn first_reached(&'static self) -> u32 {
        if self.register() {
            crate::crash::describe(self);
        }
        crate::state::ask(self)
    }

    /// Gives the site its id and puts it into the list, once.
    /// Returns true to the one caller that did it.
    fn register(&'static self) -> bool {
        if self.id.load(Ordering::Relaxed) != 0 {
            return false;
        }
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        assert!(
            id < UNKNOWN - 1,
            "more than four thousand million log statements"
        );
        if self
            .id
            .compare_exchange(0, id, Ordering::Relaxed, Ordering::Relaxed)
            .is_err()
        {
            return false; // Another thread was faster; the number just taken stays unused.
        }
        let mut head = SITES.load(Ordering::Relaxed);
        loop {
            self.next.store(head, Ordering::Relaxed);
            // Release: whoever finds us in the list (Acquire in `all`) sees `id` and `next`.
            match SITES.compare_exchange_weak(
                head,
                std::ptr::from_ref(self).cast_mut(),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(newer) => head = newer,
            }
        }
    }

    /// Sets the gate. Returns what it now says. Lines already in a ring when their site is turned off keep their interest.
    pub(crate) fn set(&self, interest: Interest) -> u32 {
        let gate = match interest {
            Interest::Off => OFF,
            Interest::Recorded | Interest::Written => self.id(),
        };
        if gate != OFF {
            self.written
                .store(interest == Interest::Written, Ordering::Relaxed);
        }
        self.gate.store(gate, Ordering::Relaxed);
        gate
    }

    pub(crate) fn id(&self) -> u32 {
        self.id.load(Ordering::Relaxed)
    }

    pub(crate) fn is_written(&self) -> bool {
        self.written.load(Ordering::Relaxed)
    }
}

/// All sites reached so far, latest first.
pub(crate) fn all() -> impl Iterator<Item = &'static Callsite> {
    let load = |link: &AtomicPtr<Callsite>| {
        // Acquire: pairs with the Release of the compare-exchange in `register`.
        let site = link.load(Ordering::Acquire);
        as_site(site)
    };
    std::iter::successors(load(&SITES), move |site| load(&site.next))
}

#[expect(unsafe_code, reason = "turns a link of the list back into a reference")]
fn as_site(link: *mut Callsite) -> Option<&'static Callsite> {
    // SAFETY: links are null or were made from a `&'static Callsite` in `register`.
    unsafe { link.as_ref() }
}
