//! What each opcode does.
//!
//! `prepare` runs once, when the kernel takes the SQE: it finds the file, copies what the kernel copies, borrows the
//! buffers. `attempt` runs then and again whenever something may have changed, until it gives an outcome. Opcodes
//! that are not here are refused with `EINVAL`, as an old kernel would. The longer ones are in `transfer.rs` (moving
//! bytes) and `names.rs` (connecting, accepting, opening).

#![expect(unsafe_code, reason = "reads arguments at the addresses in SQEs")]

use std::os::fd::RawFd;
use std::rc::Rc;

use super::memory::{self, Lent};
use super::stream::Kind;
use super::world::{Object, Op, Outcome, World};
use crate::CQE_F_MORE;
use crate::op::raw::{self, BUFFER_SELECT, RawSqe};
use crate::opcode as code;
use crate::types::Timespec;

const NOP: u8 = code::Nop::CODE;
const READ: u8 = code::Read::CODE;
const WRITE: u8 = code::Write::CODE;
const READV: u8 = code::Readv::CODE;
const WRITEV: u8 = code::Writev::CODE;
pub(super) const RECV: u8 = code::Recv::CODE;
pub(super) const SEND: u8 = code::Send::CODE;
pub(super) const SEND_ZC: u8 = code::SendZc::CODE;
const READ_FIXED: u8 = code::ReadFixed::CODE;
const WRITE_FIXED: u8 = code::WriteFixed::CODE;
const ACCEPT: u8 = code::Accept::CODE;
const CONNECT: u8 = code::Connect::CODE;
const SOCKET: u8 = code::Socket::CODE;
const SHUTDOWN: u8 = code::Shutdown::CODE;
const POLL_ADD: u8 = code::PollAdd::CODE;
const CLOSE: u8 = code::Close::CODE;
pub(super) const OPENAT: u8 = code::OpenAt::CODE;
pub(super) const FSYNC: u8 = code::Fsync::CODE;
pub(super) const FTRUNCATE: u8 = code::Ftruncate::CODE;
pub(super) const FALLOCATE: u8 = code::Fallocate::CODE;
pub(super) const STATX: u8 = code::Statx::CODE;
pub(super) const UNLINKAT: u8 = code::UnlinkAt::CODE;
pub(super) const RENAMEAT: u8 = code::RenameAt::CODE;
const TIMEOUT: u8 = code::Timeout::CODE;
const ASYNC_CANCEL: u8 = code::AsyncCancel::CODE;
const MSG_RING: u8 = code::MsgRingData::CODE;

/// Every opcode that is simulated.
pub(super) const OPCODES: [u8; 26] = [
    NOP,
    READ,
    WRITE,
    READV,
    WRITEV,
    RECV,
    SEND,
    SEND_ZC,
    READ_FIXED,
    WRITE_FIXED,
    ACCEPT,
    CONNECT,
    SOCKET,
    SHUTDOWN,
    POLL_ADD,
    CLOSE,
    OPENAT,
    FSYNC,
    FTRUNCATE,
    FALLOCATE,
    STATX,
    UNLINKAT,
    RENAMEAT,
    TIMEOUT,
    ASYNC_CANCEL,
    MSG_RING,
];

// io_uring_cancelation(7): IORING_ASYNC_CANCEL_*.
const CANCEL_ALL: u32 = 1 << 0;
const CANCEL_FD: u32 = 1 << 1;
const CANCEL_ANY: u32 = 1 << 2;

const TIMEOUT_ABS: u32 = 1;
/// An offset that means the file's own position.
pub(super) const AT_POSITION: u64 = u64::MAX;

pub(super) type Attempt = Result<Option<Outcome>, i32>;

/// A finished operation with this result.
pub(super) fn done(result: usize) -> Attempt {
    Ok(Some(Outcome::from(
        i32::try_from(result).expect("a transfer is below 2 GiB"),
    )))
}

impl World {
    /// Checks and copies an operation's arguments, and borrows its buffers. The error is its result.
    pub(super) fn prepare(&mut self, ring: RawFd, op: &mut Op) -> Result<(), i32> {
        let sqe = op.sqe;
        if !OPCODES.contains(&sqe.opcode) {
            return Err(libc::EINVAL);
        }
        let needs_file = !matches!(
            sqe.opcode,
            NOP | SOCKET
                | CLOSE
                | OPENAT
                | STATX
                | UNLINKAT
                | RENAMEAT
                | TIMEOUT
                | ASYNC_CANCEL
                | MSG_RING
        );
        if needs_file && op.target.is_none() {
            return Err(libc::EBADF);
        }
        let is_multishot = match sqe.opcode {
            RECV => sqe.ioprio & raw::RECV_MULTISHOT != 0,
            ACCEPT => sqe.ioprio & raw::ACCEPT_MULTISHOT != 0,
            _ => false,
        };
        match sqe.opcode {
            ASYNC_CANCEL => op.moved = self.cancel_matching(ring, &sqe)?,
            TIMEOUT => {
                // SAFETY: push promises a timespec at the address of a timeout.
                let time = unsafe { memory::read::<Timespec>(sqe.addr) };
                // SAFETY: a Timespec is the kernel's two 64-bit words.
                let [seconds, nanoseconds] =
                    unsafe { std::mem::transmute::<Timespec, [u64; 2]>(time) };
                let time_ns = seconds
                    .saturating_mul(1_000_000_000)
                    .saturating_add(nanoseconds);
                let base = if sqe.op_flags & TIMEOUT_ABS != 0 {
                    0
                } else {
                    self.clock_ns
                };
                op.due_ns = Some(base.saturating_add(time_ns));
            }
            RECV if sqe.flags & BUFFER_SELECT != 0 => {
                op.shoots = is_multishot;
                // The buffer is looked for before the bytes are.
                self.first_provided(ring, &sqe)?;
            }
            RECV if is_multishot => return Err(libc::EINVAL),
            // The descriptor is looked for before the connection.
            ACCEPT if self.descriptors.len() >= self.descriptor_limit => return Err(libc::EMFILE),
            ACCEPT => op.shoots = is_multishot,
            POLL_ADD if sqe.len & raw::POLL_MULTISHOT != 0 => return Err(libc::EINVAL),
            READ_FIXED | WRITE_FIXED => {
                let (address, length) = (sqe.addr, sqe.len as usize);
                let buffers = &self.ring(ring).registered;
                let buffer = buffers.get(usize::from(sqe.buf_index));
                let inside = buffer.is_some_and(|(start, bytes)| {
                    address >= *start && address + length as u64 <= *start + *bytes as u64
                });
                if !inside {
                    return Err(libc::EFAULT);
                }
                op.lent = Some(self.lend(sqe.opcode, vec![(address, length)]));
            }
            READ | RECV | WRITE | SEND | SEND_ZC => {
                op.shoots = sqe.opcode == SEND_ZC;
                let piece = (sqe.addr, sqe.len as usize);
                op.lent = Some(self.lend(sqe.opcode, vec![piece]));
            }
            READV | WRITEV => {
                let vectors =
                    (0..u64::from(sqe.len)).map(|n| sqe.addr + n * size_of::<libc::iovec>() as u64);
                // SAFETY: push promises `len` iovecs at the address.
                let vectors =
                    vectors.map(|address| unsafe { memory::read::<libc::iovec>(address) });
                let pieces = vectors
                    .map(|vector| (vector.iov_base.expose_provenance() as u64, vector.iov_len));
                op.lent = Some(self.lend(sqe.opcode, pieces.collect()));
            }
            _ => {}
        }
        Ok(())
    }

    fn lend(&mut self, opcode: u8, pieces: Vec<(u64, usize)>) -> Lent {
        if matches!(opcode, READ | READ_FIXED | READV | RECV) {
            let poison = self.chance.below(u64::MAX);
            // SAFETY: push promises these buffers to the kernel until the CQE.
            unsafe { Lent::for_writing(pieces, poison) }
        } else {
            // SAFETY: as above.
            unsafe { Lent::for_reading(pieces) }
        }
    }

    /// Tries to carry an operation out. `None`: it has to wait.
    pub(super) fn attempt(&mut self, ring: RawFd, op: &mut Op) -> Option<Outcome> {
        self.try_opcode(ring, op)
            .unwrap_or_else(|errno| Some(Outcome::from(-errno)))
    }

    fn try_opcode(&mut self, ring: RawFd, op: &mut Op) -> Attempt {
        let sqe = op.sqe;
        match sqe.opcode {
            NOP => done(0),
            ASYNC_CANCEL => done(op.moved),
            MSG_RING => Ok(Some(
                self.message(sqe.fd, sqe.off, sqe.len.cast_signed()).into(),
            )),
            TIMEOUT if op.due_ns <= Some(self.clock_ns) => Err(libc::ETIME),
            TIMEOUT => Ok(None),
            RECV if sqe.flags & BUFFER_SELECT != 0 => self.try_receive_pooled(ring, op),
            READ | READ_FIXED | READV | RECV => self.try_receive(op),
            SEND_ZC => self.try_send_zc(op),
            WRITE | WRITE_FIXED | WRITEV | SEND => self.try_send(op),
            POLL_ADD => {
                // These are reported whether asked for or not.
                let always = libc::POLLERR | libc::POLLHUP | libc::POLLRDHUP;
                let asked = sqe.op_flags | u32::from(always.cast_unsigned());
                match asked & readiness(&op.object()) {
                    0 => Ok(None),
                    ready => done(ready as usize),
                }
            }
            ACCEPT => Ok(self.try_accept(op)?.map(|mut accepted| {
                accepted.flags = if op.shoots { CQE_F_MORE } else { 0 };
                accepted
            })),
            CONNECT => self.try_connect(op),
            SOCKET => done_fd(self.install(Object::Socket)),
            SHUTDOWN => match &mut *op.object_mut() {
                Object::Stream(end) if end.kind != Kind::Pipe => {
                    end.shutdown(sqe.len.cast_signed());
                    done(0)
                }
                Object::Listener(listener) => {
                    listener.shut_down = true;
                    done(0)
                }
                Object::Socket => Err(libc::ENOTCONN),
                _ => Err(libc::ENOTSOCK),
            },
            CLOSE => {
                op.target = None;
                self.close(sqe.fd).and_then(|()| done(0))
            }
            _ => self.try_file_opcode(op),
        }
    }

    /// `ASYNC_CANCEL`, carried out when it is submitted, as the kernel does. Its result.
    fn cancel_matching(&mut self, ring: RawFd, sqe: &RawSqe) -> Result<usize, i32> {
        let (flags, user_data) = (sqe.op_flags, sqe.addr);
        let all = flags & (CANCEL_ALL | CANCEL_ANY) != 0;
        let file = self.descriptors.get(&sqe.fd).cloned();
        if flags & CANCEL_FD != 0 && file.is_none() {
            return Err(libc::EBADF);
        }
        let (count, late) = self.cancel(ring, all, |op| {
            if flags & CANCEL_ANY != 0 {
                true
            } else if flags & CANCEL_FD != 0 {
                op.target
                    .as_ref()
                    .zip(file.as_ref())
                    .is_some_and(|(own, asked)| Rc::ptr_eq(own, asked))
            } else {
                op.sqe.user_data == user_data
            }
        });
        match count {
            0 if late && self.chance.below(2) == 0 => Err(libc::EALREADY),
            0 if !all => Err(libc::ENOENT),
            // One match is reported as 0, all of them by their number.
            count => Ok(if all {
                usize::try_from(count).expect("a count")
            } else {
                0
            }),
        }
    }
}

impl Op {
    pub(super) fn object(&self) -> std::cell::Ref<'_, Object> {
        self.target
            .as_ref()
            .expect("prepare found the file")
            .borrow()
    }

    pub(super) fn object_mut(&self) -> std::cell::RefMut<'_, Object> {
        self.target
            .as_ref()
            .expect("prepare found the file")
            .borrow_mut()
    }
}

pub(super) fn done_fd(installed: Result<RawFd, i32>) -> Attempt {
    installed.map(|fd| Some(Outcome::from(fd)))
}

fn readiness(object: &Object) -> u32 {
    let ready = match object {
        Object::Stream(end) => return end.readiness(),
        Object::Listener(listener) if listener.waiting.is_empty() => 0,
        Object::Listener(_) => libc::POLLIN,
        Object::Socket => libc::POLLOUT | libc::POLLHUP,
        Object::File(_) => libc::POLLIN | libc::POLLOUT,
        Object::Eventfd(0) => libc::POLLOUT,
        Object::Eventfd(_) => libc::POLLIN | libc::POLLOUT,
    };
    u32::from(ready.cast_unsigned())
}
