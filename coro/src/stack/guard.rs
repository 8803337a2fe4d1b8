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

impl GuardKind {
    /// Makes `[start, start + bytes)` inaccessible.
    ///
    /// # Safety
    ///
    /// The range is page-aligned, lies in a private anonymous mapping of the caller, and nothing uses it.
    pub(crate) unsafe fn install(self, start: *mut u8, bytes: usize) -> io::Result<()> {
        let outcome = match self {
            // SAFETY: the caller owns the range and nothing uses it.
            Self::Marker => unsafe { libc::madvise(start.cast(), bytes, MADV_GUARD_INSTALL) },
            // SAFETY: the caller owns the range and nothing uses it.
            Self::Mprotect => unsafe { libc::mprotect(start.cast(), bytes, libc::PROT_NONE) },
        };
        if outcome == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}
