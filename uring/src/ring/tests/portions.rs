//! Large batches, which go to the kernel in portions.

use std::os::fd::AsRawFd;

use super::*;

/// Goal: a batch of any size goes in with one turn, in the order of the calls, and an operation that the kernel refuses stops
/// nobody behind it. Method: each operation writes its number into a pipe; every tenth has no descriptor. Sizes at and
/// around whole portions, with every set of features.
#[test]
fn a_large_batch_goes_in_whole_and_in_order() {
    for features in feature_sets() {
        for count in [127_u16, 128, 129, 255, 256, 257, 1000] {
            let mut ring = open(1024, 4096, features);
            let (mut reader, writer) = std::io::pipe().unwrap();
            let numbers: Vec<[u8; 2]> = (0..count).map(u16::to_le_bytes).collect();
            let is_good = |n: usize| n % 10 != 3;
            let begin = |(n, number): (usize, &[u8; 2])| {
                let fd = if is_good(n) { writer.as_raw_fd() } else { -1 };
                let write = op::fs::write(fd, number.as_ptr(), 2, op::fs::AT_POSITION);
                submit(&mut ring, write, n)
            };
            let ops: Vec<OpId> = numbers.iter().enumerate().map(begin).collect();
            assert_eq!(ring.pending(), usize::from(count));
            ring.turn(Wait::Submit, &mut |_| ()).unwrap();
            assert_eq!(ring.pending(), 0, "{count} with {features:?}");
            drain(&mut ring);
            for (n, op) in ops.into_iter().enumerate() {
                let result = if is_good(n) { 2 } else { -libc::EBADF };
                assert_eq!(ring.take(op).unwrap().result, result);
            }
            drop(writer);
            let mut written = Vec::new();
            reader.read_to_end(&mut written).unwrap();
            let expected = numbers.iter().enumerate().filter(|(n, _)| is_good(*n));
            let expected: Vec<u8> = expected.flat_map(|(_, number)| *number).collect();
            assert_eq!(written, expected, "{count} with {features:?}");
        }
    }
}
