//! What comes back of an operation: whom to wake, and how it ended.

use std::num::NonZeroUsize;
use std::ptr::NonNull;

/// The completion names a provided buffer: `IORING_CQE_F_BUFFER`.
pub const CQE_F_BUFFER: u32 = 1 << 0;
/// More completions of this operation follow: `IORING_CQE_F_MORE`.
pub const CQE_F_MORE: u32 = 1 << 1;
/// The buffer of a zero-copy send is free again: `IORING_CQE_F_NOTIF`.
pub const CQE_F_NOTIF: u32 = 1 << 3;

/// A word of the owner's choice, handed back when the operation has completed.
///
/// The ring never looks inside. A scheduler puts the address of the parked coroutine here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Token(NonNull<()>);

impl Token {
    /// A token that carries a pointer, with its provenance.
    #[inline]
    #[must_use]
    pub const fn new(pointer: NonNull<()>) -> Token {
        Token(pointer)
    }

    /// A token that carries a plain number.
    #[inline]
    #[must_use]
    pub const fn from_number(number: NonZeroUsize) -> Token {
        Token(NonNull::without_provenance(number))
    }

    /// The pointer given to [`Token::new`].
    #[inline]
    #[must_use]
    pub const fn pointer(self) -> NonNull<()> {
        self.0
    }

    /// The number given to [`Token::from_number`].
    #[inline]
    #[must_use]
    pub fn number(self) -> NonZeroUsize {
        self.0.addr()
    }
}

/// How an operation ended: the two words of its terminal CQE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// What the matching system call would have returned, or a negated errno.
    pub result: i32,
    /// `IORING_CQE_F_*`.
    pub flags: u32,
}

impl Completion {
    /// Whether more completions of the operation follow.
    #[inline]
    #[must_use]
    pub fn more(self) -> bool {
        self.flags & CQE_F_MORE != 0
    }

    /// The provided buffer that was used.
    #[inline]
    #[must_use]
    pub fn buffer_id(self) -> Option<u16> {
        (self.flags & CQE_F_BUFFER != 0).then_some((self.flags >> 16) as u16)
    }

    /// The result as std would give it.
    ///
    /// # Errors
    /// The errno of the operation, when the result is negative.
    #[inline]
    pub fn into_result(self) -> std::io::Result<u32> {
        u32::try_from(self.result).map_err(|_| std::io::Error::from_raw_os_error(-self.result))
    }
}
