//! Goal: what goes into a ring comes out of it unchanged, wherever in the ring it lies. A small ring, records of random types and lengths;
//! every record is decoded from the binary form and compared with what `format!` says of the arguments.

use coring_logger::{Binary, Full, LogReader, Logger, info};
use proptest::prelude::*;

use crate::exclusive;

/// Everything in a binary log: message and fields of each line.
fn messages(bytes: &[u8]) -> Vec<String> {
    let mut reader = LogReader::new(bytes);
    let mut messages = Vec::new();
    while let Some(line) = reader.next_line().expect("nothing is torn") {
        let mut message = Vec::new();
        line.write_message(&mut message);
        let fields: String = line
            .fields()
            .map(|(key, value)| format!(" {key}={value}"))
            .collect();
        messages.push(String::from_utf8(message).expect("text") + &fields);
    }
    messages
}

fn small_ring(body: impl FnOnce() + Send) -> Vec<String> {
    let _turn = exclusive();
    let (builder, log) = Logger::builder()
        .thread_ring_bytes(4096)
        .full(Full::Wait)
        .format(Binary::new())
        .memory();
    let logger = builder.start().expect("starts");
    let before = logger.stats().dropped; // It counts for the process.
    // A thread of its own: its ring is new, and has the size asked for.
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .spawn_scoped(scope, || {
                body();
                assert_eq!(logger.stats().dropped, before);
            })
            .expect("spawns")
            .join()
            .expect("the body holds");
    });
    logger.shutdown();
    messages(&log.bytes())
}

#[test]
fn every_length_at_every_offset() {
    let text = "abcdefghij".repeat(120);
    let mut expected = Vec::new();
    // Lengths that grow by one byte, with a short record between: the records' beginnings drift over all offsets.
    let found = small_ring(|| {
        for length in (0..1200).chain((0..1200).rev()) {
            info!("{} {}", length, &text[..length]);
            info!("{}", length);
        }
    });
    for length in (0..1200_usize).chain((0..1200).rev()) {
        expected.push(format!("{length} {}", &text[..length]));
        expected.push(length.to_string());
    }
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn random_records_come_out_as_they_went_in(
        inputs in prop::collection::vec(
            (any::<u64>(), any::<i16>(), any::<f64>(), any::<bool>(), any::<char>(), "\\PC{0,80}", any::<Option<u32>>(), prop::collection::vec(any::<u8>(), 0..100)),
            1..200,
        ),
    ) {
        let found = small_ring(|| {
            for (a, b, c, d, e, f, g, h) in &inputs {
                info!(a = a, f = f; "{} {:>8} {:?} {} {:?} {:?} {:?} {:?}", a, b, c, d, e, f, g, h);
            }
        });
        prop_assert_eq!(found.len(), inputs.len());
        for (found, (a, b, c, d, e, f, g, h)) in found.iter().zip(&inputs) {
            prop_assert_eq!(found, &format!("{a} {b:>8} {c:?} {d} {e:?} {f:?} {g:?} {h:?} a={a} f={f}"));
        }
    }
}
