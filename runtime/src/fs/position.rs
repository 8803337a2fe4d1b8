//! Reads and writes of a file at its position.
//!
//! An open file has one position, for all its handles. read(2) and write(2) keep others away from it while they last, and
//! leave it behind what they have done. A ring does neither (io_uring/rw.c, seen with Linux 6.18):
//!
//! - It takes no lock: of two writes that overlap both begin at the same place.
//! - It moves the position only for a transfer that ended without an error and in the call that began it. So it never does
//!   for what goes around the page cache, nor for the bytes before an error: the next call would do the same bytes again,
//!   with the same success.
//!
//! ```text
//!   lock --> where is it? --> read or write through the ring --> has it moved? no: move it --> unlock
//! ```
//!
//! The lock is made by the first such call and shared with the clones of [`File::try_clone`]. Who shares the open file by
//! other means, as a child process does, does not know it. The two looks cost 0.1 us each. A pipe, a terminal or a device
//! has no position to speak of, and its readers must not hold up its writers: there none of this is done.
#![expect(unsafe_code, reason = "lseek(2) and fcntl(2) on a borrowed descriptor")]

use super::File;
use crate::io::{may_wait, refused};
use crate::sync::SharedMutex;
use coring_uring::op::fs::AT_POSITION;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::sync::{Arc, OnceLock};

/// The turns that the handles of an open file take at its position: nothing for what has none, unknown before the first.
#[derive(Debug, Default)]
pub(super) struct Position(OnceLock<Option<Arc<SharedMutex<()>>>>);

impl Position {
    /// The same, for another handle of the same open file.
    pub(super) fn of_a_clone(&self, file: &File) -> Self {
        Self(OnceLock::from(self.turns(file).cloned()))
    }

    /// An error for what has no offsets: a pipe, a terminal. A ring would take the offset for none.
    pub(super) fn has_offsets(&self, file: &File) -> io::Result<()> {
        if self.turns(file).is_some() {
            return Ok(());
        }
        file.with_std(|mut std| std.stream_position()).map(drop)
    }

    fn turns(&self, file: &File) -> Option<&Arc<SharedMutex<()>>> {
        let turns = self.0.get_or_init(|| {
            let of = file.with_std(std::fs::File::metadata).ok()?.file_type();
            (of.is_file() || of.is_block_device()).then(|| Arc::new(SharedMutex::new(())))
        });
        turns.as_ref()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transfer {
    Read,
    Write,
}

/// Does a transfer at the position, alone, and sees to it that the position has moved by what was done.
fn moving(
    file: &File,
    kind: Transfer,
    transfer: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    let Some(turns) = file.position().turns(file) else {
        return transfer();
    };
    may_wait()?;
    let _turn = turns.lock().map_err(refused)?;
    let before = seek(file, 0, libc::SEEK_CUR);
    let done = transfer()?;
    // Some files of /proc have no position after all.
    if done > 0 && before.is_some() && seek(file, 0, libc::SEEK_CUR) == before {
        make_up_for(file, kind, done);
    }
    Ok(done)
}

#[cold]
fn make_up_for(file: &File, kind: Transfer, done: usize) {
    if kind == Transfer::Write && appends(file) {
        // Where the bytes went, wherever the position was.
        seek(file, 0, libc::SEEK_END);
    } else {
        let done = i64::try_from(done).expect("a transfer is shorter");
        seek(file, done, libc::SEEK_CUR);
    }
}

fn appends(file: &File) -> bool {
    let flags = file.with_std(|std| {
        // SAFETY: only asks for the flags of an open descriptor.
        unsafe { libc::fcntl(std.as_raw_fd(), libc::F_GETFL) }
    });
    flags & libc::O_APPEND != 0
}

/// A write while the caller unwinds, where calls through the ring are refused since they cannot wait: the destructor of a `BufWriter`
/// has no other chance. A plain call hands a file's bytes to the kernel's memory. `None` when nobody unwinds, for what may hold
/// up the core, and while somebody else has the turn; a file that is appended to needs none.
#[inline]
fn last_chance(
    file: &File,
    write: impl FnOnce(&std::fs::File) -> io::Result<usize>,
) -> Option<io::Result<usize>> {
    if !std::thread::panicking() {
        return None;
    }
    let turn = file.position().turns(file)?.try_lock();
    (turn.is_some() || appends(file)).then(|| file.with_std(write))
}

/// As lseek(2). `None` for what has no position.
fn seek(file: &File, by: i64, from: libc::c_int) -> Option<i64> {
    let position = file.with_std(|std| {
        // SAFETY: changes no memory; the descriptor is open for as long as it is borrowed.
        unsafe { libc::lseek(std.as_raw_fd(), by, from) }
    });
    (position >= 0).then_some(position)
}

/// Reads at the position and moves it; handles of one open file take turns. As [`File::read_at`] otherwise.
impl Read for &File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = || self.read_from(buffer, AT_POSITION);
        moving(self, Transfer::Read, read)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let read = || self.read_vectored_from(buffers, AT_POSITION);
        moving(self, Transfer::Read, read)
    }
}

/// Writes at the position and moves it; handles of one open file take turns. As [`File::write_at`] otherwise.
///
/// Who shares the position with another process, or by a descriptor duplicated elsewhere, opens the file for `append`.
///
/// While the coroutine unwinds, when other calls are refused, a write to a file is still done, by write(2): what a `BufWriter` holds
/// is not lost to a panic or a cancellation. Only where another handle reads or writes at the position of that file just then it is
/// refused, unless the file was opened for `append`. A cancelled coroutine that returns its error with `?` does not unwind, and
/// its writes are refused: flush inside [`coro::shield`](crate::coro::shield) first.
impl Write for &File {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if let Some(written) = last_chance(self, |mut std| std.write(buffer)) {
            return written;
        }
        let write = || self.write_from(buffer, AT_POSITION);
        moving(self, Transfer::Write, write)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        if let Some(written) = last_chance(self, |mut std| std.write_vectored(buffers)) {
            return written;
        }
        let write = || self.write_vectored_from(buffers, AT_POSITION);
        moving(self, Transfer::Write, write)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Moves the position, after a transfer there that is under way.
impl Seek for &File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let turns = self.position().turns(self);
        let _turn = turns
            .map(|turns| turns.lock().map_err(refused))
            .transpose()?;
        self.with_std(|mut file| file.seek(to))
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for File {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&*self).write(buffer)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        (&*self).seek(to)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    //! Goal: a file leaves nothing behind, also when somebody takes its descriptor over.
    use super::*;

    #[test]
    fn turns_go_with_the_last_handle() {
        let file = File::from_std(std::fs::File::open("/proc/self/exe").expect("a program"));
        let turns = Arc::downgrade(file.position().turns(&file).expect("a file"));
        let clone = file.try_clone().expect("a descriptor is left");
        drop(file.into_std());
        assert_eq!(turns.strong_count(), 1);
        drop(clone);
        assert_eq!(turns.strong_count(), 0);
    }
}
