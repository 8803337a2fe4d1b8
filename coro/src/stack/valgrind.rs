//! Tells valgrind where stacks are.
//!
//! Without that it takes a switch for a jump of the stack pointer inside one huge stack and reports nonsense. A
//! client request is a sequence of instructions that does nothing outside of valgrind (valgrind.h, "The client
//! request mechanism"); it is made once per stack, when a chunk is mapped. Stacks are not deregistered: their
//! addresses go back to the kernel with the scheduler, at the end of a core's life.
#![expect(unsafe_code, reason = "the client request is an instruction sequence")]

/// `VG_USERREQ__STACK_REGISTER` of `<valgrind/valgrind.h>`.
#[cfg(target_arch = "x86_64")]
const STACK_REGISTER: u64 = 0x1501;

/// Registers `[low, high)` as a stack.
#[cfg(target_arch = "x86_64")]
pub(super) fn register(low: usize, high: usize) {
    let arguments = [STACK_REGISTER, low as u64, high as u64, 0, 0, 0];
    // SAFETY: on a processor, four rotations by 128 bits in all and an exchange of a register with itself; under
    // valgrind, a call that reads `arguments` and writes its result to rdx.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            inout("rdx") 0u64 => _,
            in("rax") arguments.as_ptr(),
            options(nostack),
        );
    }
}

/// Valgrind runs elsewhere too, but nobody has tried this there.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn register(_low: usize, _high: usize) {}
