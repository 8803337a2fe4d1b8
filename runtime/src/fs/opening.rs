//! Opens that were done together, asked about in one call.
//!
//! Whoever opens a file for reading has to know whether it is a FIFO (fifo.rs), and nothing of an open says so. To ask is a system
//! call, 0.2 us beside the 3.5 that opening, reading and closing a cached file take. Where many open at a time the kernel has done
//! all of them in one enter, and one poll(2) asks about all:
//!
//! ```text
//!   note  ->  UnderWay(op)  --- the open is done, and so is one before it, whose owner comes first: --> Asked(a_file)
//!               |                 that one asks for itself and for those behind it                         |
//!               `---------------- its own owner comes first, or is alone ----------------------------------+--> Free
//! ```
//!
//! A file can be polled for both, whatever it was opened for; the reader's end of a FIFO never for writing, a terminal not for reading
//! before a line has come. (One whose name is not in /dev, with a line there, is taken for a file.) Of all others the owner
//! asks by itself what they are. The places are a ring in the order of submission, which is the order in which the kernel does what needs no worker. Who
//! finds its place taken, by one of 64 opens before, is not noted, and asks by itself.
//!
//! A poll is harmless for files. For a device it may be an order to begin, and for what reports changes it is an acknowledgement, so
//! paths to where these are kept are not noted.
#![expect(unsafe_code, reason = "polls descriptors")]

use coring_uring::{OpId, Ring};
use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// How many are asked about together, at most.
const PLACES: usize = 64;
/// Where devices and reports of the kernel are.
const NOT_POLLED: [&[u8]; 3] = [b"/dev/", b"/proc/", b"/sys/"];

/// What a file can be polled for at any time.
const FILE: libc::c_short = libc::POLLIN | libc::POLLOUT;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Free,
    UnderWay(OpId),
    Asked { a_file: bool },
}

/// The opens for reading of a core that are under way.
#[derive(Debug)]
pub(crate) struct Openings {
    /// How many were noted so far; the next one's place.
    noted: Cell<usize>,
    places: [Cell<Place>; PLACES],
}

impl Default for Openings {
    fn default() -> Self {
        Self {
            noted: Cell::new(0),
            places: [const { Cell::new(Place::Free) }; PLACES],
        }
    }
}

/// One that is noted. Its place is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Opening<'a> {
    openings: &'a Openings,
    number: usize,
}

impl Openings {
    /// Notes an open that has just been submitted, if there is a place for it.
    #[inline]
    pub(super) fn note(&self, op: OpId, path: &[u8]) -> Option<Opening<'_>> {
        let number = self.noted.get();
        let place = self.place(number);
        if place.get() != Place::Free || NOT_POLLED.iter().any(|it| path.starts_with(it)) {
            return None;
        }
        place.set(Place::UnderWay(op));
        self.noted.set(number.wrapping_add(1));
        Some(Opening {
            openings: self,
            number,
        })
    }

    fn place(&self, number: usize) -> &Cell<Place> {
        &self.places[number % PLACES]
    }
}

impl Opening<'_> {
    /// Whether what the open has brought is known to be no FIFO. If no other open is noted behind it, it is not known.
    #[inline]
    pub(super) fn is_a_file(&self, fd: &OwnedFd, ring: &RefCell<Ring>) -> bool {
        match self.openings.place(self.number).get() {
            Place::Asked { a_file } => a_file,
            _ if self.behind() == 0 => false,
            _ => self.ask(fd.as_raw_fd(), &ring.borrow()),
        }
    }

    /// How many were noted later.
    fn behind(&self) -> usize {
        self.openings
            .noted
            .get()
            .wrapping_sub(self.number.wrapping_add(1))
    }

    /// Asks for this one and those behind it that are done. Nobody, if there are none.
    #[inline(never)]
    fn ask(&self, fd: RawFd, ring: &Ring) -> bool {
        let question = |fd| libc::pollfd {
            fd,
            events: FILE,
            revents: 0,
        };
        let mut questions = [question(fd); PLACES];
        let mut asked = [self.number; PLACES];
        let mut count = 1;
        for ahead in 1..=self.behind().min(PLACES - 1) {
            let number = self.number.wrapping_add(ahead);
            let Place::UnderWay(op) = self.openings.place(number).get() else {
                continue;
            };
            let Some(completion) = ring.look(op) else {
                break;
            };
            if completion.result >= 0 {
                questions[count] = question(completion.result);
                asked[count] = number;
                count += 1;
            }
        }
        if count == 1 {
            return false;
        }
        // SAFETY: so many entries, which live in this frame. It does not wait.
        let answered = unsafe { libc::poll(questions.as_mut_ptr(), count as libc::nfds_t, 0) };
        for (question, number) in questions.iter().zip(asked).take(count) {
            let a_file = answered > 0 && question.revents & FILE == FILE;
            self.openings.place(number).set(Place::Asked { a_file });
        }
        self.openings.place(self.number).get() == Place::Asked { a_file: true }
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.openings.place(self.number).set(Place::Free);
    }
}
