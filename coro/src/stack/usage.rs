//! How deep stacks go, per spawn site, by sampling.
//!
//! A stack is reused warm, so the pages it holds say how deep *any* of its users went. One spawn in a few thousand
//! therefore gets a stack whose pages were given back before, and one in 64 of those that get a fresh stack anyhow is
//! taken as well. When such a coroutine ends, its stack is measured: the lowest page that holds memory
//! (mincore(2)), and in it the lowest word that is not zero. What was reserved and never written does not count.
//!
//! The table is bounded; samples of further spawn sites are counted in nothing.
#![expect(
    unsafe_code,
    reason = "asks the kernel about, and reads, the memory of a finished stack"
)]

use super::Slot;
use std::panic::Location;

/// Spawn sites in the table.
const MAX_SITES: usize = 256;
/// Pages asked about in one call.
const PORTION: usize = 64;

/// How deep the stacks of one spawn site went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SiteUsage {
    /// The spawn site.
    pub spawn_site: &'static Location<'static>,
    /// Usable bytes of its stacks.
    pub stack_bytes: usize,
    /// How many coroutines have been measured.
    pub samples: u64,
    /// The deepest of them, in bytes from the top of the stack.
    pub high_water_bytes: usize,
}

/// The table of one scheduler.
#[derive(Debug, Default)]
pub(super) struct Usage {
    sites: Vec<SiteUsage>,
}

impl Usage {
    pub(super) fn record(&mut self, slot: Slot, site: &'static Location<'static>, used: usize) {
        let stack_bytes = slot.top - slot.limit;
        let known = self
            .sites
            .iter_mut()
            .find(|known| std::ptr::eq(known.spawn_site, site) && known.stack_bytes == stack_bytes);
        if let Some(known) = known {
            known.samples += 1;
            known.high_water_bytes = known.high_water_bytes.max(used);
        } else if self.sites.len() < MAX_SITES {
            self.sites.push(SiteUsage {
                spawn_site: site,
                stack_bytes,
                samples: 1,
                high_water_bytes: used,
            });
        }
    }

    pub(super) fn sites(&self) -> &[SiteUsage] {
        &self.sites
    }
}

/// Bytes of this stack that hold memory, looked at from the top down to the first [`PORTION`] of pages without any.
pub(super) fn resident_bytes(slot: Slot, page_bytes: usize) -> usize {
    let mut pages = 0;
    portions(slot, page_bytes, |_, resident| {
        pages += resident.iter().filter(|page| **page & 1 != 0).count();
    });
    pages * page_bytes
}

/// Bytes from the top of the stack to the lowest word that was written.
pub(super) fn high_water_bytes(slot: Slot, page_bytes: usize) -> usize {
    let mut lowest = slot.top;
    portions(slot, page_bytes, |start, resident| {
        if let Some(index) = resident.iter().position(|page| *page & 1 != 0) {
            lowest = start + index * page_bytes;
        }
    });
    let page = std::ptr::with_exposed_provenance::<u64>(lowest);
    let words = if lowest < slot.top {
        page_bytes / size_of::<u64>()
    } else {
        0
    };
    let written = (0..words).find(|&index| {
        // SAFETY: the page lies in the usable part of the slot.
        let word = unsafe { page.add(index) };
        // SAFETY: mapped and aligned; nobody writes to the stack of a finished coroutine.
        unsafe { word.read_volatile() != 0 }
    });
    slot.top - lowest - written.unwrap_or(0) * size_of::<u64>()
}

/// Visits the stack from the top down, as long as there is memory in it: address of the portion, a byte a page.
fn portions(slot: Slot, page_bytes: usize, mut visit: impl FnMut(usize, &[u8])) {
    let mut end = slot.top;
    while end > slot.limit {
        let start = slot.limit.max(end.saturating_sub(PORTION * page_bytes));
        let mut resident = [0u8; PORTION];
        let address = std::ptr::without_provenance_mut(start);
        // SAFETY: the range is part of our own mapping, and the array has a byte for each of its pages.
        let outcome = unsafe { libc::mincore(address, end - start, resident.as_mut_ptr()) };
        let resident = &resident[..(end - start) / page_bytes];
        if outcome != 0 || resident.iter().all(|page| *page & 1 == 0) {
            return;
        }
        visit(start, resident);
        end = start;
    }
}
