//! A kernel for tests: the same 64-byte SQEs, but one seed decides order, time and faults.
//!
//! ```text
//!    Ring<SimRing>   Ring<SimRing>        any number of rings on one thread
//!          \            /
//!           SimKernel                     one world: descriptors, streams, files, timers, a clock, a seed
//! ```
//!
//! A ring over a [`SimRing`] is the ring that programs use; only the backend differs, and what crosses it is the
//! image the kernel would read. So the lowering of operations, slots, cancels and wake-ups are all tested by it.
//! Equal seeds give equal runs: [`SimKernel::trace`] is a hash of everything that happened, to check that by.
//!
//! # Time
//!
//! The clock is virtual. A ring that sleeps moves it to the next event, so a test of a minute takes no time. With
//! several rings on one thread nobody may sleep: switch that off with [`SimKernel::step_by_hand`], let whoever
//! drives the rings choose who goes next, and move the clock with [`SimKernel::advance_to`] when all are idle.
//!
//! # What it knows
//!
//! Streams (pipes, Unix and TCP sockets with FIN, reset and back-pressure), listeners, eventfds, files with what a
//! crash leaves of them, poll, timeouts, cancel in all its outcomes, messages between rings, multishot accept and
//! receive, provided and registered buffers, the two answers of a zero-copy send. [`Faults`] lists what
//! can go wrong. Buffers are poisoned while the kernel has them, and checked. Its validity rests on a test that
//! runs random programs on it and on the running kernel and compares.
//!
//! Not simulated: multishot polls and timeouts, datagrams, directories, links between SQEs. An opcode
//! that is not simulated fails with `EINVAL`, as on a kernel that does not have it.
//!
//! It is always compiled, not hidden behind a feature: it costs a user nothing but a second of compilation, is
//! dropped by the linker, and whoever builds on this crate can test on it without a second configuration of it.

mod execute;
mod fault;
mod file;
mod memory;
mod names;
mod provided;
mod ring;
mod stream;
mod transfer;
mod world;

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

pub use fault::Faults;
#[cfg(test)]
pub(crate) use provided::Provided;
pub use ring::SimRing;

use crate::{Ring, SetupOptions};
use file::OpenFile;
use stream::{Endpoint, Kind};
use world::{Listener, Object, World};

/// A simulated machine. Clones are the same machine.
///
/// # Examples
/// ```
/// use coring_uring::sim::{Faults, SimKernel};
/// use coring_uring::{SetupOptions, Token, Wait, op};
/// # use std::num::NonZeroUsize;
///
/// let kernel = SimKernel::new(7, Faults::NONE);
/// let mut ring = kernel.ring(&SetupOptions::default());
/// let (reader, writer) = kernel.pipe();
///
/// let mut buffer = [0u8; 4];
/// let token = |number| Token::from_number(NonZeroUsize::new(number).unwrap());
/// let read = op::fs::read(reader, buffer.as_mut_ptr(), buffer.len(), op::fs::AT_POSITION);
/// let write = op::fs::write(writer, b"ping".as_ptr(), 4, op::fs::AT_POSITION);
/// // SAFETY: both buffers stay where they are until both tokens came back.
/// let (read, write) = unsafe { (ring.submit(read, token(1))?, ring.submit(write, token(2))?) };
///
/// let mut woken = 0;
/// while woken < 2 {
///     woken += ring.turn(Wait::Until(None), &mut |_| ())?;
/// }
/// assert_eq!(ring.take(read).unwrap().result, 4);
/// assert_eq!(ring.take(write).unwrap().result, 4);
/// assert_eq!(&buffer, b"ping");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SimKernel {
    world: Rc<RefCell<World>>,
}

impl SimKernel {
    /// A machine with nothing on it. `seed` decides everything that is left to chance.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> SimKernel {
        SimKernel {
            world: Rc::new(RefCell::new(World::new(seed, faults))),
        }
    }

    fn world(&self) -> RefMut<'_, World> {
        self.world.borrow_mut()
    }

    /// A ring on this machine. Of the options the sizes and features count.
    #[must_use]
    pub fn ring(&self, options: &SetupOptions) -> Ring<SimRing> {
        Ring::with_backend(SimRing::new(self.clone(), options), options)
    }

    /// From now on other things go wrong: [`Faults::NONE`] to see whether everything recovers.
    pub fn set_faults(&self, faults: Faults) {
        self.world().faults = faults;
    }

    /// From now on a ring that would sleep returns at once, and time passes by [`advance_to`](SimKernel::advance_to).
    pub fn step_by_hand(&self) {
        self.world().steps_itself = false;
    }

    /// The virtual clock.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.world().clock_ns
    }

    /// When the next thing happens by itself: a timer, or a completion that was held back. `None` if nothing will.
    #[must_use]
    pub fn next_event_ns(&self) -> Option<u64> {
        self.world().next_event_ns()
    }

    /// Moves the clock forward; it does not go back.
    pub fn advance_to(&self, time_ns: u64) {
        let mut world = self.world();
        world.clock_ns = world.clock_ns.max(time_ns);
        world.settle();
    }

    /// A hash of every submission and completion so far, with its time.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.world().trace()
    }

    /// Open descriptors, to see that none is left.
    #[must_use]
    pub fn open_descriptors(&self) -> usize {
        self.world().descriptors.len()
    }

    /// At most `limit` descriptors from now on, as `RLIMIT_NOFILE` does it.
    pub fn set_descriptor_limit(&self, limit: usize) {
        self.world().descriptor_limit = limit;
    }

    /// The bytes that streams made from now on hold in each direction before a send waits.
    pub fn set_stream_capacity(&self, bytes: usize) {
        self.world().channel_capacity = bytes.max(1);
    }

    /// pipe(2): the reading and the writing end.
    #[must_use]
    pub fn pipe(&self) -> (RawFd, RawFd) {
        let capacity = self.world().channel_capacity;
        let (reader, writer) = Endpoint::pipe(capacity);
        (
            self.install(Object::Stream(reader)),
            self.install(Object::Stream(writer)),
        )
    }

    /// socketpair(2) of Unix stream sockets.
    #[must_use]
    pub fn socketpair(&self) -> (RawFd, RawFd) {
        self.pair(Kind::Unix)
    }

    /// Both ends of an established TCP connection.
    #[must_use]
    pub fn connection(&self) -> (RawFd, RawFd) {
        self.pair(Kind::Tcp)
    }

    fn pair(&self, kind: Kind) -> (RawFd, RawFd) {
        let capacity = self.world().channel_capacity;
        let (one, other) = Endpoint::pair(kind, capacity);
        (
            self.install(Object::Stream(one)),
            self.install(Object::Stream(other)),
        )
    }

    /// A socket to connect.
    #[must_use]
    pub fn socket(&self) -> RawFd {
        self.install(Object::Socket)
    }

    /// eventfd(2), with a counter of zero.
    #[must_use]
    pub fn eventfd(&self) -> RawFd {
        self.install(Object::Eventfd(0))
    }

    /// A listening TCP socket. A connect finds it if it gives exactly these bytes as its address.
    ///
    /// # Errors
    /// `AddrInUse`.
    pub fn listen(&self, address: &[u8], backlog: usize) -> io::Result<RawFd> {
        if self
            .world()
            .listeners
            .get(address)
            .is_some_and(|listener| listener.strong_count() != 0)
        {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        let fd = self.install(Object::Listener(Listener {
            backlog,
            waiting: VecDeque::new(),
            shut_down: false,
        }));
        let mut world = self.world();
        let handle = Rc::downgrade(&world.descriptors[&fd]);
        world.listeners.insert(address.to_vec(), handle);
        Ok(fd)
    }

    /// Opens a file for reading and writing, making it if need be.
    #[must_use]
    pub fn open(&self, path: &str) -> RawFd {
        let file = Rc::clone(
            self.world()
                .files
                .entry(path.as_bytes().to_vec())
                .or_default(),
        );
        self.install(Object::File(OpenFile {
            file,
            position: 0,
            append: false,
            readable: true,
            writable: true,
        }))
    }

    /// What is in a file, if there is one of that name.
    #[must_use]
    pub fn contents(&self, path: &str) -> Option<Vec<u8>> {
        let world = self.world();
        let file = world.files.get(path.as_bytes())?.borrow();
        Some(file.read(0, file.length()))
    }

    /// The machine loses power: files keep what was made durable, and of the rest what chance leaves.
    pub fn crash_files(&self) {
        let mut world = self.world();
        let files: Vec<_> = world.files.values().cloned().collect();
        for file in files {
            file.borrow_mut().crash(&mut world.chance);
        }
    }

    /// close(2).
    ///
    /// # Errors
    /// `EBADF`.
    pub fn close(&self, fd: RawFd) -> io::Result<()> {
        self.world().close(fd).map_err(io::Error::from_raw_os_error)
    }

    /// dup(2).
    ///
    /// # Errors
    /// `EBADF`.
    pub fn duplicate(&self, fd: RawFd) -> io::Result<RawFd> {
        let mut world = self.world();
        let handle = world.descriptors.get(&fd).cloned();
        let handle = handle.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
        let copy = world.free_descriptor();
        world.descriptors.insert(copy, handle);
        Ok(copy)
    }

    /// Sets up the scene of a test: no limit or bad luck applies.
    fn install(&self, object: Object) -> RawFd {
        let mut world = self.world();
        let (faults, limit) = (world.faults, world.descriptor_limit);
        (world.faults, world.descriptor_limit) = (Faults::NONE, usize::MAX);
        let fd = world.install(object).expect("nothing is in the way");
        (world.faults, world.descriptor_limit) = (faults, limit);
        fd
    }
}

#[cfg(test)]
mod tests;
