//! Byte streams: pipes, Unix sockets, TCP connections.
//!
//! ```text
//!    Endpoint a                                        Endpoint b
//!      send  -> tx: Channel [ bytes, at most capacity ] rx -> recv
//!      recv  <- rx: Channel [                         ] tx <- send
//! ```
//!
//! A channel is one direction. Ends are closed by dropping: the last descriptor and the last operation in flight
//! hold the file, as in the kernel, so closing a descriptor under a pending read changes nothing.
//!
//! What Linux does, and this too:
//! * Bytes that arrived are read before an end or an error is reported. An error is reported once, then the end.
//! * Closing with unread bytes resets the peer (`ECONNRESET`), closing without is an end (0).
//! * Sending to a closed Unix socket or pipe is `EPIPE`. The first send to a closed TCP peer succeeds, since nobody
//!   knows yet; the answer to it is a reset, after which it is `EPIPE`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// One direction of a stream.
#[derive(Debug)]
pub(super) struct Channel {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// No more bytes will come: the writer closed or shut down.
    ended: bool,
    /// The reader is gone: bytes sent are lost.
    unread: bool,
    /// Reported once to the reader, after the bytes.
    error: Option<i32>,
}

pub(super) type Shared = Rc<RefCell<Channel>>;

impl Channel {
    pub(super) fn new(capacity: usize) -> Shared {
        Rc::new(RefCell::new(Channel {
            bytes: VecDeque::new(),
            capacity,
            ended: false,
            unread: false,
            error: None,
        }))
    }
}

/// What a transfer came to.
#[derive(Debug)]
pub(super) enum Transfer<T> {
    Done(T),
    /// Nothing can be moved now.
    Blocked,
    /// A positive errno.
    Failed(i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pipe,
    Unix,
    Tcp,
}

/// One end of a stream. A pipe's ends have one channel each.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) kind: Kind,
    rx: Option<Shared>,
    tx: Option<Shared>,
    /// A TCP socket that was shut down for reading: an end where it would wait.
    reads_no_more: bool,
    /// What `accept` tells about the peer.
    pub(super) peer_address: Vec<u8>,
}

impl Endpoint {
    /// Both ends of a connection.
    pub(super) fn pair(kind: Kind, capacity: usize) -> (Endpoint, Endpoint) {
        let (there, back) = (Channel::new(capacity), Channel::new(capacity));
        let end = |rx: &Shared, tx: &Shared| Endpoint {
            kind,
            rx: Some(Rc::clone(rx)),
            tx: Some(Rc::clone(tx)),
            reads_no_more: false,
            peer_address: Vec::new(),
        };
        (end(&back, &there), end(&there, &back))
    }

    /// The reading and the writing end of a pipe.
    pub(super) fn pipe(capacity: usize) -> (Endpoint, Endpoint) {
        let channel = Channel::new(capacity);
        let end = |rx, tx| Endpoint {
            kind: Kind::Pipe,
            rx,
            tx,
            reads_no_more: false,
            peer_address: Vec::new(),
        };
        (
            end(Some(Rc::clone(&channel)), None),
            end(None, Some(channel)),
        )
    }

    /// Takes up to `most` bytes, or looks at them.
    pub(super) fn receive(&self, most: usize, peek: bool) -> Transfer<Vec<u8>> {
        let Some(rx) = &self.rx else {
            return Transfer::Failed(libc::EBADF);
        };
        let mut rx = rx.borrow_mut();
        let count = most.min(rx.bytes.len());
        if count > 0 {
            let bytes = rx.bytes.iter().take(count).copied().collect();
            if !peek {
                rx.bytes.drain(..count);
            }
            return Transfer::Done(bytes);
        }
        if let Some(error) = rx.error.take() {
            return Transfer::Failed(error);
        }
        if rx.ended || self.reads_no_more || most == 0 {
            return Transfer::Done(Vec::new());
        }
        Transfer::Blocked
    }

    /// Appends as many of `bytes` as fit.
    pub(super) fn send(&self, bytes: &[u8]) -> Transfer<usize> {
        let Some(tx) = &self.tx else {
            return Transfer::Failed(libc::EBADF);
        };
        if self.kind == Kind::Tcp
            && let Some(rx) = &self.rx
            && let Some(error) = rx.borrow_mut().error.take()
        {
            return Transfer::Failed(error);
        }
        let mut tx = tx.borrow_mut();
        if tx.ended {
            return Transfer::Failed(libc::EPIPE);
        }
        if tx.unread {
            if self.kind != Kind::Tcp {
                return Transfer::Failed(libc::EPIPE);
            }
            // The peer's host answers these bytes with a reset. We had its FIN, which makes the error EPIPE.
            tx.ended = true;
            if let Some(rx) = &self.rx {
                rx.borrow_mut().error = Some(libc::EPIPE);
            }
            return Transfer::Done(bytes.len());
        }
        let count = bytes.len().min(tx.capacity - tx.bytes.len());
        if count == 0 && !bytes.is_empty() {
            return Transfer::Blocked;
        }
        tx.bytes.extend(&bytes[..count]);
        Transfer::Done(count)
    }

    /// shutdown(2). Of the end of reading a Unix peer learns, a TCP peer does not.
    pub(super) fn shutdown(&mut self, how: i32) {
        if how != libc::SHUT_WR && self.kind == Kind::Tcp {
            self.reads_no_more = true;
        } else if how != libc::SHUT_WR
            && let Some(rx) = &self.rx
        {
            rx.borrow_mut().ended = true;
        }
        if how != libc::SHUT_RD
            && let Some(tx) = &self.tx
        {
            tx.borrow_mut().ended = true;
        }
    }

    /// The network resets the connection: both sides learn it, what was under way is lost.
    pub(super) fn reset(&self) {
        for channel in [&self.rx, &self.tx].into_iter().flatten() {
            let mut channel = channel.borrow_mut();
            channel.bytes.clear();
            channel.ended = true;
            channel.error = Some(libc::ECONNRESET);
        }
    }

    /// What poll(2) would say.
    pub(super) fn readiness(&self) -> u32 {
        let mut ready = 0;
        if let Some(rx) = &self.rx {
            let rx = rx.borrow();
            if !rx.bytes.is_empty() || rx.ended || rx.error.is_some() {
                ready |= libc::POLLIN;
            }
            if rx.error.is_some() {
                ready |= libc::POLLERR;
            }
            if rx.ended && self.kind != Kind::Pipe {
                ready |= libc::POLLRDHUP;
            }
            if rx.ended
                && self
                    .tx
                    .as_ref()
                    .is_none_or(|tx| tx.borrow().ended || tx.borrow().unread)
            {
                ready |= libc::POLLHUP;
            }
        }
        if let Some(tx) = &self.tx {
            let tx = tx.borrow();
            if tx.bytes.len() < tx.capacity || tx.ended || tx.unread {
                ready |= libc::POLLOUT;
            }
            if self.kind == Kind::Pipe && tx.unread {
                ready |= libc::POLLERR;
            }
        }
        u32::from(ready.cast_unsigned())
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let lost = self.rx.as_ref().is_some_and(|rx| {
            let mut rx = rx.borrow_mut();
            rx.unread = true;
            !rx.bytes.is_empty()
        });
        if let Some(tx) = &self.tx {
            let mut tx = tx.borrow_mut();
            tx.ended = true;
            if lost {
                tx.error = Some(libc::ECONNRESET);
            }
        }
    }
}
