//! Operations with many completions: what waits between the kernel and an owner who is not there yet.
//!
//! ```text
//!    CQE ---> file ---> [ completion | completion | completion ] ---> next ---> owner
//!               |         a list in the stream's order
//!               +--> the watcher's token, when there is one: the list was empty and it asked to be told
//!
//!    state        CQE, F_MORE       CQE, the last      next                   abandon
//!    Running      queued            queued; Ended      the first, or None     discard all; Abandoned
//!    Ended        -                 -                  the first; gone with   discard all; gone
//!                                                      the last one
//!    Abandoned    discarded         discarded; gone    -                      -
//! ```
//!
//! A [slot](crate::Slots) of a multishot operation holds the index of a stream here. All streams share one store of
//! list nodes, 12 bytes each, which are used again at once: in the steady state nothing is allocated.
//!
//! # Bounds
//!
//! The kernel completes as fast as peers send. When `window` completions of a stream wait, the ring asks the kernel
//! to end the operation: the owner finds those that came, in order, then the last one (`ECANCELED`), and submits
//! again when it has caught up, while the rest waits in the socket's own queue. What was under way when the window
//! filled still comes; the kernel posts no completion of a multishot operation beyond the completion queue, so that
//! is at most one queue full.
//!
//! # Nothing leaks
//!
//! A completion may carry a thing: a descriptor, a buffer. What nobody takes is given back by what [`Carries`] says,
//! whenever it comes.
//!
//! Invariants: a watcher is registered only while the list is empty; a token is handed out once for each
//! registration; nodes in lists plus free nodes are all nodes.
//!
//! Not here: generations, and which CQE belongs to which stream (`slot.rs`); any system call.

use std::any::Any;
use std::fmt;
use std::os::fd::RawFd;
use std::rc::Rc;

use crate::{BufferRing, Completion, PooledBuffer, Token};

/// End of a list.
const NONE: u32 = u32::MAX;
/// The smallest window. With it, the completion that fills a window is never one that wakes a watcher.
const SMALLEST_WINDOW: u32 = 2;

/// What comes with the completions of a multishot operation, and what becomes of it when nobody takes it.
#[derive(Clone)]
#[non_exhaustive]
pub enum Carries {
    /// Nothing but the result, as from a poll.
    Nothing,
    /// A non-negative result is a new descriptor, as from an accept: closed.
    Descriptors,
    /// A buffer of this ring: put back.
    Buffers(BufferRing),
    /// Nothing, but the operation reads or writes this memory: it is kept until the last completion, as for a
    /// zero-copy send.
    Lent(Rc<dyn Any>),
}

impl fmt::Debug for Carries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Carries::Nothing => "Nothing",
            Carries::Descriptors => "Descriptors",
            Carries::Buffers(_) => "Buffers",
            Carries::Lent(_) => "Lent",
        })
    }
}

/// One completion of a multishot operation, with what it carries.
#[derive(Debug)]
pub struct Event {
    /// Result and flags. A non-negative result of an operation with [`Carries::Descriptors`] is a descriptor that is
    /// now the caller's to close.
    pub completion: Completion,
    /// The buffer of an operation with [`Carries::Buffers`], with what was received.
    pub buffer: Option<PooledBuffer>,
}

impl Event {
    /// Whether more completions follow. After one without, the operation is over, and may be submitted again.
    #[inline]
    #[must_use]
    pub fn more(&self) -> bool {
        self.completion.more()
    }
}

/// What is left to do about a completion that was filed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filed {
    /// Wake the watcher.
    Wake(Token),
    /// Nobody is to be told.
    Quiet,
    /// The window is full: the kernel should end the operation.
    Crowded,
    /// Of an abandoned operation, and came with this descriptor.
    Close(RawFd),
}

#[derive(Clone, Copy, Debug)]
struct Node {
    completion: Completion,
    next: u32,
}

#[derive(Debug)]
struct Stream {
    carries: Carries,
    watcher: Option<Token>,
    /// First and last node, when `queued` is not zero. The next free stream, when the stream is.
    head: u32,
    tail: u32,
    queued: u32,
    abandoned: bool,
}

/// The streams of one ring. The head of `multishot.rs` has the states.
#[derive(Debug)]
pub(crate) struct Multishots {
    streams: Vec<Stream>,
    free_stream: u32,
    nodes: Vec<Node>,
    free_node: u32,
    window: u32,
}

impl Multishots {
    /// No streams; of each at most about `window` completions will wait.
    pub(crate) fn with_window(window: u32) -> Multishots {
        Multishots {
            streams: Vec::new(),
            free_stream: NONE,
            nodes: Vec::new(),
            free_node: NONE,
            window: window.max(SMALLEST_WINDOW),
        }
    }

    /// A new stream; its index.
    pub(crate) fn open(&mut self, carries: Carries) -> u32 {
        let stream = Stream {
            carries,
            watcher: None,
            head: NONE,
            tail: NONE,
            queued: 0,
            abandoned: false,
        };
        let index = self.free_stream;
        if let Some(free) = self.streams.get_mut(index as usize) {
            self.free_stream = std::mem::replace(free, stream).head;
            return index;
        }
        self.streams.push(stream);
        u32::try_from(self.streams.len() - 1).expect("fewer streams than slots")
    }

    /// Frees a stream with an empty list, and what it holds on to.
    pub(crate) fn close(&mut self, index: u32) {
        let stream = &mut self.streams[index as usize];
        debug_assert!(stream.queued == 0, "what is queued was given out or back");
        stream.carries = Carries::Nothing;
        stream.head = std::mem::replace(&mut self.free_stream, index);
    }

    /// Appends a completion to its stream, or gives back what it carries if the stream is abandoned.
    #[inline]
    pub(crate) fn file(&mut self, index: u32, completion: Completion) -> Filed {
        let stream = &mut self.streams[index as usize];
        if let Carries::Buffers(buffers) = &stream.carries {
            buffers.file(completion);
        }
        if stream.abandoned {
            return match stream.carries.give_back(completion) {
                Some(fd) => Filed::Close(fd),
                None => Filed::Quiet,
            };
        }
        let node = Node {
            completion,
            next: NONE,
        };
        let place = self.free_node;
        let place = if let Some(free) = self.nodes.get_mut(place as usize) {
            self.free_node = std::mem::replace(free, node).next;
            place
        } else {
            self.nodes.push(node);
            u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 completions wait")
        };
        if stream.queued == 0 {
            stream.head = place;
        } else {
            self.nodes[stream.tail as usize].next = place;
        }
        stream.tail = place;
        stream.queued += 1;
        match stream.watcher.take() {
            Some(token) => Filed::Wake(token),
            None if stream.queued == self.window && completion.more() => Filed::Crowded,
            None => Filed::Quiet,
        }
    }

    /// Takes the first completion of a stream.
    #[inline]
    pub(crate) fn next(&mut self, index: u32) -> Option<Event> {
        let completion = self.pop(index)?;
        let buffer = match &self.streams[index as usize].carries {
            Carries::Buffers(buffers) => buffers.guard_of(completion),
            _ => None,
        };
        Some(Event { completion, buffer })
    }

    #[inline]
    fn pop(&mut self, index: u32) -> Option<Completion> {
        let stream = &mut self.streams[index as usize];
        stream.queued = stream.queued.checked_sub(1)?;
        let place = stream.head;
        let node = &mut self.nodes[place as usize];
        stream.head = std::mem::replace(&mut node.next, self.free_node);
        self.free_node = place;
        Some(node.completion)
    }

    /// Whether nothing of a stream waits.
    #[inline]
    pub(crate) fn is_empty(&self, index: u32) -> bool {
        self.streams[index as usize].queued == 0
    }

    /// The next completion of a stream that has none wakes `watcher`, if there is one; an earlier watcher is forgotten.
    #[inline]
    pub(crate) fn watch(&mut self, index: u32, watcher: Option<Token>) {
        debug_assert!(
            watcher.is_none() || self.is_empty(index),
            "who watches would sleep over something"
        );
        self.streams[index as usize].watcher = watcher;
    }

    /// Nobody wants the stream any more: gives back what waits, and from now on what comes. Descriptors go to `close`.
    pub(crate) fn abandon(&mut self, index: u32, close: &mut impl FnMut(RawFd)) {
        self.watch(index, None);
        self.streams[index as usize].abandoned = true;
        while let Some(completion) = self.pop(index) {
            if let Some(fd) = self.streams[index as usize].carries.give_back(completion) {
                close(fd);
            }
        }
    }

    /// Streams and nodes ever made.
    #[cfg(test)]
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.streams.len(), self.nodes.len())
    }

    /// Streams ever open at the same time, for what has to be done to all of them.
    pub(crate) fn indices(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.streams.len()).expect("fewer streams than slots")
    }
}

impl Carries {
    /// Gives back what a completion carries, or names the descriptor to close.
    fn give_back(&self, completion: Completion) -> Option<RawFd> {
        match self {
            Carries::Descriptors if completion.result >= 0 => return Some(completion.result),
            Carries::Buffers(buffers) => buffers.discard(completion),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests;
