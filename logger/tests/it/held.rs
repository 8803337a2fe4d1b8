//! Goal: what a sink has not taken is still in a ring, and so survives the process.

use coring_logger::{Logger, Recovered, Sink, Text, info};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::crash::{PART, child, counter, numbers, scratch};
use crate::exclusive;

/// A drain that is in the middle of its first write when it is killed.
pub(crate) fn stuck(directory: &Path, lines: u64) {
    struct Stuck(&'static AtomicU64);
    impl Sink for Stuck {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            self.0.store(1, Ordering::SeqCst);
            loop {
                std::thread::park();
            }
        }
    }
    let (_logger, drain) = Logger::builder()
        .pattern("{message}")
        .crash_ring(directory.join("ring"))
        .sink(Stuck(counter(directory)))
        .build()
        .expect("starts");
    for number in 0..lines {
        info!("line {}", number);
    }
    drain.run();
}

#[test]
fn lines_stay_in_the_ring_until_the_sink_has_them() {
    // Goal: the drain gives no byte of a ring back before the sink has taken its line. Method: the sink never returns from its first write, at the
    // end of a pass or, with more than an eighth of the ring, in the middle of one; then kill -9; every line is in the crash ring.
    if std::env::var_os(PART).is_some() {
        return;
    }
    let _turn = exclusive();
    for lines in [10, 1000] {
        let directory = scratch();
        let writes = counter(directory.path());
        let mut child = child(&format!("stuck after {lines}"), directory.path());
        while writes.load(Ordering::SeqCst) == 0 {
            let ended = child.try_wait().expect("waits");
            assert!(ended.is_none(), "the child ended by itself");
            std::thread::yield_now();
        }
        child.kill().expect("kills");
        child.wait().expect("waits");
        let recovered = Recovered::open(&directory.path().join("ring")).expect("a crash ring");
        let mut text = Vec::new();
        recovered.format(&mut "{message}".parse::<Text>().expect("valid"), &mut text);
        let text = String::from_utf8(text).expect("text");
        assert!(
            numbers(&text, "line ").into_iter().eq(0..lines),
            "of {lines} there are {}",
            recovered.len()
        );
    }
}
