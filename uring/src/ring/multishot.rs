//! The ring's side of operations with many completions, and of buffers that the kernel picks.
//!
//! ```text
//!    submit_multishot(sqe, carries) -> OpId        queued; nobody is told anything yet
//!    next(op)                -> Some(event)        the first completion that was not taken
//!    next_or_watch(op, token) -> None              nothing is there; token will be handed out when something is
//!    ... until an event says that no more follow: the operation is over, submit it again if more is wanted
//!
//!    abandon(op)                                   the owner goes away: cancelled, what comes is given back
//! ```
//!
//! Whoever is told is told once, and only if it asked and found nothing: a token is never handed out for a completion
//! that its owner could have had. So a coroutine that has gone on to something else is left in peace, and the
//! operation may have another watcher each time.

use std::any::Any;
use std::os::fd::RawFd;
use std::rc::Rc;

use super::{Ring, too_many};
use crate::multishot::{Carries, Event};
use crate::{
    Backend, BufferError, BufferRing, Feature, OpId, RegisteredBuffers, Sqe, SubmitError, Token,
};

impl<B: Backend> Ring<B> {
    /// Queues an operation with many completions, which wait for [`next`](Ring::next) in the order they came.
    ///
    /// The operation runs until a completion without [`more`](Event::more). It may be any that `carries` fits, also one
    /// that completes once: where a kernel has no multishot version the loop around it is the same.
    ///
    /// # Bounds
    /// When [`multishot_window`](crate::SetupOptions) completions wait, the kernel is asked to end the operation. The
    /// last completion then is `-ECANCELED`, after all the others: take them and submit again.
    ///
    /// # Errors
    /// As [`submit`](Ring::submit).
    ///
    /// # Safety
    /// Everything that `sqe` points at stays valid, and unaliased where the kernel writes, until
    /// [`is_in_flight`](Ring::is_in_flight) says no; memory that `carries` keeps does. `carries` is what the
    /// completions of this operation carry: results are closed as descriptors, flags read as buffers of that ring.
    ///
    /// # Examples
    /// ```
    /// use coring_uring::{Carries, Ring, SetupOptions, Token, Wait, op};
    /// # use std::{io, net::{TcpListener, TcpStream}, num::NonZeroUsize, os::fd::{AsRawFd, FromRawFd}};
    ///
    /// let mut ring = Ring::open(&SetupOptions::default())?;
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let accept = op::net::accept_multishot(listener.as_raw_fd(), libc::SOCK_CLOEXEC);
    /// // SAFETY: an accept points at nothing, and its results are descriptors.
    /// let accept = unsafe { ring.submit_multishot(accept, Carries::Descriptors) }?;
    ///
    /// let clients = [TcpStream::connect(listener.local_addr()?)?, TcpStream::connect(listener.local_addr()?)?];
    /// let mut accepted = Vec::new();
    /// while accepted.len() < clients.len() {
    ///     match ring.next_or_watch(accept, Token::from_number(NonZeroUsize::MIN)) {
    ///         // SAFETY: the kernel has just given us this descriptor.
    ///         Some(event) => accepted.push(unsafe { TcpStream::from_raw_fd(event.completion.into_result()? as i32) }),
    ///         None => _ = ring.turn(Wait::Until(None), &mut |_token| ())?,
    ///     }
    /// }
    /// ring.abandon(accept);
    /// ring.drain(u64::MAX, &mut |_| ())?;
    /// # Ok::<(), io::Error>(())
    /// ```
    ///
    /// # Source
    /// io_uring_multishot(7).
    pub unsafe fn submit_multishot(
        &mut self,
        mut sqe: Sqe,
        carries: Carries,
    ) -> Result<OpId, SubmitError> {
        self.queue_all_receives()?;
        self.ensure_room()?;
        let op = self.slots.insert_multishot(carries).map_err(too_many)?;
        sqe.set_user_data(op.user_data());
        // SAFETY: the caller's promise.
        unsafe { self.push(&sqe) };
        Ok(op)
    }

    /// The first completion of a multishot operation that was not taken yet; `None` when there is none now, and when
    /// the operation is over. No system call.
    #[inline]
    pub fn next(&mut self, op: OpId) -> Option<Event> {
        self.slots.next(op)
    }

    /// As [`next`](Ring::next). With `None`, `token` is handed out once when there is something; an earlier watcher of
    /// the operation is forgotten.
    ///
    /// Whoever goes away before that calls [`unwatch`](Ring::unwatch). Of an operation that is over nothing will come
    /// any more, and no token: its last event said so.
    #[inline]
    pub fn next_or_watch(&mut self, op: OpId, token: Token) -> Option<Event> {
        let event = self.slots.next(op);
        if event.is_none() {
            self.slots.watch(op, Some(token));
        }
        event
    }

    /// Nobody watches the operation any more: a token that was given to [`next_or_watch`](Ring::next_or_watch) and did
    /// not come back will not.
    pub fn unwatch(&mut self, op: OpId) {
        self.slots.watch(op, None);
    }

    /// Ends a multishot operation that nobody wants any more. What its completions carry, those that wait and those
    /// that still come, is given back: descriptors are closed, buffers go back to their ring, lent memory is let go
    /// after the last one. No token is handed out for it.
    ///
    /// The operation counts as in flight until the kernel has ended it. Does nothing for one that is over.
    pub fn abandon(&mut self, op: OpId) {
        self.unwatch(op);
        let backend = &mut self.backend;
        self.slots.abandon(op, |fd| close(backend, fd));
        self.cancel(op);
    }

    /// As [`abandon`](Ring::abandon), for every multishot operation: those of owners who were leaked would never end.
    pub fn abandon_multishots(&mut self) {
        for op in self.slots.multishots() {
            self.abandon(op);
        }
    }

    /// The memory that was lent to operations ([`Carries::Lent`]) which are over, as far as nobody else has it. To be
    /// dropped by the caller, where any destructor may run; the ring itself drops it only with itself.
    #[inline]
    pub fn take_unlent(&mut self) -> Vec<Rc<dyn Any>> {
        self.slots.take_unlent()
    }

    /// Closes the descriptors that came for owners who are gone.
    #[cold]
    pub(super) fn close_leftovers(&mut self) {
        for fd in std::mem::take(&mut self.own.closes) {
            close(&mut self.backend, fd);
        }
    }

    /// Gives back what waits for owners who never came.
    pub(super) fn abandon_all(&mut self) {
        let backend = &mut self.backend;
        self.slots.abandon_all(|fd| close(backend, fd));
    }

    /// Makes a pool of `count` buffers (rounded up to a power of two) of `buffer_bytes` each, from which the kernel
    /// takes one whenever something arrives for [`op::net::recv_multishot`](crate::op::net::recv_multishot) or
    /// [`op::net::recv_pooled`](crate::op::net::recv_pooled). It stays with the ring; a ring has at most 65,536.
    ///
    /// # Errors
    /// [`BufferError`]; [`BufferRing::unprovided`] works on every kernel.
    ///
    /// # Source
    /// `IORING_REGISTER_PBUF_RING`, 5.19 ([`Feature::BufferRing`]).
    pub fn provide_buffers(
        &mut self,
        count: u16,
        buffer_bytes: usize,
    ) -> Result<BufferRing, BufferError> {
        self.provide(count, buffer_bytes, Feature::BufferRing)
    }

    /// As [`provide_buffers`](Ring::provide_buffers), but a completion uses up only as much of a buffer as it fills: what
    /// comes next goes behind it, whichever operation it comes for. A buffer goes back into the ring when it is full and all
    /// that was received into it was dropped. For multishot operations only: [`BufferRing::claim`] refuses.
    ///
    /// # Errors
    /// [`BufferError`].
    ///
    /// # Source
    /// `IOU_PBUF_RING_INC`, 6.12, used from 6.15 on ([`Feature::IncrementalBuffers`]).
    pub fn provide_incremental_buffers(
        &mut self,
        count: u16,
        buffer_bytes: usize,
    ) -> Result<BufferRing, BufferError> {
        self.provide(count, buffer_bytes, Feature::IncrementalBuffers)
    }

    fn provide(
        &mut self,
        count: u16,
        buffer_bytes: usize,
        kind: Feature,
    ) -> Result<BufferRing, BufferError> {
        for needed in [Feature::BufferRing, kind] {
            if !self.capabilities().has(needed) {
                return Err(BufferError::Unsupported(needed));
            }
        }
        let incremental = kind == Feature::IncrementalBuffers;
        let Ok(group) = u16::try_from(self.buffers.len()) else {
            let problem = "a ring has at most 65536 pools of buffers";
            return Err(BufferError::Size { problem });
        };
        let buffers = BufferRing::unprovided(count, buffer_bytes)?;
        let (address, entries) = (buffers.entries_address(), buffers.stats().count);
        // SAFETY: `self.buffers` keeps the mapping for as long as the backend, and drops it later.
        let provided = unsafe {
            self.backend
                .provide_buffers(address, entries, group, incremental)
        };
        provided.map_err(|error| BufferError::refused(error, buffers.pinned_bytes()))?;
        buffers.set_provided(group);
        if incremental {
            buffers.set_incremental();
        }
        self.buffers.push(buffers.clone());
        Ok(buffers)
    }

    /// Makes `count` buffers of `buffer_bytes` each (rounded up to whole pages), pins them, and tells the kernel about
    /// them, for reads and writes that need no pinning each time. Once for a ring.
    ///
    /// # Errors
    /// [`BufferError`]: above all the limit on locked memory, which all of it is charged to.
    /// [`RegisteredBuffers::unregistered`] works within any limit.
    ///
    /// # Source
    /// `IORING_REGISTER_BUFFERS`, 5.1 ([`Feature::RegisteredBuffers`]).
    pub fn register_buffers(
        &mut self,
        count: u16,
        buffer_bytes: usize,
    ) -> Result<RegisteredBuffers, BufferError> {
        if !self.capabilities().has(Feature::RegisteredBuffers) {
            return Err(BufferError::Unsupported(Feature::RegisteredBuffers));
        }
        let buffers = RegisteredBuffers::unregistered(count, buffer_bytes)?;
        // SAFETY: `self.registered` keeps the mapping for as long as the backend, and drops it later.
        let registered = unsafe { self.backend.register_buffers(&buffers.vectors()) };
        registered.map_err(|error| BufferError::refused(error, buffers.bytes()))?;
        buffers.set_registered();
        self.registered = Some(buffers.clone());
        Ok(buffers)
    }
}

/// Closes a descriptor that a completion carried and nobody took.
fn close(backend: &mut impl Backend, fd: RawFd) {
    // SAFETY: it came for an operation whose submitter said that its results are descriptors, and was given to nobody.
    unsafe { backend.close(fd) };
}
