//! Guard pages: what a stack that grows too far runs into.
//!
//! Two ways, tried in this order when the first chunk of stacks is made:
//!
//! | way | since | mappings a stack | what limits it |
//! |---|---|---|---|
//! | `MADV_GUARD_INSTALL` | Linux 6.13 | 0: a marker in the page table | memory |
//! | `mprotect(PROT_NONE)` | always | 2 | `vm.max_map_count`, 65,530 by default: 32,705 stacks |
//!
//! A guard is at least 64 KiB: Rust probes every page of a large frame, C compilers often do not, and a C
//! function with a big buffer must still land inside the guard.
#![expect(unsafe_code, reason = "madvise and mprotect on our own mapping")]

use super::advise::advise;
use std::io;

/// `MADV_GUARD_INSTALL` of `<linux/mman.h>` (madvise(2), Linux 6.13), not yet in every libc crate.
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// How guards are made on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GuardKind {
    /// Page-table markers; no mapping is split.
    Marker,
    /// Two mappings a stack.
    Mprotect,
}

/// Makes the ranges inaccessible by markers. On failure, how many were done, and why not the next.
///
/// # Safety
///
/// The ranges are page-aligned, lie in a private anonymous mapping of the caller, and nothing uses them.
pub(super) unsafe fn install_markers(ranges: &[libc::iovec]) -> Result<(), (usize, io::Error)> {
    // SAFETY: passed on to the caller.
    unsafe { advise(ranges, MADV_GUARD_INSTALL) }
}

/// Makes the ranges inaccessible by protection. On failure, how many were done, and why not the next.
///
/// # Safety
///
/// As [`install_markers`].
pub(super) unsafe fn protect(ranges: &[libc::iovec]) -> Result<(), (usize, io::Error)> {
    for (done, range) in ranges.iter().enumerate() {
        // SAFETY: passed on to the caller.
        let outcome = unsafe { libc::mprotect(range.iov_base, range.iov_len, libc::PROT_NONE) };
        if outcome != 0 {
            return Err((done, io::Error::last_os_error()));
        }
    }
    Ok(())
}
