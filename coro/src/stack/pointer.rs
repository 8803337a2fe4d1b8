//! Where the running stack ends at this moment.
//!
//! Not the address of a local: AddressSanitizer keeps locals elsewhere, so that it can say which of them are used after their
//! function has returned. By such an address a healthy stack was taken for a full one, and no backtrace was made of it.
#![expect(unsafe_code, reason = "assembly")]

/// The stack pointer, to within the frame of whoever asks.
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        let pointer: usize;
        // SAFETY: copies one register, and nothing else.
        unsafe {
            std::arch::asm!("mov {}, rsp", out(reg) pointer, options(nomem, nostack, preserves_flags));
        }
        pointer
    }
    #[cfg(target_arch = "aarch64")]
    {
        let pointer: usize;
        // SAFETY: copies one register, and nothing else.
        unsafe {
            std::arch::asm!("mov {}, sp", out(reg) pointer, options(nomem, nostack, preserves_flags));
        }
        pointer
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let here = 0_u8;
        (&raw const here).addr()
    }
}
