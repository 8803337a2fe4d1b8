//! One function for each operation: arguments in, the 64-byte image out.
//!
//! Building an SQE is safe, for it is only data. Handing it to the kernel is not: [`Ring::submit`](crate::Ring::submit)
//! asks for the promise that the memory behind its pointers stays valid until the operation's token came back.
//! Each function says which memory that is. All of it, including paths, addresses and times that most kernels
//! copy at submission: one rule is easier to keep than two.
//!
//! Lengths above 0x7fff_f000 are cut to that, the most that Linux transfers at once; a short count is a success
//! that callers have to expect anyway.
//!
//! Not here: what the results mean to std's types, loops for short counts, options that only one caller needs.
//! The builders of the io-uring crate are re-exported as [`opcode`](crate::opcode) for those.

pub mod cancel;
pub mod fs;
pub mod msg;
pub mod net;
pub mod process;
pub(crate) mod raw;
pub mod time;

/// The most bytes that one operation transfers: `MAX_RW_COUNT`, read(2).
pub const MAX_TRANSFER: usize = 0x7fff_f000;

/// `length`, cut to what one operation can transfer.
#[expect(clippy::cast_possible_truncation, reason = "cut to 31 bits before")]
pub(crate) fn transfer(length: usize) -> u32 {
    length.min(MAX_TRANSFER) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_cut_not_wrapped() {
        assert_eq!(transfer(0), 0);
        assert_eq!(transfer(4096), 4096);
        assert_eq!(transfer(1 << 32), 0x7fff_f000);
        assert_eq!(transfer(usize::MAX), 0x7fff_f000);
    }
}
