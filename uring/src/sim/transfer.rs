//! Moving bytes: read, recv, write, send, on whatever takes them.
//!
//! A transfer takes what is there and is done with it, even if that is less than was asked for; only `MSG_WAITALL`
//! goes on. What it has moved stays with the operation, so that an end, an error or a cancel in the middle reports
//! the bytes and not the trouble.

use std::os::fd::RawFd;
use std::rc::Rc;

use super::execute::{AT_POSITION, Attempt, RECV, SEND, SEND_ZC, done};
use super::file::OpenFile;
use super::memory::Lent;
use super::provided::{Picked, Provided};
use super::stream::{Endpoint, Kind, Transfer};
use super::world::{Object, Op, Outcome, World};
use crate::CQE_F_MORE;
use crate::op::raw::RawSqe;

impl World {
    pub(super) fn try_receive(&mut self, op: &mut Op) -> Attempt {
        let wanted = op.lent.as_ref().map_or(0, Lent::length);
        let flags = socket_flags(&op.sqe);
        let handle = Rc::clone(op.target.as_ref().ok_or(libc::EBADF)?);
        match &mut *handle.borrow_mut() {
            Object::Stream(end) => {
                if op.sqe.opcode == RECV && end.kind == Kind::Pipe {
                    return Err(libc::ENOTSOCK);
                }
                if end.kind == Kind::Tcp && self.strikes(|faults| faults.reset) {
                    end.reset();
                }
                let left = wanted - op.moved;
                let most = self.shortened(left);
                match end.receive(most, flags & libc::MSG_PEEK != 0) {
                    Transfer::Blocked if flags & libc::MSG_DONTWAIT != 0 => Err(libc::EAGAIN),
                    Transfer::Blocked => Ok(None),
                    Transfer::Failed(_) if op.moved > 0 => done(op.moved),
                    Transfer::Failed(errno) => Err(errno),
                    Transfer::Done(bytes) => {
                        let ended = bytes.is_empty();
                        op.moved += bytes.len();
                        op.received.extend(bytes);
                        let patient = flags & libc::MSG_WAITALL != 0 && op.moved < wanted && !ended;
                        if patient {
                            self.try_receive_rest(op, end)
                        } else {
                            done(op.moved)
                        }
                    }
                }
            }
            Object::File(open) => {
                if op.sqe.opcode == RECV {
                    return Err(libc::ENOTSOCK);
                }
                if !open.readable {
                    return Err(libc::EBADF);
                }
                if self.strikes(|faults| faults.io_error) {
                    return Err(libc::EIO);
                }
                let offset = file_offset(&op.sqe, open);
                let most = self.shortened(wanted);
                op.received = open.file.borrow().read(offset, most);
                if op.sqe.off == AT_POSITION {
                    open.position += op.received.len();
                }
                done(op.received.len())
            }
            Object::Eventfd(_) if wanted < 8 => Err(libc::EINVAL),
            Object::Eventfd(0) => Ok(None),
            Object::Eventfd(count) => {
                op.received = std::mem::take(count).to_ne_bytes().to_vec();
                done(8)
            }
            Object::Socket | Object::Listener(_) => Err(libc::ENOTCONN),
        }
    }

    /// The buffer that a receive from a group would get.
    pub(super) fn first_provided(&mut self, ring: RawFd, sqe: &RawSqe) -> Result<Picked, i32> {
        let provided = self.ring(ring).provided.get(&sqe.buf_index);
        provided.and_then(Provided::first).ok_or(libc::ENOBUFS)
    }

    /// A receive into a buffer of a group, which is taken when there is something to put into it.
    pub(super) fn try_receive_pooled(&mut self, ring: RawFd, op: &mut Op) -> Attempt {
        let handle = Rc::clone(op.target.as_ref().ok_or(libc::EBADF)?);
        let object = handle.borrow();
        let Object::Stream(end) = &*object else {
            return Err(match &*object {
                Object::Socket | Object::Listener(_) => libc::ENOTCONN,
                _ => libc::ENOTSOCK,
            });
        };
        if end.kind == Kind::Pipe {
            return Err(libc::ENOTSOCK);
        }
        if end.kind == Kind::Tcp && self.strikes(|faults| faults.reset) {
            end.reset();
        }
        if matches!(end.receive(1, true), Transfer::Blocked) {
            return Ok(None);
        }
        let buffer = self.first_provided(ring, &op.sqe)?;
        let asked = match op.sqe.len as usize {
            0 => buffer.length,
            length => length.min(buffer.length),
        };
        let most = self.shortened(asked);
        match end.receive(most, socket_flags(&op.sqe) & libc::MSG_PEEK != 0) {
            Transfer::Blocked => Ok(None),
            Transfer::Failed(errno) => Err(errno),
            Transfer::Done(bytes) if bytes.is_empty() => done(0),
            Transfer::Done(bytes) => {
                let provided = self.ring(ring).provided.get_mut(&op.sqe.buf_index);
                provided.expect("a buffer of it was found").take();
                Ok(Some(Outcome {
                    result: i32::try_from(bytes.len()).expect("a transfer is below 2 GiB"),
                    flags: buffer.flags() | if op.shoots { CQE_F_MORE } else { 0 },
                    writes: vec![(buffer.address, bytes)],
                }))
            }
        }
    }

    /// A send whose buffer stays lent until a second completion. Over loopback, which is all there is here, that
    /// comes as soon as it can.
    pub(super) fn try_send_zc(&mut self, op: &mut Op) -> Attempt {
        if op.told_ns != 0 {
            return Ok(Some(Outcome::notification()));
        }
        let supported = match &*op.object() {
            Object::Stream(end) => end.kind == Kind::Tcp,
            Object::Socket => true,
            _ => return Err(libc::ENOTSOCK),
        };
        let sent = if supported {
            self.try_send(op)
        } else {
            Err(libc::EOPNOTSUPP)
        };
        let sent = sent.unwrap_or_else(|errno| Some(Outcome::from(-errno)));
        Ok(sent.map(|outcome| Outcome {
            flags: CQE_F_MORE,
            ..outcome
        }))
    }

    /// `MSG_WAITALL` with bytes still missing: takes what else is there, else waits.
    fn try_receive_rest(&mut self, op: &mut Op, end: &Endpoint) -> Attempt {
        let wanted = op.lent.as_ref().map_or(0, Lent::length);
        while op.moved < wanted {
            match end.receive(wanted - op.moved, false) {
                Transfer::Blocked => return Ok(None),
                Transfer::Failed(_) => break,
                Transfer::Done(bytes) if bytes.is_empty() => break,
                Transfer::Done(bytes) => {
                    op.moved += bytes.len();
                    op.received.extend(bytes);
                }
            }
        }
        done(op.moved)
    }

    pub(super) fn try_send(&mut self, op: &mut Op) -> Attempt {
        let lent = op.lent.as_ref().ok_or(libc::EFAULT)?;
        let flags = socket_flags(&op.sqe);
        let handle = Rc::clone(op.target.as_ref().ok_or(libc::EBADF)?);
        match &mut *handle.borrow_mut() {
            Object::Stream(end) => {
                if matches!(op.sqe.opcode, SEND | SEND_ZC) && end.kind == Kind::Pipe {
                    return Err(libc::ENOTSOCK);
                }
                if end.kind == Kind::Tcp && self.strikes(|faults| faults.reset) {
                    end.reset();
                }
                let bytes = lent.contents();
                let most = self.shortened(bytes.len() - op.moved);
                match end.send(&bytes[op.moved..op.moved + most]) {
                    Transfer::Blocked if flags & libc::MSG_DONTWAIT != 0 => Err(libc::EAGAIN),
                    Transfer::Blocked => Ok(None),
                    Transfer::Failed(_) if op.moved > 0 => done(op.moved),
                    Transfer::Failed(errno) => Err(errno),
                    Transfer::Done(count) => {
                        op.moved += count;
                        if flags & libc::MSG_WAITALL != 0 && op.moved < bytes.len() {
                            // The rest when there is room; whoever reads meanwhile makes some.
                            return Ok(None);
                        }
                        done(op.moved)
                    }
                }
            }
            Object::File(open) => {
                if matches!(op.sqe.opcode, SEND | SEND_ZC) {
                    return Err(libc::ENOTSOCK);
                }
                if !open.writable {
                    return Err(libc::EBADF);
                }
                if self.strikes(|faults| faults.no_space) {
                    return Err(libc::ENOSPC);
                }
                if self.strikes(|faults| faults.io_error) {
                    return Err(libc::EIO);
                }
                let offset = if open.append {
                    open.file.borrow().length()
                } else {
                    file_offset(&op.sqe, open)
                };
                let bytes = lent.contents();
                let count = self.shortened(bytes.len());
                open.file.borrow_mut().write(offset, &bytes[..count]);
                if op.sqe.off == AT_POSITION {
                    open.position = offset + count;
                }
                done(count)
            }
            Object::Eventfd(count) => {
                let bytes: [u8; 8] = lent.contents().try_into().map_err(|_| libc::EINVAL)?;
                *count += u64::from_ne_bytes(bytes);
                done(8)
            }
            Object::Socket | Object::Listener(_) if matches!(op.sqe.opcode, SEND | SEND_ZC) => {
                Err(libc::EPIPE)
            }
            Object::Socket | Object::Listener(_) => Err(libc::ENOTCONN),
        }
    }

    /// How much of `length` is moved at once.
    fn shortened(&mut self, length: usize) -> usize {
        if length > 1 && self.strikes(|faults| faults.short_io) {
            if self.chance.below(2) == 0 {
                1
            } else {
                1 + self.chance.index(length)
            }
        } else {
            length
        }
    }
}

/// The flags of a send or recv; reads and writes have other flags at their place.
fn socket_flags(sqe: &RawSqe) -> i32 {
    if matches!(sqe.opcode, SEND | SEND_ZC | RECV) {
        sqe.op_flags.cast_signed()
    } else {
        0
    }
}

fn file_offset(sqe: &RawSqe, open: &OpenFile) -> usize {
    match sqe.off {
        AT_POSITION => open.position,
        offset => usize::try_from(offset).unwrap_or(usize::MAX),
    }
}
