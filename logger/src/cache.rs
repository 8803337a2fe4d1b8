//! Hints for memory that two CPUs take turns with: one writes a line, the other reads it, and it comes round again.
//!
//! What was written here is read there, and must come back before it can be written again: a round trip for each line of 64 bytes, 27 ns between two
//! threads of one CPU, 100 between neighbours, 350 between CPUs far apart (EPYC, Zen 4). So
//!
//! - the writer fetches a batch of lines for writing before it needs them ([`fetch_for_writing`]), and
//! - the reader lets go of a line when it has read it ([`let_go`]). The line is then in memory, in no CPU's cache, and to fetch it for writing
//!   asks nobody. A burst of lines took 51 ns each between CPUs far apart, and takes 11 so, as many as between neighbours, where it
//!   changes nothing; the copy of the same bytes into a ring that another CPU has read takes 66.
//!
//! Hints change no memory. Where a processor has none, nothing happens.

#![expect(unsafe_code, reason = "hints to the processor, by address")]

/// The bytes of a line.
pub(crate) const LINE_BYTES: usize = 64;

/// Fetches the line at an address for writing.
#[inline(always)]
pub(crate) fn fetch_for_writing(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which changes neither memory nor flags and never faults. Processors without it take it for a no-op.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("prfm pstl1keep, [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// Lets go of a line that has been read and will not be again soon. Only where [`can_let_go`] says so.
#[inline(always)]
pub(crate) fn let_go(at: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: writes the line back to memory and drops it from the caches; what it holds stays the same. Callers give addresses that are mapped.
    unsafe {
        std::arch::asm!("clflushopt [{}]", in(reg) at, options(nostack, preserves_flags));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
}

/// Whether the processor lets go of lines without waiting for each. Asked once: in a virtual machine the question itself takes microseconds.
pub(crate) fn can_let_go() -> bool {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{__cpuid, __cpuid_count};
        use std::sync::LazyLock;

        /// Leaf 7, EBX (Intel's manual, volume 2A, CPUID).
        const CLFLUSHOPT: u32 = 1 << 23;
        static HAS: LazyLock<bool> =
            LazyLock::new(|| __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ebx & CLFLUSHOPT != 0);
        *HAS
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    false
}
