//! What a burst needed of the receive pool goes back when it has been cold for a while.
#![expect(unsafe_code, reason = "asks the kernel which pages are in memory")]

use coring::io::RecvBuffer;
use coring::net::UnixStream;
use coring::uring::Feature;
use coring::{Runtime, coro};
use coring_tests::lane::is_allowed;
use coring_tests::{alone, builder, skip};
use std::io::Write;
use std::time::Duration;

const PAGE: usize = 4096;

/// How many of the pages with these addresses are in memory.
fn resident(addresses: &[usize]) -> usize {
    let is_resident = |address: &usize| {
        let mut state = 0_u8;
        let page = std::ptr::without_provenance_mut(address & !(PAGE - 1));
        // SAFETY: only asks about a page of this process, and writes one byte for it.
        let asked = unsafe { libc::mincore(page, PAGE, &raw mut state) };
        assert_eq!(asked, 0, "the pool is mapped");
        state & 1 != 0
    };
    addresses.iter().filter(|it| is_resident(it)).count()
}

#[test]
fn memory_of_a_burst_goes_back() {
    // Goal: buffers that a burst has brought into use lose their memory when few are needed for some seconds, while others come and
    // go with all of their bytes, and serve the next burst.
    // Method: a buffer each for many connections at once, then one at a time until the pool says that it is small again; the kernel
    // is asked for the pages. Where the kernel takes no buffers nothing grows.
    const CROWD: usize = 200;
    if !is_allowed(Feature::BufferRing) {
        skip!("without rings of buffers there is no pool");
    }
    alone(|| {
        let runtime = builder(1).receive_pool(256, PAGE).build().unwrap();
        runtime.run(|| {
            let own = || {
                let stats = Runtime::stats().unwrap();
                stats[0].receive_buffers.expect("it was used")
            };
            let pairs: Vec<_> = (0..CROWD).map(|_| UnixStream::pair().unwrap()).collect();
            let burst = |round: usize| -> Vec<RecvBuffer> {
                let receive = |(number, (here, there)): (usize, &(UnixStream, UnixStream))| {
                    let message = (number + round).to_ne_bytes().repeat(20);
                    (&*there).write_all(&message).unwrap();
                    let buffer = here.recv_buffer().unwrap();
                    assert_eq!(*buffer, message);
                    buffer
                };
                pairs.iter().enumerate().map(receive).collect()
            };
            let held = burst(0);
            assert!(held.iter().all(|buffer| !buffer.is_from_heap()));
            let addresses: Vec<_> = held.iter().map(|buffer| buffer.as_ptr().addr()).collect();
            assert_eq!(resident(&addresses), CROWD);
            assert_eq!(own().used, 256);
            drop(held);
            let mut round = 0;
            while own().used > 32 {
                round += 1;
                let (here, there) = &pairs[round % CROWD];
                let message = round.to_ne_bytes();
                (&*there).write_all(&message).unwrap();
                assert_eq!(*here.recv_buffer().unwrap(), message);
                coro::sleep(Duration::from_millis(20));
            }
            assert_eq!(own().available, 256, "all are there");
            let left = resident(&addresses);
            assert!(left <= 32, "{left} of {CROWD} pages are in memory");
            assert_eq!(burst(1).len(), CROWD);
        });
    });
}
