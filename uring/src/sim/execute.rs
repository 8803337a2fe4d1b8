//! What each opcode does.
//!
//! `prepare` runs once, when the kernel takes the SQE: it finds the file, copies what the kernel copies, borrows the
//! buffers. `attempt` runs then and again whenever something may have changed, until it gives an outcome. Opcodes
//! that are not here are refused with `EINVAL`, as an old kernel would.

#![expect(unsafe_code, reason = "reads arguments at the addresses in SQEs")]

use std::cell::RefCell;
use std::mem::offset_of;
use std::os::fd::RawFd;
use std::rc::{Rc, Weak};

use super::file::OpenFile;
use super::memory::{self, Lent, RawSqe};
use super::stream::{Endpoint, Kind, Transfer};
use super::world::{Object, Op, Outcome, World};
use crate::opcode as code;
use crate::types::Timespec;

const NOP: u8 = code::Nop::CODE;
const READ: u8 = code::Read::CODE;
const WRITE: u8 = code::Write::CODE;
const READV: u8 = code::Readv::CODE;
const WRITEV: u8 = code::Writev::CODE;
const RECV: u8 = code::Recv::CODE;
const SEND: u8 = code::Send::CODE;
const ACCEPT: u8 = code::Accept::CODE;
const CONNECT: u8 = code::Connect::CODE;
const SOCKET: u8 = code::Socket::CODE;
const SHUTDOWN: u8 = code::Shutdown::CODE;
const POLL_ADD: u8 = code::PollAdd::CODE;
const CLOSE: u8 = code::Close::CODE;
const OPENAT: u8 = code::OpenAt::CODE;
const FSYNC: u8 = code::Fsync::CODE;
const FTRUNCATE: u8 = code::Ftruncate::CODE;
const FALLOCATE: u8 = code::Fallocate::CODE;
const STATX: u8 = code::Statx::CODE;
const UNLINKAT: u8 = code::UnlinkAt::CODE;
const RENAMEAT: u8 = code::RenameAt::CODE;
const TIMEOUT: u8 = code::Timeout::CODE;
const ASYNC_CANCEL: u8 = code::AsyncCancel::CODE;
const MSG_RING: u8 = code::MsgRingData::CODE;

/// Every opcode that is simulated.
pub(super) const OPCODES: [u8; 23] = [
    NOP,
    READ,
    WRITE,
    READV,
    WRITEV,
    RECV,
    SEND,
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
const AT_POSITION: u64 = u64::MAX;

type Attempt = Result<Option<Outcome>, i32>;

/// A finished operation with this result.
fn done(result: usize) -> Attempt {
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
            READ | RECV | WRITE | SEND => {
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
        if matches!(opcode, READ | READV | RECV) {
            let poison = self.chance.below(u64::MAX);
            // SAFETY: push promises these buffers to the kernel until the CQE.
            unsafe { Lent::for_writing(pieces, poison) }
        } else {
            // SAFETY: as above.
            unsafe { Lent::for_reading(pieces) }
        }
    }

    /// Tries to carry an operation out. `None`: it has to wait.
    pub(super) fn attempt(&mut self, op: &mut Op) -> Option<Outcome> {
        self.try_opcode(op)
            .unwrap_or_else(|errno| Some(Outcome::from(-errno)))
    }

    fn try_opcode(&mut self, op: &mut Op) -> Attempt {
        let sqe = op.sqe;
        match sqe.opcode {
            NOP => done(0),
            ASYNC_CANCEL => done(op.moved),
            MSG_RING => Ok(Some(
                self.message(sqe.fd, sqe.off, sqe.len.cast_signed()).into(),
            )),
            TIMEOUT if op.due_ns <= Some(self.clock_ns) => Err(libc::ETIME),
            TIMEOUT => Ok(None),
            READ | READV | RECV => self.try_receive(op),
            WRITE | WRITEV | SEND => self.try_send(op),
            POLL_ADD => {
                // These are reported whether asked for or not.
                let always = libc::POLLERR | libc::POLLHUP | libc::POLLRDHUP;
                let asked = sqe.op_flags | u32::from(always.cast_unsigned());
                match asked & readiness(&op.object()) {
                    0 => Ok(None),
                    ready => done(ready as usize),
                }
            }
            ACCEPT => self.try_accept(op),
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

    fn try_receive(&mut self, op: &mut Op) -> Attempt {
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

    fn try_send(&mut self, op: &mut Op) -> Attempt {
        let lent = op.lent.as_ref().ok_or(libc::EFAULT)?;
        let flags = socket_flags(&op.sqe);
        let handle = Rc::clone(op.target.as_ref().ok_or(libc::EBADF)?);
        match &mut *handle.borrow_mut() {
            Object::Stream(end) => {
                if op.sqe.opcode == SEND && end.kind == Kind::Pipe {
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
                if op.sqe.opcode == SEND {
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
            Object::Socket | Object::Listener(_) if op.sqe.opcode == SEND => Err(libc::EPIPE),
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

    fn try_accept(&mut self, op: &mut Op) -> Attempt {
        let end = match &mut *op.object_mut() {
            Object::Listener(listener) if listener.shut_down => return Err(libc::EINVAL),
            // Nothing is taken from the queue unless there is a descriptor for it.
            Object::Listener(listener) if listener.waiting.is_empty() => return Ok(None),
            Object::Listener(_) if self.descriptors.len() >= self.descriptor_limit => {
                return Err(libc::EMFILE);
            }
            Object::Listener(_) if self.strikes(|faults| faults.no_descriptor) => {
                return Err(libc::EMFILE);
            }
            Object::Listener(listener) => listener.waiting.pop_front().expect("not empty"),
            Object::Stream(end) if end.kind == Kind::Pipe => return Err(libc::ENOTSOCK),
            Object::Stream(_) | Object::Socket => return Err(libc::EINVAL),
            Object::File(_) | Object::Eventfd(_) => return Err(libc::ENOTSOCK),
        };
        let (address, address_length) = (op.sqe.addr, op.sqe.off);
        let mut outcome = Outcome::default();
        if address != 0 && address_length != 0 {
            // SAFETY: push promises a length at the second address.
            let room = unsafe { memory::read::<libc::socklen_t>(address_length) } as usize;
            let known = end.peer_address.len();
            outcome
                .writes
                .push((address, end.peer_address[..known.min(room)].to_vec()));
            let known = u32::try_from(known).expect("addresses are short");
            outcome
                .writes
                .push((address_length, known.to_ne_bytes().to_vec()));
        }
        // Whether there is a descriptor was decided above: no second stroke of bad luck.
        let faults = std::mem::take(&mut self.faults);
        let installed = self.install(Object::Stream(end));
        self.faults = faults;
        outcome.result = installed?;
        Ok(Some(outcome))
    }

    fn try_connect(&mut self, op: &mut Op) -> Attempt {
        if !matches!(*op.object(), Object::Socket) {
            return Err(if matches!(*op.object(), Object::Stream(_)) {
                libc::EISCONN
            } else {
                libc::ENOTSOCK
            });
        }
        let length = usize::try_from(op.sqe.off).map_err(|_| libc::EINVAL)?;
        // SAFETY: push promises an address of this length.
        let address = unsafe { memory::read_bytes(op.sqe.addr, length) };
        let Some(listener) = self.listeners.get(&address).and_then(Weak::upgrade) else {
            return Err(libc::ECONNREFUSED);
        };
        let Object::Listener(listener) = &mut *listener.borrow_mut() else {
            return Err(libc::ECONNREFUSED);
        };
        if listener.shut_down {
            return Err(libc::ECONNREFUSED);
        }
        if listener.waiting.len() > listener.backlog {
            return Ok(None);
        }
        let (ours, mut theirs) = Endpoint::pair(Kind::Tcp, self.channel_capacity);
        theirs.peer_address = address;
        listener.waiting.push_back(theirs);
        *op.object_mut() = Object::Stream(ours);
        done(0)
    }

    fn try_file_opcode(&mut self, op: &mut Op) -> Attempt {
        let sqe = op.sqe;
        match sqe.opcode {
            OPENAT => {
                // SAFETY: push promises a path.
                let path = unsafe { memory::read_path(sqe.addr) };
                let open = self.open(&path, sqe.op_flags.cast_signed())?;
                done_fd(self.install(Object::File(open)))
            }
            UNLINKAT => {
                // SAFETY: push promises a path.
                let path = unsafe { memory::read_path(sqe.addr) };
                self.files.remove(&path).ok_or(libc::ENOENT)?;
                done(0)
            }
            RENAMEAT => {
                // SAFETY: push promises a path.
                let old = unsafe { memory::read_path(sqe.addr) };
                // SAFETY: push promises another.
                let new = unsafe { memory::read_path(sqe.off) };
                let file = self.files.remove(&old).ok_or(libc::ENOENT)?;
                self.files.insert(new, file);
                done(0)
            }
            STATX => {
                // SAFETY: push promises a path.
                let path = unsafe { memory::read_path(sqe.addr) };
                let file = match op.target.as_ref().filter(|_| path.is_empty()) {
                    Some(handle) => match &*handle.borrow() {
                        Object::File(open) => Rc::clone(&open.file),
                        _ => return Err(libc::EINVAL),
                    },
                    None => self.files.get(&path).cloned().ok_or(libc::ENOENT)?,
                };
                let writes = vec![(sqe.off, statx_image(file.borrow().length()))];
                Ok(Some(Outcome { result: 0, writes }))
            }
            _ => {
                let Object::File(open) = &*op.object() else {
                    return Err(libc::EINVAL);
                };
                let mut file = open.file.borrow_mut();
                let length = file.length();
                match sqe.opcode {
                    FSYNC if self.strikes(|faults| faults.io_error) => {
                        file.lose_pending();
                        return Err(libc::EIO);
                    }
                    FSYNC => file.sync(),
                    _ if !open.writable => return Err(libc::EBADF),
                    FTRUNCATE => {
                        file.set_length(usize::try_from(sqe.off).map_err(|_| libc::EFBIG)?)
                    }
                    FALLOCATE if self.strikes(|faults| faults.no_space) => {
                        return Err(libc::ENOSPC);
                    }
                    FALLOCATE if sqe.len == 0 => {
                        let end = usize::try_from(sqe.off.saturating_add(sqe.addr))
                            .map_err(|_| libc::EFBIG)?;
                        file.set_length(end.max(length));
                    }
                    _ => return Err(libc::EOPNOTSUPP),
                }
                done(0)
            }
        }
    }

    fn open(&mut self, path: &[u8], flags: i32) -> Result<OpenFile, i32> {
        if self.descriptors.len() >= self.descriptor_limit {
            return Err(libc::EMFILE);
        }
        let file = match self.files.get(path) {
            Some(_) if flags & (libc::O_CREAT | libc::O_EXCL) == libc::O_CREAT | libc::O_EXCL => {
                return Err(libc::EEXIST);
            }
            Some(file) => Rc::clone(file),
            None if flags & libc::O_CREAT == 0 => return Err(libc::ENOENT),
            None => {
                let file = Rc::new(RefCell::default());
                self.files.insert(path.to_vec(), Rc::clone(&file));
                file
            }
        };
        let access = flags & libc::O_ACCMODE;
        if flags & libc::O_TRUNC != 0 && access != libc::O_RDONLY {
            file.borrow_mut().set_length(0);
        }
        Ok(OpenFile {
            file,
            position: 0,
            append: flags & libc::O_APPEND != 0,
            readable: access != libc::O_WRONLY,
            writable: access != libc::O_RDONLY,
        })
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
    fn object(&self) -> std::cell::Ref<'_, Object> {
        self.target
            .as_ref()
            .expect("prepare found the file")
            .borrow()
    }

    fn object_mut(&self) -> std::cell::RefMut<'_, Object> {
        self.target
            .as_ref()
            .expect("prepare found the file")
            .borrow_mut()
    }
}

fn done_fd(installed: Result<RawFd, i32>) -> Attempt {
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

/// The flags of a send or recv; reads and writes have other flags at their place.
fn socket_flags(sqe: &RawSqe) -> i32 {
    if matches!(sqe.opcode, SEND | RECV) {
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

/// A regular file of this length, as statx(2) describes it.
fn statx_image(length: usize) -> Vec<u8> {
    let mut image = vec![0; size_of::<libc::statx>()];
    let mut put =
        |offset: usize, bytes: &[u8]| image[offset..offset + bytes.len()].copy_from_slice(bytes);
    let mode = u16::try_from(libc::S_IFREG | 0o644).expect("a mode has 16 bits");
    put(
        offset_of!(libc::statx, stx_mask),
        &libc::STATX_BASIC_STATS.to_ne_bytes(),
    );
    put(offset_of!(libc::statx, stx_nlink), &1u32.to_ne_bytes());
    put(offset_of!(libc::statx, stx_mode), &mode.to_ne_bytes());
    put(
        offset_of!(libc::statx, stx_size),
        &(length as u64).to_ne_bytes(),
    );
    image
}
