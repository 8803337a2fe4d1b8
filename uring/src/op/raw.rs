//! The SQE as the kernel reads it: the 64 bytes behind the builders.
//!
//! The io-uring crate builds entries and does not let them be read. Three need to: a simulated kernel, the check
//! that an operation with many completions is not handed to a path that expects one, and the ring, for whom receives are not like
//! others. And entries are made such that they go from registers into the queue.

#![expect(unsafe_code, reason = "looks at the bytes of an entry")]

use crate::{Sqe, opcode};

/// `struct io_uring_sqe`, with the names of the fields as most operations use them.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct RawSqe {
    pub(crate) opcode: u8,
    pub(crate) flags: u8,
    pub(crate) ioprio: u16,
    pub(crate) fd: i32,
    pub(crate) off: u64,
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) op_flags: u32,
    pub(crate) user_data: u64,
    /// Or the group of provided buffers, with [`BUFFER_SELECT`].
    pub(crate) buf_index: u16,
    pub(crate) personality: u16,
    pub(crate) file_index: u32,
    pub(crate) addr3: u64,
    pub(crate) pad: u64,
}

const _: () = assert!(
    size_of::<RawSqe>() == 64 && size_of::<Sqe>() == 64,
    "both are the kernel's 64 bytes"
);

/// `IOSQE_BUFFER_SELECT`: the kernel picks a provided buffer.
pub(crate) const BUFFER_SELECT: u8 = 1 << 5;
/// `IORING_ACCEPT_MULTISHOT`, in `ioprio`.
pub(crate) const ACCEPT_MULTISHOT: u16 = 1 << 0;
/// `IORING_RECV_MULTISHOT`, in `ioprio`.
pub(crate) const RECV_MULTISHOT: u16 = 1 << 1;
/// `IORING_POLL_ADD_MULTI`, in `len`.
pub(crate) const POLL_MULTISHOT: u32 = 1 << 0;
/// `IORING_TIMEOUT_MULTISHOT`, in `op_flags`.
const TIMEOUT_MULTISHOT: u32 = 1 << 6;

/// The image that the kernel would read.
#[inline(always)]
pub(crate) fn decode(sqe: &Sqe) -> RawSqe {
    // SAFETY: both types are 64 bytes of plain integers with the kernel's layout.
    unsafe { std::mem::transmute_copy(sqe) }
}

/// The same entry, in words.
///
/// The builders zero an entry and then write its fields. What lies behind the last field is one piece for the compiler, 22 bytes for a
/// read: it zeroes them in memory and copies them from there, in other parts than they were written in, for which the processor waits.
/// Of a word it sees that it is zero.
#[inline(always)]
pub(crate) fn in_words(sqe: &Sqe) -> Sqe {
    // SAFETY: an entry is eight words of plain integers.
    let words: [u64; 8] = unsafe { std::mem::transmute_copy(sqe) };
    let [a, b, c, d, e, f, g, h] = words;
    // SAFETY: as above.
    unsafe { std::mem::transmute([a, b, c, d, e, f, g, h]) }
}

/// Whether the operation may complete more than once with a result each time. A zero-copy send does not count: its
/// second completion is a notification.
pub(crate) fn is_multishot(sqe: &Sqe) -> bool {
    let raw = decode(sqe);
    match raw.opcode {
        opcode::Accept::CODE => raw.ioprio & ACCEPT_MULTISHOT != 0,
        opcode::Recv::CODE | opcode::RecvMsg::CODE => raw.ioprio & RECV_MULTISHOT != 0,
        opcode::PollAdd::CODE => raw.len & POLL_MULTISHOT != 0,
        opcode::Timeout::CODE => raw.op_flags & TIMEOUT_MULTISHOT != 0,
        opcode::ReadMulti::CODE => true,
        _ => false,
    }
}

/// Whether the operation waits for a message.
#[inline(always)]
pub(crate) fn is_receive(sqe: &Sqe) -> bool {
    matches!(
        decode(sqe).opcode,
        opcode::Recv::CODE | opcode::RecvMsg::CODE
    )
}

/// Whether the operation ends others, or gives back the descriptor that they name.
#[inline(always)]
pub(crate) fn may_end_others(sqe: &Sqe) -> bool {
    matches!(
        decode(sqe).opcode,
        opcode::Close::CODE | opcode::AsyncCancel::CODE
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Fd, TimeoutFlags};
    use crate::{op, types};

    #[test]
    fn multishot_operations_are_told_from_others() {
        let time = types::Timespec::new();
        let timeout = opcode::Timeout::new(&raw const time);
        for sqe in [
            op::net::accept_multishot(0, 0),
            op::net::recv_multishot(0, 0, 0),
            op::net::poll_multishot(0, 1),
            opcode::RecvMsgMulti::new(Fd(0), std::ptr::null(), 0).build(),
            opcode::ReadMulti::new(Fd(0), 0, 0).build(),
            timeout.flags(TimeoutFlags::MULTISHOT).build(),
        ] {
            assert!(is_multishot(&sqe), "{:?}", decode(&sqe));
        }
        for sqe in [
            op::msg::nop(),
            op::net::accept(0, std::ptr::null_mut(), std::ptr::null_mut(), 0),
            op::net::recv_pooled(0, 0, 1, 0),
            op::net::recv(0, std::ptr::null_mut(), 3, 0),
            op::net::poll_add(0, 1),
            op::net::send_zc(0, std::ptr::null(), 1, 0),
            op::time::timeout(&raw const time, true),
        ] {
            assert!(!is_multishot(&sqe), "{:?}", decode(&sqe));
        }
    }
}
