//! Asks for memory ahead of its use: a hint, which changes nothing, and any address will do.
#![expect(unsafe_code, reason = "the intrinsic is declared unsafe")]

/// Begins to load the cache line at `address`, and to find its page.
#[inline(always)]
pub(crate) fn line<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch faults nowhere and has no effect that could be observed.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
