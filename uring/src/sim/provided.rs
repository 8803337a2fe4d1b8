//! Provided buffers, from the kernel's side: it reads the ring in the caller's memory and moves the head.

#![expect(unsafe_code, reason = "reads a ring in the caller's memory")]

use super::memory;
use crate::CQE_F_BUFFER;

/// One entry of `struct io_uring_buf_ring`, in bytes: address (8), length (4), id (2), and in the first one the tail.
const ENTRY_BYTES: u64 = 16;
const TAIL_OFFSET: u64 = 14;

/// A ring of buffers that was made known.
#[derive(Debug)]
pub(crate) struct Provided {
    address: u64,
    entries: u16,
    head: u16,
}

/// A buffer that was taken from a ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Picked {
    pub(crate) address: u64,
    pub(crate) length: usize,
    id: u16,
}

impl Picked {
    /// What the completion says about it.
    pub(crate) fn flags(&self) -> u32 {
        CQE_F_BUFFER | u32::from(self.id) << 16
    }

    /// What the kernel does before it tells.
    #[cfg(test)]
    pub(crate) fn fill(&self, bytes: &[u8]) {
        assert!(bytes.len() <= self.length, "the kernel writes no further");
        memory::land(self.address, bytes);
    }
}

impl Provided {
    pub(crate) fn new(address: u64, entries: u16) -> Provided {
        assert!(entries.is_power_of_two(), "the kernel takes no other");
        assert!(address.is_multiple_of(4096), "the kernel takes no other");
        Provided {
            address,
            entries,
            head: 0,
        }
    }

    /// With a head as after a long time.
    #[cfg(test)]
    pub(crate) fn starting_at(address: u64, entries: u16, head: u16) -> Provided {
        Provided {
            head,
            ..Provided::new(address, entries)
        }
    }

    /// The buffer at the head, which stays there until it is [taken](Provided::take).
    pub(crate) fn first(&self) -> Option<Picked> {
        // SAFETY: the ring lives as long as its owner's, by the promise of `provide_buffers`.
        let tail = unsafe { memory::read::<u16>(self.address + TAIL_OFFSET) };
        let filled = tail.wrapping_sub(self.head);
        assert!(
            filled <= self.entries,
            "more buffers were put in than the ring holds"
        );
        if filled == 0 {
            return None;
        }
        let entry = self.address + u64::from(self.head & (self.entries - 1)) * ENTRY_BYTES;
        // SAFETY: as above.
        let address = unsafe { memory::read::<u64>(entry) };
        // SAFETY: as above.
        let length = unsafe { memory::read::<u32>(entry + 8) };
        // SAFETY: as above.
        let id = unsafe { memory::read::<u16>(entry + 12) };
        Some(Picked {
            address,
            length: length as usize,
            id,
        })
    }

    /// As the kernel takes from an incremental ring: the entry goes on behind what was filled, and leaves when it is full.
    #[cfg(test)]
    pub(crate) fn use_up(&mut self, picked: &Picked, bytes: usize) {
        let entry = self.address + u64::from(self.head & (self.entries - 1)) * ENTRY_BYTES;
        let left = u32::try_from(picked.length - bytes).expect("as long as an entry says");
        memory::land(entry, &(picked.address + bytes as u64).to_ne_bytes());
        memory::land(entry + 8, &left.to_ne_bytes());
        if left == 0 {
            self.take();
        }
    }

    pub(crate) fn take(&mut self) {
        self.head = self.head.wrapping_add(1);
    }
}
