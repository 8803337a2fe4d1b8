//! The caller's memory, as the kernel sees it: addresses in SQEs.
//!
//! All access of the simulation to memory that is not its own happens in this file, under the promise that
//! [`Backend::push`](crate::Backend::push) asks for: from push to terminal CQE the memory is there and nobody else
//! uses it. The simulation does not only rely on that promise, it checks it:
//!
//! * A buffer that the kernel may write is filled with poison from submission on. Just before the completion the
//!   old contents come back and the real bytes go in. Who reads too early gets poison; who writes too early has
//!   destroyed the poison, and the simulation stops with a message.
//! * A buffer that the kernel may read is remembered by its checksum. Who changes it too early is caught the same
//!   way.

#![expect(unsafe_code, reason = "follows the addresses in SQEs")]

use std::ffi::CStr;

/// Reads a value of the kernel's interface (a timespec, an iovec) at `address`.
///
/// # Safety
/// `T` is plain data, and the promise of `push` covers it.
pub(super) unsafe fn read<T: Copy>(address: u64) -> T {
    // SAFETY: the caller's promise.
    unsafe { pointer::<T>(address).read_unaligned() }
}

/// Reads `length` bytes at `address`.
///
/// # Safety
/// The promise of `push` covers them.
pub(super) unsafe fn read_bytes(address: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    // SAFETY: the caller's promise for the source; the destination is fresh and of that length.
    unsafe { pointer::<u8>(address).copy_to_nonoverlapping(bytes.as_mut_ptr(), length) };
    bytes
}

/// Reads a path at `address`.
///
/// # Safety
/// The promise of `push` covers a terminated string there.
pub(super) unsafe fn read_path(address: u64) -> Vec<u8> {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(pointer(address)) }
        .to_bytes()
        .to_vec()
}

/// Writes `bytes` at `address`.
///
/// # Safety
/// The promise of `push` covers writing there.
pub(super) unsafe fn write_bytes(address: u64, bytes: &[u8]) {
    // SAFETY: the caller's promise.
    unsafe { pointer::<u8>(address).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
}

/// Writes what an outcome says besides the buffers: an address and its length, a statx.
pub(super) fn land(address: u64, bytes: &[u8]) {
    // SAFETY: outcomes name only memory that push promised for writing until the CQE, which is not posted yet.
    unsafe { write_bytes(address, bytes) };
}

fn pointer<T>(address: u64) -> *mut T {
    std::ptr::with_exposed_provenance_mut(
        usize::try_from(address).expect("addresses are as wide as usize"),
    )
}

/// The buffers of one operation while the kernel has them.
#[derive(Debug)]
pub(super) struct Lent {
    /// Address and length of each.
    pub(super) pieces: Vec<(u64, usize)>,
    /// What was in them, if the kernel is going to write.
    saved: Option<Vec<u8>>,
    checksum: u64,
}

impl Lent {
    /// Takes buffers to read from.
    ///
    /// # Safety
    /// The promise of `push` covers the pieces until [`give_back`](Lent::give_back).
    pub(super) unsafe fn for_reading(pieces: Vec<(u64, usize)>) -> Lent {
        let mut lent = Lent {
            pieces,
            saved: None,
            checksum: 0,
        };
        lent.checksum = checksum(&lent.contents());
        lent
    }

    /// Takes buffers to write to, and poisons them.
    ///
    /// # Safety
    /// As for reading.
    pub(super) unsafe fn for_writing(pieces: Vec<(u64, usize)>, poison: u64) -> Lent {
        let mut lent = Lent {
            pieces,
            saved: None,
            checksum: 0,
        };
        let saved = lent.contents();
        let garbage: Vec<u8> = poison
            .to_le_bytes()
            .into_iter()
            .cycle()
            .take(saved.len())
            .collect();
        lent.fill(&garbage);
        lent.saved = Some(saved);
        lent.checksum = checksum(&garbage);
        lent
    }

    /// Total length.
    pub(super) fn length(&self) -> usize {
        self.pieces.iter().map(|(_, length)| length).sum()
    }

    /// What the pieces hold now.
    pub(super) fn contents(&self) -> Vec<u8> {
        let pieces = self.pieces.iter();
        // SAFETY: whoever made this promised it for all pieces.
        pieces
            .flat_map(|(address, length)| unsafe { read_bytes(*address, *length) })
            .collect()
    }

    /// Spreads `bytes` over the pieces from the start.
    fn fill(&self, mut bytes: &[u8]) {
        for (address, length) in &self.pieces {
            let (here, rest) = bytes.split_at(bytes.len().min(*length));
            // SAFETY: whoever made this promised it for all pieces.
            unsafe { write_bytes(*address, here) };
            bytes = rest;
        }
    }

    /// Ends the loan: checks that nobody touched the buffers, and puts in what was received.
    ///
    /// # Panics
    /// If the buffers were changed while the kernel had them.
    pub(super) fn give_back(self, received: &[u8]) {
        assert_eq!(
            checksum(&self.contents()),
            self.checksum,
            "a buffer at {:#x} was changed while an operation was in flight on it",
            self.pieces.first().map_or(0, |(address, _)| *address),
        );
        if let Some(saved) = &self.saved {
            self.fill(saved);
            self.fill(received);
        }
    }
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
