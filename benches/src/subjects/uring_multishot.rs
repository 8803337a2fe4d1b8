//! A limit of `net`: a hand-written echo loop over io_uring with multishot receive and provided buffers.
//!
//! ```text
//! accept (multishot) -> receive (multishot) -+-> buffer from the pool, sent back, returned to the pool
//!                                            +-> ... until the kernel ends it: armed again
//! ```
//!
//! One submission a connection for all it receives, and an idle connection holds no buffer. The pool is small on
//! purpose: it is used in turn, and a pool larger than the cache makes every receive a cache miss. When it is empty a
//! receive ends with ENOBUFS and is armed again; the sends under way give their buffers back by then.
#![expect(unsafe_code, reason = "submitting to a ring is unsafe")]

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{cqueue, opcode, types};

use super::uring::close;
use crate::machine;
use crate::ring::Ring;
use crate::subject::{Job, Role, Skip, Subject, Work};
use crate::sys;

/// The subject.
#[derive(Debug)]
pub(crate) struct UringMultishot;

impl Subject for UringMultishot {
    fn name(&self) -> &'static str {
        "raw-uring-multishot"
    }

    fn role(&self) -> Role {
        Role::Limit
    }

    fn version(&self) -> String {
        machine::kernel()
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        match job.work {
            Work::Echo => match serve(job)? {},
            _ => job.not_offered(),
        }
    }
}

/// `user_data`: the operation in bits 48 and up, the buffer in bits 32 to 47, the descriptor below.
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;

struct Echo {
    ring: Ring,
    listener: TcpListener,
    pool: Pool,
}

fn serve(job: &Job) -> io::Result<Infallible> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    job.listening(listener.local_addr()?);
    let ring = Ring::new()?;
    let pool = Pool::register(&ring)?;
    let mut echo = Echo {
        ring,
        listener,
        pool,
    };
    echo.accept()?;
    let mut completions = Vec::new();
    loop {
        echo.ring.turn(&mut completions)?;
        for completion in completions.drain(..) {
            echo.complete(&completion)?;
        }
    }
}

impl Echo {
    fn complete(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let (operation, buffer, fd) = split(completion.user_data());
        let (result, flags) = (completion.result(), completion.flags());
        match operation {
            ACCEPT => self.accepted(result, flags),
            RECEIVE => self.received(fd, result, flags),
            _ => {
                // A send that failed is seen by the receive as well, which closes.
                self.pool.give_back(buffer);
                Ok(())
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let listener = types::Fd(self.listener.as_raw_fd());
        let entry = opcode::AcceptMulti::new(listener).build();
        // SAFETY: a multishot accept without an address points to no memory.
        unsafe { self.ring.push(&entry.user_data(join(ACCEPT, 0, 0))) }
    }

    fn accepted(&mut self, fd: RawFd, flags: u32) -> io::Result<()> {
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(-fd));
        }
        if !cqueue::more(flags) {
            self.accept()?;
        }
        self.receive(fd)
    }

    fn receive(&mut self, fd: RawFd) -> io::Result<()> {
        let entry = opcode::RecvMulti::new(types::Fd(fd), POOL_GROUP).build();
        // SAFETY: the entry points to no memory; the pool it receives into is never freed.
        unsafe { self.ring.push(&entry.user_data(join(RECEIVE, 0, fd))) }
    }

    fn received(&mut self, fd: RawFd, result: i32, flags: u32) -> io::Result<()> {
        if let Some(buffer) = cqueue::buffer_select(flags) {
            match u32::try_from(result) {
                Ok(length) if length > 0 => self.send(fd, buffer, length)?,
                _ => self.pool.give_back(buffer),
            }
        }
        match result {
            _ if cqueue::more(flags) => Ok(()),
            ..=0 if result != -libc::ENOBUFS => {
                close(fd);
                Ok(())
            }
            _ => self.receive(fd),
        }
    }

    fn send(&mut self, fd: RawFd, buffer: u16, length: u32) -> io::Result<()> {
        let address = self.pool.address(buffer);
        // MSG_WAITALL has the kernel go on after a short send.
        let entry = opcode::Send::new(types::Fd(fd), address, length)
            .flags(libc::MSG_WAITALL)
            .build();
        // SAFETY: the pool is never freed, and this buffer is ours until its send gives it back.
        unsafe { self.ring.push(&entry.user_data(join(SEND, buffer, fd))) }
    }
}

const POOL_GROUP: u16 = 0;
const BUFFERS: u16 = 512;
const BUFFER_BYTES: u16 = 4096;

/// Buffers the kernel takes from, in the order in which they were given back.
struct Pool {
    /// The kernel's array of [`BUFFERS`] entries; the first one's last field is the tail.
    entries: *mut types::BufRingEntry,
    tail: *const AtomicU16,
    memory: *mut u8,
    next: u16,
}

impl Pool {
    fn register(ring: &Ring) -> io::Result<Pool> {
        let entries_bytes = usize::from(BUFFERS) * size_of::<types::BufRingEntry>();
        let entries: *mut types::BufRingEntry = sys::leak_pages(entries_bytes)?.cast();
        let memory = sys::leak_pages(usize::from(BUFFERS) * usize::from(BUFFER_BYTES))?;
        // SAFETY: `entries` is the first of a zeroed, page-aligned array.
        let tail = unsafe { types::BufRingEntry::tail(entries) };
        let submitter = ring.submitter();
        // SAFETY: the array has as many entries as said, and lives as long as the process.
        unsafe {
            submitter.register_buf_ring_with_flags(entries as u64, BUFFERS, POOL_GROUP, 0)?;
        }
        let mut pool = Pool {
            entries,
            tail: tail.cast(),
            memory,
            next: 0,
        };
        (0..BUFFERS).for_each(|buffer| pool.give_back(buffer));
        Ok(pool)
    }

    fn address(&self, buffer: u16) -> *mut u8 {
        let offset = usize::from(buffer) * usize::from(BUFFER_BYTES);
        // SAFETY: `buffer` is below BUFFERS, so the address lies in `memory`.
        unsafe { self.memory.add(offset) }
    }

    fn give_back(&mut self, buffer: u16) {
        let address = self.address(buffer) as u64;
        let slot = usize::from(self.next % BUFFERS);
        // SAFETY: `slot` is below BUFFERS, so the entry lies in the array.
        let entry = unsafe { self.entries.add(slot) };
        // SAFETY: the kernel does not look at this entry before the tail has passed it, and never
        // writes to it; the array lives as long as the process.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(BUFFER_BYTES.into());
        entry.set_bid(buffer);
        self.next = self.next.wrapping_add(1);
        // SAFETY: the tail is two aligned bytes in the array, which the kernel only reads.
        let tail = unsafe { &*self.tail };
        // Pairs with the kernel's acquire of the tail: it sees the entry as written above.
        tail.store(self.next, Ordering::Release);
    }
}

fn join(operation: u64, buffer: u16, fd: RawFd) -> u64 {
    operation << 48 | u64::from(buffer) << 32 | u64::from(fd.unsigned_abs())
}

fn split(user_data: u64) -> (u64, u16, RawFd) {
    let buffer = u16::try_from(user_data >> 32 & u64::from(u16::MAX));
    let fd = RawFd::try_from(user_data & u64::from(u32::MAX));
    (
        user_data >> 48,
        buffer.expect("masked to 16 bits"),
        fd.expect("the lower half was a descriptor"),
    )
}
