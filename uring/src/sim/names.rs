//! Making and finding things: connections by address, files by path.
//!
//! An address is a string of bytes, a path is one too; both are compared as they are. Descriptors can run out, and
//! when they do nothing else has changed: a connection that cannot be accepted stays in the queue.

#![expect(unsafe_code, reason = "reads addresses and paths")]

use std::cell::RefCell;
use std::mem::offset_of;
use std::rc::{Rc, Weak};

use super::execute::{
    Attempt, FALLOCATE, FSYNC, FTRUNCATE, OPENAT, RENAMEAT, STATX, UNLINKAT, done, done_fd,
};
use super::file::OpenFile;
use super::memory;
use super::stream::{Endpoint, Kind};
use super::world::{Object, Op, Outcome, World};

impl World {
    pub(super) fn try_accept(&mut self, op: &mut Op) -> Attempt {
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

    pub(super) fn try_connect(&mut self, op: &mut Op) -> Attempt {
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

    pub(super) fn try_file_opcode(&mut self, op: &mut Op) -> Attempt {
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
                Ok(Some(Outcome {
                    writes,
                    ..Outcome::default()
                }))
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
