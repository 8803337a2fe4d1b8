//! The simulated ring: the backend that stands where `KernelRing` does.

#![expect(
    unsafe_code,
    reason = "implements a function with a contract on memory"
)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;

use super::SimKernel;
use super::execute::OPCODES;
use super::provided::Provided;
use crate::op::raw::{self, RawSqe};
use crate::{
    Backend, Capabilities, Cqe, Doorbell, Feature, Features, SetupOptions, SqFull, Sqe, Wait,
};

/// What an enter costs on the simulated clock: a loop of enters makes time pass.
const ENTER_NS: u64 = 100;
/// What a look at the clock costs: a loop that waits for a time gets there.
const CLOCK_NS: u64 = 20;

/// One ring of a [`SimKernel`].
#[derive(Debug)]
pub struct SimRing {
    kernel: SimKernel,
    fd: RawFd,
    sq: VecDeque<RawSqe>,
    capabilities: Capabilities,
    doorbell: Doorbell,
}

impl SimRing {
    pub(super) fn new(kernel: SimKernel, options: &SetupOptions) -> SimRing {
        let sq_entries = options.sq_entries.max(1).next_power_of_two();
        let cq_entries = options.cq_entries.max(sq_entries).next_power_of_two();
        let fd = kernel.world().add_ring(cq_entries);
        let doorbell = kernel.world().ring(fd).doorbell.clone();
        let mut capabilities = Capabilities {
            features: Features::NONE,
            opcodes: [0; 4],
            setup_flags: 0,
            sq_entries,
            cq_entries,
        };
        for code in OPCODES {
            capabilities.opcodes[usize::from(code) / 64] |= 1 << (code % 64);
        }
        // What is decided by opcode, as far as it needs nothing beyond the opcode.
        for feature in [
            Feature::MsgRing,
            Feature::MultishotAccept,
            Feature::MultishotRecv,
            Feature::BufferRing,
            Feature::SendZc,
            Feature::Ftruncate,
            Feature::RegisteredBuffers,
        ] {
            if options.features.has(feature) {
                capabilities.features = capabilities.features.with(feature);
            }
        }
        SimRing {
            kernel,
            fd,
            sq: VecDeque::new(),
            capabilities,
            doorbell,
        }
    }

    /// Sleeps until there is a completion, time being what the next event makes it.
    fn sleep(&mut self, deadline_ns: Option<u64>) {
        loop {
            let mut world = self.kernel.world();
            world.settle();
            world.post(self.fd);
            if !world.ring(self.fd).cq.is_empty() || world.strikes(|faults| faults.early_return) {
                return;
            }
            let until = match (world.next_event_ns(), deadline_ns) {
                (Some(event), Some(deadline)) => event.min(deadline),
                (Some(event), None) => event,
                (None, Some(deadline)) => deadline,
                (None, None) => panic!(
                    "a simulated ring sleeps without a deadline, and nothing is left in its world that could wake \
                     it: a lost wake-up, or a deadlock"
                ),
            };
            world.clock_ns = world.clock_ns.max(until);
            if deadline_ns.is_some_and(|deadline| deadline <= world.clock_ns) {
                world.settle();
                world.post(self.fd);
                return;
            }
        }
    }
}

impl Backend for SimRing {
    unsafe fn push(&mut self, sqe: &Sqe) -> Result<(), SqFull> {
        if self.is_full() {
            return Err(SqFull);
        }
        self.sq.push_back(raw::decode(sqe));
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.sq.len() == self.capabilities.sq_entries as usize
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let mut world = self.kernel.world();
        world.clock_ns += ENTER_NS;
        if !self.sq.is_empty() && world.strikes(|faults| faults.busy) {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        let mut count = self.sq.len();
        if count > 1 && world.strikes(|faults| faults.partial_submit) {
            count = 1 + world.chance.index(count);
        }
        for sqe in self.sq.drain(..count) {
            world.submit(self.fd, sqe);
        }
        world.settle();
        world.post(self.fd);
        let steps_itself = world.steps_itself;
        drop(world);
        match wait {
            // A short submission skips the wait, as in the real one.
            Wait::Until(deadline_ns) if self.sq.is_empty() && steps_itself => {
                self.sleep(deadline_ns)
            }
            _ => {}
        }
        Ok(())
    }

    fn reap(&mut self, sink: &mut impl FnMut(Cqe)) -> usize {
        // The queue is taken out first: the sink may look at the simulation.
        let cqes = std::mem::take(&mut self.kernel.world().ring(self.fd).cq);
        let count = cqes.len();
        cqes.into_iter().for_each(sink);
        count
    }

    fn pending(&self) -> u32 {
        u32::try_from(self.sq.len()).expect("bounded by the queue")
    }

    fn has_events(&self) -> bool {
        let mut world = self.kernel.world();
        let now = world.clock_ns;
        world.ring(self.fd).has_events(now)
    }

    fn overflows(&self) -> u64 {
        self.kernel.world().ring(self.fd).overflows
    }

    fn now_ns(&self) -> u64 {
        let mut world = self.kernel.world();
        world.clock_ns += CLOCK_NS;
        world.clock_ns
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn ring_fd(&self) -> RawFd {
        self.fd
    }

    fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    unsafe fn close(&mut self, fd: RawFd) {
        let closed = self.kernel.world().close(fd);
        closed.expect("a descriptor that came with a completion is open");
    }

    unsafe fn provide_buffers(
        &mut self,
        address: u64,
        entries: u16,
        group: u16,
        incremental: bool,
    ) -> io::Result<()> {
        if incremental {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut world = self.kernel.world();
        let provided = Provided::new(address, entries);
        let before = world.ring(self.fd).provided.insert(group, provided);
        assert!(before.is_none(), "a group is named once");
        Ok(())
    }

    unsafe fn register_buffers(&mut self, buffers: &[libc::iovec]) -> io::Result<()> {
        let mut world = self.kernel.world();
        let registered = &mut world.ring(self.fd).registered;
        if !registered.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        let pieces = buffers.iter().map(|buffer| {
            let address = buffer.iov_base.expose_provenance() as u64;
            (address, buffer.iov_len)
        });
        registered.extend(pieces);
        Ok(())
    }
}

impl Drop for SimRing {
    fn drop(&mut self) {
        self.doorbell.disconnect();
        let state = self.kernel.world().rings.remove(&self.fd);
        let lends = state.is_some_and(|state| state.lends());
        assert!(
            !lends || std::thread::panicking(),
            "a simulated ring was dropped with buffers lent to it"
        );
    }
}
