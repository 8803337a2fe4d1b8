//! Goal: the protocol never lets writer and reader touch the same word at once, and loses nothing it did not report.

use super::*;

/// Random sizes and random reader progress: every record handed out is contiguous, inside free space, and in order.
#[cfg(not(loom))]
mod model {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn records_are_contiguous_and_never_overlap(
            start in 0u64..1000,
            batch in 0u64..=32,
            steps in prop::collection::vec((1u64..=8, any::<bool>(), any::<bool>(), 0usize..4), 1..300),
        ) {
            let capacity = 256;
            let (start, batch) = (start * 8, batch * 8);
            let shared = Shared::new();
            shared.head.0.position.store(start, Ordering::Relaxed);
            shared.tail.0.store(start, Ordering::Relaxed);
            let writer = Writer::new(capacity, start, batch);
            let mut reader = Reader::new(&shared);
            let mut live: VecDeque<(u64, u64)> = VecDeque::new();
            for (words, urgent, publish, consume) in steps {
                let size = words * 8;
                let mut at = writer.begin(size, urgent);
                if let Some(at) = at {
                    prop_assert!(at + size - reader.published(&shared) <= batch, "beyond its batch");
                    writer.finish(at + size);
                }
                while at.is_none() && !writer.fits(size, urgent) {
                    match writer.refill(&shared, size, urgent) {
                        Room::Ready => prop_assert!(writer.fits(size, urgent)),
                        Room::Wrap(skip) => {
                            live.push_back((writer.position(), skip));
                            writer.advance(skip);
                            prop_assert_eq!(writer.position() % capacity, 0);
                        }
                        Room::Full => break,
                    }
                }
                if at.is_none() && writer.fits(size, urgent) {
                    at = Some(writer.position());
                    writer.advance(size);
                    writer.publish(&shared, Since::Nothing);
                    writer.open();
                }
                if let Some(at) = at {
                    prop_assert!(at % capacity + size <= capacity, "split at the end");
                    let room = if urgent { capacity } else { capacity - capacity / 8 };
                    prop_assert!(at + size - reader.released() <= room, "overwrites unread bytes");
                    live.push_back((at, size));
                } else {
                    // A full ring must really be full: with everything read, any record fits.
                    prop_assert!(!live.is_empty(), "refused by an empty ring");
                }
                if publish {
                    writer.publish(&shared, Since::Nothing);
                    writer.close();
                    prop_assert!(writer.begin(8, true).is_none(), "closed");
                }
                for _ in 0..consume {
                    let Some(&(at, size)) = live.front() else { break };
                    if at + size > reader.published(&shared) {
                        break;
                    }
                    live.pop_front();
                    prop_assert_eq!(at, reader.position);
                    reader.position += size;
                    reader.release(&shared, at + size);
                }
            }
        }
    }

    #[test]
    fn ordinary_records_leave_an_eighth_to_urgent_ones() {
        let shared = Shared::new();
        let writer = Writer::new(256, 0, 256);
        let mut ordinary = 0;
        while writer.fits(8, false) || writer.refill(&shared, 8, false) == Room::Ready {
            writer.advance(8);
            ordinary += 8;
        }
        assert_eq!(ordinary, 256 - 32);
        let mut urgent = 0;
        while writer.fits(8, true) || writer.refill(&shared, 8, true) == Room::Ready {
            writer.advance(8);
            urgent += 8;
        }
        assert_eq!(urgent, 32);
    }
}

/// Loom runs every interleaving of a writer and a reader over four words; its cells report any unordered access to the same word.
#[cfg(loom)]
#[expect(unsafe_code, reason = "reads and writes the words that loom watches")]
mod loom_model {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    const WORDS: usize = 4;

    struct Cells([UnsafeCell<u64>; WORDS]);

    fn run(sizes: &'static [u64], publish_each: bool) {
        loom::model(move || {
            let shared = Arc::new(Shared::new());
            let cells = Arc::new(Cells(std::array::from_fn(|_| UnsafeCell::new(0))));
            let capacity = (WORDS * 8) as u64;
            let index = move |position: u64| (position % capacity / 8) as usize;

            let (theirs, their_cells) = (shared.clone(), cells.clone());
            let producer = loom::thread::spawn(move || {
                let writer = Writer::new(capacity, 0, capacity);
                let (mut sent, mut dropped) = (0, 0);
                for (value, &size) in (1u64..).zip(sizes) {
                    loop {
                        if writer.fits(size, true) {
                            // First word: size and value; the others repeat the value, so that a torn record shows.
                            for word in 0..size / 8 {
                                their_cells.0[index(writer.position() + word * 8)].with_mut(
                                    |cell| {
                                        // SAFETY: loom checks that no other access to this cell is concurrent.
                                        unsafe {
                                            *cell =
                                                if word == 0 { size << 32 | value } else { value }
                                        }
                                    },
                                );
                            }
                            writer.advance(size);
                            sent += 1;
                            break;
                        }
                        match writer.refill(&theirs, size, true) {
                            Room::Ready => {}
                            Room::Wrap(skip) => {
                                their_cells.0[index(writer.position())].with_mut(|cell| {
                                    // SAFETY: loom checks that no other access to this cell is concurrent.
                                    unsafe { *cell = skip << 32 }
                                });
                                writer.advance(skip);
                            }
                            Room::Full => {
                                theirs.count_drop(0);
                                dropped += 1;
                                break;
                            }
                        }
                    }
                    if publish_each {
                        writer.publish(&theirs, Since::Nothing);
                    }
                }
                writer.publish(&theirs, Since::Nothing);
                (sent, dropped)
            });

            let mut reader = Reader::new(&shared);
            let mut received = Vec::new();
            let mut drain = |reader: &mut Reader| {
                let head = reader.published(&shared);
                while reader.position < head {
                    // SAFETY: loom checks that no other access to this cell is concurrent.
                    let first = cells.0[index(reader.position)].with(|cell| unsafe { *cell });
                    let (size, value) = (first >> 32, first & 0xffff_ffff);
                    if value != 0 {
                        for word in 1..size / 8 {
                            // SAFETY: loom checks that no other access to this cell is concurrent.
                            let rest = cells.0[index(reader.position + word * 8)]
                                .with(|cell| unsafe { *cell });
                            assert_eq!(rest, value, "torn record");
                        }
                        received.push(value);
                    }
                    reader.position += size;
                    reader.release(&shared, reader.position);
                }
            };
            drain(&mut reader);
            let (sent, dropped) = producer.join().unwrap();
            drain(&mut reader);
            assert_eq!(received.len() as u64, sent);
            assert_eq!(sent + dropped, sizes.len() as u64);
            assert_eq!(shared.drops()[0], dropped);
            assert!(received.is_sorted());
        });
    }

    #[test]
    fn loom_words_published_one_by_one() {
        run(&[8, 8, 8, 8, 8, 8], true);
    }

    #[test]
    fn loom_records_that_wrap() {
        run(&[16, 24, 16, 8], true);
    }

    #[test]
    fn loom_published_at_the_end() {
        run(&[16, 8, 16, 16], false);
    }
}
