//! The memory of many parked coroutines, and what only the kernel can do about it: reserved addresses, a guard of 64 KiB
//! below each stack of 256 KiB, the top page of each stack present. One system call does each of these for 256 stacks.
//!
//! There are no coroutines: to wake and join one is to look at its page again.
#![expect(
    unsafe_code,
    reason = "system calls on a mapping of our own, and writes to it"
)]

use std::hint::black_box;
use std::io;
use std::ptr;

use crate::subject::Skip;
use crate::work::park::Census;

/// The default sizes of coring.
const STACK_BYTES: usize = 256 * 1024;
const GUARD_BYTES: usize = 64 * 1024;
const STRIDE: usize = STACK_BYTES + GUARD_BYTES;
const STACKS_A_CALL: usize = 256;
const PAGE_BYTES: usize = 4096;
/// `PIDFD_SELF_THREAD_GROUP` (Linux 6.14).
const THIS_PROCESS: libc::c_int = -10001;
/// `MADV_GUARD_INSTALL` (Linux 6.13).
const GUARD_INSTALL: libc::c_int = 102;

pub(super) fn park(tasks: usize) -> Result<(), Skip> {
    let mut tops: Vec<*mut usize> = Vec::with_capacity(tasks);
    let mut census = Census::start(tasks)?;
    while tops.len() < tasks {
        let count = STACKS_A_CALL.min(tasks - tops.len());
        let start = reserve(count * STRIDE)?;
        let guards = ranges(start, count, 0, GUARD_BYTES);
        let pages = ranges(start, count, STRIDE - PAGE_BYTES, PAGE_BYTES);
        advise(&guards, GUARD_INSTALL)?;
        advise(&pages, libc::MADV_POPULATE_WRITE)?;
        for (index, page) in pages.iter().enumerate() {
            // A cache line of its own, as a stack's top has.
            let top = page
                .iov_base
                .wrapping_byte_add(index % 32 * 64)
                .cast::<usize>();
            // SAFETY: it lies in the page, aligned, and the page is writable and nobody else's.
            unsafe { top.write(index) };
            tops.push(top);
        }
    }
    census.parked(tops.len())?;
    // SAFETY: as above; it was written.
    let indices = tops.iter().map(|top| unsafe { top.read() });
    black_box(indices.sum::<usize>());
    census.finish(tops.len());
    Ok(())
}

/// Addresses without memory. They stay until the process ends, which is soon.
fn reserve(bytes: usize) -> io::Result<*mut libc::c_void> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping, wherever there is room.
    let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping just made. A kernel without huge pages refuses, which is as good.
    let _ = unsafe { libc::madvise(start, bytes, libc::MADV_NOHUGEPAGE) };
    Ok(start)
}

/// The same part of each stack.
fn ranges(start: *mut libc::c_void, count: usize, at: usize, bytes: usize) -> Vec<libc::iovec> {
    let part = |index| libc::iovec {
        iov_base: start.wrapping_byte_add(index * STRIDE + at),
        iov_len: bytes,
    };
    (0..count).map(part).collect()
}

fn advise(ranges: &[libc::iovec], advice: libc::c_int) -> Result<(), Skip> {
    let wanted: usize = ranges.iter().map(|range| range.iov_len).sum();
    // SAFETY: the ranges lie in a mapping of our own that nobody uses yet.
    let advised = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            THIS_PROCESS,
            ranges.as_ptr(),
            ranges.len(),
            advice,
            0,
        )
    };
    if usize::try_from(advised) == Ok(wanted) {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    Err(Skip(format!(
        "this kernel takes no such advice ({advice}): {error}"
    )))
}
