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
//! A slot of a multishot operation holds the index of a stream here. All streams share one store of
//! list nodes, 16 bytes each, which are used again at once: in the steady state nothing is allocated.
//!
//! # Bounds
//!
//! The kernel completes as fast as peers send. When `window` completions of a stream wait, the ring asks the kernel
//! to end the operation: the owner finds those that came, in order, then the last one (`ECANCELED`), and submits
//! again when it has caught up, while the rest waits in the socket's own queue. What was under way when the window
//! filled still comes; the kernel posts no completion of a multishot operation beyond the completion queue, so that
//! is at most one queue full.
//!
//! A completion that filled several buffers (a bundle) becomes as many completions here, one for each buffer. They may
//! overshoot the window by one bundle.
//!
//! # Nothing leaks
//!
//! A completion may carry a thing: a descriptor, a buffer. What nobody takes is given back by what [`Carries`] says,
//! whenever it comes.
//!
//! Lent memory is another matter: its destructor is anybody's code, which may want the ring. What was kept for an operation
//! and is nobody else's any more is laid aside for the ring's owner, who drops it where that may be done.
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
    /// zero-copy send. If nobody else has it then, [`Ring::take_unlent`](crate::Ring::take_unlent) hands it out.
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
    /// Where in its buffer the bytes begin.
    offset: u32,
    next: u32,
}

/// The list nodes of all streams.
#[derive(Debug)]
struct Nodes {
    nodes: Vec<Node>,
    free: u32,
}

/// First and last node of a list, when `length` is not zero.
#[derive(Clone, Copy, Debug)]
struct Queue {
    head: u32,
    tail: u32,
    length: u32,
}

#[derive(Debug)]
struct Stream {
    carries: Carries,
    watcher: Option<Token>,
    /// What waits. Its head is the next free stream, when the stream is free.
    queue: Queue,
    /// The ring was told that the window is full, and it still is.
    crowded: bool,
    abandoned: bool,
}

/// The streams of one ring. The head of `multishot.rs` has the states.
pub(crate) struct Multishots {
    streams: Vec<Stream>,
    free_stream: u32,
    nodes: Nodes,
    window: u32,
    /// Memory of operations that are over, to be dropped outside of the ring.
    unlent: Vec<Rc<dyn Any>>,
}

impl fmt::Debug for Multishots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multishots")
            .field("streams", &self.streams.len())
            .field("nodes", &self.nodes.nodes.len())
            .field("window", &self.window)
            .field("unlent", &self.unlent.len())
            .finish_non_exhaustive()
    }
}

impl Multishots {
    /// No streams; of each at most about `window` completions will wait.
    pub(crate) fn with_window(window: u32) -> Multishots {
        Multishots {
            streams: Vec::new(),
            free_stream: NONE,
            nodes: Nodes {
                nodes: Vec::new(),
                free: NONE,
            },
            window: window.max(SMALLEST_WINDOW),
            unlent: Vec::new(),
        }
    }

    /// A new stream; its index.
    pub(crate) fn open(&mut self, carries: Carries) -> u32 {
        let stream = Stream {
            carries,
            watcher: None,
            queue: Queue::EMPTY,
            crowded: false,
            abandoned: false,
        };
        let index = self.free_stream;
        if let Some(free) = self.streams.get_mut(index as usize) {
            self.free_stream = std::mem::replace(free, stream).queue.head;
            return index;
        }
        self.streams.push(stream);
        u32::try_from(self.streams.len() - 1).expect("fewer streams than slots")
    }

    /// Frees a stream with an empty list, and what it holds on to.
    pub(crate) fn close(&mut self, index: u32) {
        let stream = &mut self.streams[index as usize];
        debug_assert!(
            stream.queue.length == 0,
            "what is queued was given out or back"
        );
        let carries = std::mem::replace(&mut stream.carries, Carries::Nothing);
        stream.queue.head = std::mem::replace(&mut self.free_stream, index);
        if let Carries::Lent(memory) = carries
            && Rc::strong_count(&memory) == 1
        {
            self.unlent.push(memory);
        }
    }

    /// Appends a completion to its stream, or gives back what it carries if the stream is abandoned.
    #[inline]
    pub(crate) fn file(&mut self, index: u32, completion: Completion) -> Filed {
        let Multishots { streams, nodes, .. } = self;
        let stream = &mut streams[index as usize];
        if stream.abandoned {
            return match stream.carries.file_and_give_back(completion) {
                Some(fd) => Filed::Close(fd),
                None => Filed::Quiet,
            };
        }
        if let Carries::Buffers(buffers) = &stream.carries {
            let queue = &mut stream.queue;
            buffers.file(completion, |piece, offset| nodes.push(queue, piece, offset));
        } else {
            nodes.push(&mut stream.queue, completion, 0);
        }
        let full = stream.queue.length >= self.window && !stream.crowded;
        match stream.watcher.take() {
            Some(token) => Filed::Wake(token),
            None if full && completion.more() => {
                stream.crowded = true;
                Filed::Crowded
            }
            None => Filed::Quiet,
        }
    }

    /// Takes the first completion of a stream.
    #[inline]
    pub(crate) fn next(&mut self, index: u32) -> Option<Event> {
        let (completion, offset) = self.pop(index)?;
        let buffer = match &self.streams[index as usize].carries {
            Carries::Buffers(buffers) => buffers.guard_of(completion, offset),
            _ => None,
        };
        Some(Event { completion, buffer })
    }

    #[inline]
    fn pop(&mut self, index: u32) -> Option<(Completion, u32)> {
        let stream = &mut self.streams[index as usize];
        let popped = self.nodes.pop(&mut stream.queue);
        stream.crowded &= stream.queue.length >= self.window;
        popped
    }

    /// Whether nothing of a stream waits.
    #[inline]
    pub(crate) fn is_empty(&self, index: u32) -> bool {
        self.streams[index as usize].queue.length == 0
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
        while let Some((completion, _)) = self.pop(index) {
            if let Some(fd) = self.streams[index as usize].carries.give_back(completion) {
                close(fd);
            }
        }
    }

    /// What was laid aside.
    #[inline]
    pub(crate) fn take_unlent(&mut self) -> Vec<Rc<dyn Any>> {
        std::mem::take(&mut self.unlent)
    }

    /// Streams and nodes ever made.
    #[cfg(test)]
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.streams.len(), self.nodes.nodes.len())
    }

    /// Streams ever open at the same time, for what has to be done to all of them.
    pub(crate) fn indices(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.streams.len()).expect("fewer streams than slots")
    }
}

impl Queue {
    const EMPTY: Queue = Queue {
        head: NONE,
        tail: NONE,
        length: 0,
    };
}

impl Nodes {
    #[inline]
    fn push(&mut self, queue: &mut Queue, completion: Completion, offset: u32) {
        let node = Node {
            completion,
            offset,
            next: NONE,
        };
        let place = self.free;
        let place = if let Some(free) = self.nodes.get_mut(place as usize) {
            self.free = std::mem::replace(free, node).next;
            place
        } else {
            self.nodes.push(node);
            u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 completions wait")
        };
        if queue.length == 0 {
            queue.head = place;
        } else {
            self.nodes[queue.tail as usize].next = place;
        }
        queue.tail = place;
        queue.length += 1;
    }

    #[inline]
    fn pop(&mut self, queue: &mut Queue) -> Option<(Completion, u32)> {
        queue.length = queue.length.checked_sub(1)?;
        let place = queue.head;
        let node = &mut self.nodes[place as usize];
        queue.head = std::mem::replace(&mut node.next, self.free);
        self.free = place;
        Some((node.completion, node.offset))
    }
}

impl Carries {
    /// Gives back what a completion carries that has just come for nobody, or names the descriptor to close.
    fn file_and_give_back(&self, completion: Completion) -> Option<RawFd> {
        if let Carries::Buffers(buffers) = self {
            buffers.file(completion, |piece, _| buffers.discard(piece));
            return None;
        }
        self.give_back(completion)
    }

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
