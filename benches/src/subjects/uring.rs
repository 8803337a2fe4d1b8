//! The limit of `net` and `file`: hand-written io_uring loops. This is the server: one receive and one send for each
//! answer.
//!
//! ```text
//! accept (multishot) -> receive into the connection's buffer -> send it back -> receive ...
//! a turn: submit_and_wait(1), one system call -> every completion that has come -> what follows from each
//! ```
//!
//! The state of a connection is one buffer, found by its descriptor; `user_data` is the operation and the
//! descriptor. A request and its answer are one buffer at most, one at a time. The ring: [`crate::ring`].
//! An HTTP request it only looks at the end of: what parsing costs belongs to the others.
//!
//! Listed twice: the second is the twin of the A/A pair. A third differs in registered files and buffers, a fourth in that it
//! never sleeps, a fifth in that it leaves nothing deferred: the first one starves connections when there are many, goes round and round with those
//! that the caches have, and so answers more in all.
#![expect(unsafe_code, reason = "submitting to a ring is unsafe")]

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use io_uring::{cqueue, opcode, types};

use crate::load::bulk;
use crate::machine;
use crate::ring::Ring;
use crate::subject::{ECHO_BUFFER_BYTES, Job, Role, Skip, Subject, Work};
use crate::work::Local;
use crate::work::sleep::sleep;

mod files;

/// The subject.
#[derive(Debug)]
pub(crate) struct Uring {
    name: &'static str,
    way: Way,
}

/// How it differs from the plain loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    /// Files and buffers are registered with the ring.
    Fixed,
    /// It looks at memory instead of sleeping.
    Awake,
    /// It takes all that is deferred.
    Fair,
}

/// The reference.
pub(crate) static FIRST: Uring = Uring {
    name: "raw-uring",
    way: Way::Plain,
};
/// The same again, to see how far apart two equal subjects are.
pub(crate) static AGAIN: Uring = Uring {
    name: "raw-uring-again",
    way: Way::Plain,
};
/// Reads into registered buffers from a registered file.
pub(crate) static FIXED: Uring = Uring {
    name: "raw-uring-fixed",
    way: Way::Fixed,
};
/// The limit of latency: spins for ever. Measured only when it is named.
pub(crate) static AWAKE: Uring = Uring {
    name: "raw-uring-awake",
    way: Way::Awake,
};
/// The limit of rates over very many connections that are all served. Measured only when it is named.
pub(crate) static FAIR: Uring = Uring {
    name: "raw-uring-fair",
    way: Way::Fair,
};

impl Subject for Uring {
    fn name(&self) -> &'static str {
        self.name
    }

    fn role(&self) -> Role {
        Role::Limit
    }

    fn version(&self) -> String {
        machine::kernel()
    }

    fn only_when_named(&self) -> bool {
        matches!(self.way, Way::Awake | Way::Fair)
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        let fixed = self.way == Way::Fixed;
        match job.work {
            Work::Echo if self.way == Way::Awake => match serve(job, Ring::turn_awake)? {},
            Work::Echo if self.way == Way::Fair => match serve(job, Ring::turn_fair)? {},
            _ if self.only_when_named() => {
                Err(Skip::because("differs from raw-uring in echo only"))
            }
            Work::Read { depth, direct } => files::reads(job, depth, direct, fixed),
            _ if fixed => Err(Skip::because("differs from raw-uring in reads only")),
            Work::Local(Local::Sleep) => sleeps(job),
            Work::Echo | Work::Hello | Work::Bulk { .. } => match serve(job, Ring::turn)? {},
            Work::OpenRead { depth } => files::opens(job, depth),
            Work::WriteSync => files::writes(job),
            _ => job.not_offered(),
        }
    }
}

/// `user_data`: the operation in the upper half, the descriptor in the lower.
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1 << 32;
const SEND: u64 = 2 << 32;

const HELLO_ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!";

/// Connections by descriptor. A buffer is boxed, so that it does not move when the list grows.
struct Server {
    ring: Ring,
    listener: TcpListener,
    /// What is sent for each request, if not the request itself.
    answer: Option<&'static [u8]>,
    buffers: Vec<Option<Box<[u8; ECHO_BUFFER_BYTES]>>>,
}

fn serve(
    job: &Job,
    turn: fn(&mut Ring, &mut Vec<cqueue::Entry>) -> io::Result<()>,
) -> io::Result<Infallible> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    job.listening(listener.local_addr()?);
    let mut server = Server {
        ring: Ring::new()?,
        listener,
        answer: match job.work {
            Work::Hello => Some(HELLO_ANSWER),
            Work::Bulk { bytes } => Some(bulk(bytes).collect::<Vec<u8>>().leak()),
            _ => None,
        },
        buffers: Vec::new(),
    };
    server.accept()?;
    let mut completions = Vec::new();
    loop {
        turn(&mut server.ring, &mut completions)?;
        for completion in completions.drain(..) {
            server.complete(&completion)?;
        }
    }
}

impl Server {
    fn complete(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let (operation, fd) = split(completion.user_data());
        match (operation, completion.result()) {
            (ACCEPT, fd) => self.accepted(fd, completion.flags()),
            (_, ..=0) => {
                // Nothing else of this connection is under way. Its buffer stays for the next one
                // with the same descriptor.
                close(fd);
                Ok(())
            }
            (RECEIVE, count) => self.answer(fd, count.unsigned_abs()),
            _ => self.receive(fd),
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let listener = types::Fd(self.listener.as_raw_fd());
        let entry = opcode::AcceptMulti::new(listener).build().user_data(ACCEPT);
        // SAFETY: a multishot accept without an address points to no memory.
        unsafe { self.ring.push(&entry) }
    }

    fn accepted(&mut self, fd: RawFd, flags: u32) -> io::Result<()> {
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(-fd));
        }
        if !cqueue::more(flags) {
            self.accept()?;
        }
        let index = index(fd);
        if self.buffers.len() <= index {
            self.buffers.resize_with(index + 1, || None);
        }
        self.buffers[index].get_or_insert_with(|| Box::new([0; ECHO_BUFFER_BYTES]));
        self.receive(fd)
    }

    fn buffer(&mut self, fd: RawFd) -> &mut [u8; ECHO_BUFFER_BYTES] {
        let buffer = self.buffers[index(fd)].as_mut();
        buffer.expect("a connection has a buffer from the moment it was accepted")
    }

    fn receive(&mut self, fd: RawFd) -> io::Result<()> {
        let buffer = self.buffer(fd);
        let (address, length) = (buffer.as_mut_ptr(), ECHO_BUFFER_BYTES.try_into());
        let length = length.expect("the buffer is smaller than 4 GiB");
        let entry = opcode::Recv::new(types::Fd(fd), address, length).build();
        // SAFETY: the buffer is boxed and never freed; it has one operation at a time.
        unsafe { self.ring.push(&entry.user_data(RECEIVE | data(fd))) }
    }

    fn answer(&mut self, fd: RawFd, received: u32) -> io::Result<()> {
        let Some(answer) = self.answer else {
            let address = self.buffer(fd).as_ptr();
            return self.send(fd, address, received);
        };
        let end = received.try_into().expect("it fits the buffer");
        assert!(
            self.buffer(fd)[..end].ends_with(b"\r\n\r\n"),
            "requests come whole and one at a time"
        );
        let length = answer
            .len()
            .try_into()
            .expect("the answer is smaller than 4 GiB");
        self.send(fd, answer.as_ptr(), length)
    }

    /// Sends from the connection's buffer, or from a constant.
    fn send(&mut self, fd: RawFd, address: *const u8, length: u32) -> io::Result<()> {
        // MSG_WAITALL has the kernel go on after a short send.
        let entry = opcode::Send::new(types::Fd(fd), address, length)
            .flags(libc::MSG_WAITALL)
            .build();
        // SAFETY: the buffer is boxed and never freed; it has one operation at a time. Constants are for ever.
        unsafe { self.ring.push(&entry.user_data(SEND | data(fd))) }
    }
}

/// A sleep is an enter that waits for a completion and has a time limit: nothing is submitted.
fn sleeps(job: &Job) -> Result<(), Skip> {
    let ring = Ring::new()?;
    sleep(job, |nap| {
        let limit = types::Timespec::from(nap);
        let arguments = types::SubmitArgs::new().timespec(&limit);
        let ended = ring.submitter().submit_with_args(1, &arguments);
        let error = ended.expect_err("nothing completes in an idle ring");
        assert_eq!(error.raw_os_error(), Some(libc::ETIME));
    })
}

/// Closes a descriptor that was accepted by a ring.
pub(super) fn close(fd: RawFd) {
    // SAFETY: the ring returned this descriptor to us alone, and its owner forgets it now.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}

fn index(fd: RawFd) -> usize {
    usize::try_from(fd).expect("an open descriptor is not negative")
}

fn data(fd: RawFd) -> u64 {
    u64::from(fd.unsigned_abs())
}

fn split(user_data: u64) -> (u64, RawFd) {
    let fd = user_data & u64::from(u32::MAX);
    let fd = RawFd::try_from(fd).expect("the lower half was a descriptor");
    (user_data & !u64::from(u32::MAX), fd)
}
