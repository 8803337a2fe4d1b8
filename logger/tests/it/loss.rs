//! Goal: lines that cannot be kept are counted, each once, and told; their neighbours are whole.

use coring_logger::{Logger, info};

use crate::exclusive;

#[test]
fn a_line_too_long_for_its_ring_is_counted() {
    let _turn = exclusive();
    let (builder, lines) = Logger::builder()
        .thread_ring_bytes(4096)
        .pattern("{message}")
        .memory();
    let logger = builder.start().expect("starts");
    let before = logger.stats().dropped[2]; // It counts for the process.
    std::thread::spawn(|| {
        info!("{}", "x".repeat(3000));
        info!("next");
    })
    .join()
    .expect("the thread ends well");
    logger.flush().expect("flushes");
    assert_eq!(logger.stats().dropped[2], before + 1);
    logger.shutdown();
    let text = lines.text();
    assert!(
        text.starts_with("1 lines of thread ring ") && text.ends_with("(1 info)\nnext\n"),
        "{text}"
    );
}

/// Goal: lines that were lost count for good, once each, also while the drain lets go of the ring that lost them, and after its logger has ended.
/// Method: thread after thread loses a line and ends; another asks all the time, and the sum may only ever grow, by one for each thread.
#[test]
fn what_was_lost_counts_once_and_for_good() {
    const THREADS: u64 = 300;
    let _turn = exclusive();
    let (builder, _lines) = Logger::builder().thread_ring_bytes(4096).memory();
    let logger = builder.start().expect("starts");
    let lost = |logger: &Logger| logger.stats().dropped.iter().sum::<u64>();
    let before = lost(&logger);
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = before;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let now = lost(&logger);
                assert!(now >= seen, "{now} lines lost, and {seen} before");
                seen = now;
            }
        });
        for _ in 0..THREADS {
            std::thread::spawn(|| info!("{}", "x".repeat(3000)))
                .join()
                .expect("the thread ends well");
            logger.flush().expect("flushes");
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        watcher.join().expect("the sum only grew");
    });
    assert_eq!(lost(&logger), before + THREADS);
    logger.shutdown();
    let logger = Logger::builder().memory().0.start().expect("starts");
    assert_eq!(lost(&logger), before + THREADS, "since the process began");
    logger.shutdown();
}

/// Goal: a line that is longer than any record may be is counted as lost, also where the ring has room for it; its neighbours are whole.
/// Method: a ring of 8 MiB, and fields that are longer than a record's size can say.
#[test]
fn a_line_too_long_for_a_record_is_counted() {
    let _turn = exclusive();
    let (builder, lines) = Logger::builder()
        .thread_ring_bytes(8 << 20)
        .pattern("{message}")
        .memory();
    let logger = builder.start().expect("starts");
    let dropped = || logger.stats().dropped.iter().sum::<u64>();
    let before = dropped(); // by rings of other tests' threads
    std::thread::spawn(|| {
        let t = "x".repeat(16_000);
        let four = (&*t, &*t, &*t, &*t);
        info!("before");
        info!(
            a = four,
            b = four,
            c = four,
            d = four,
            e = four,
            f = four,
            g = four,
            h = four,
            i = four,
            "long"
        );
        info!("after");
    })
    .join()
    .expect("it logs");
    assert_eq!(dropped(), before + 1);
    logger.shutdown();
    let text = lines.text();
    assert!(
        text.starts_with("before\n") && text.ends_with("after\n"),
        "{text}"
    );
}
