//! Arbitrary bytes as a binary log: the decoder ends, never panics, never reads out of bounds, and what it takes for a line can be shown.
//!
//! ```text
//! cargo +nightly fuzz run log_decoder          # with cargo-fuzz installed, in this directory
//! ```
//!
//! The first byte decides whether a valid beginning is put in front, so that the fuzzer need not find it.

#![no_main]

use coring_logger::{Binary, Format, Json, LogReader, Text};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    let mut log = Vec::new();
    if first & 1 == 0 {
        Binary::new().begin(&mut log);
    }
    log.extend_from_slice(rest);
    let (mut text, mut json) = (Text::default(), Json::new());
    let mut out = Vec::new();
    let mut reader = LogReader::new(&log);
    loop {
        let before = reader.offset();
        match reader.next_line() {
            Ok(None) => break,
            Ok(Some(line)) => {
                out.clear();
                text.line(&line, &mut out);
                assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
                out.clear();
                json.line(&line, &mut out);
                assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
            }
            Err(torn) => {
                assert!(torn.offset <= log.len());
                reader.skip_torn();
                if reader.offset() <= before {
                    break;
                }
            }
        }
    }
});
