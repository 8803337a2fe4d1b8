//! Arbitrary bytes as what a client sends to `examples/sharded_kv`: the parser ends, never panics, finds the same requests and the same
//! error however the bytes are cut into pieces, and finds a request that it has found again when that is written as a multibulk.
//!
//! ```text
//! cargo +nightly fuzz run resp_parser          # with cargo-fuzz installed, in this directory
//! ```
//!
//! The first byte is the length of the pieces.

#![no_main]

#[allow(dead_code, reason = "the server uses more of it")]
#[path = "../../examples/sharded_kv/protocol.rs"]
mod protocol;

use libfuzzer_sys::fuzz_target;
use protocol::{Malformed, Parser, encode};

type Words = Vec<Vec<u8>>;

/// All requests of bytes that come in pieces of so many, and what stopped it, if anything did.
fn feed(sent: &[u8], piece: usize) -> (Vec<Words>, Option<Malformed>) {
    let (mut parser, mut requests) = (Parser::new(), Vec::new());
    let mut bytes = Vec::new();
    for piece in sent.chunks(piece) {
        bytes.extend_from_slice(piece);
        loop {
            match parser.parse(&bytes) {
                Ok(None) => break,
                Ok(Some(length)) => {
                    assert!((1..=bytes.len()).contains(&length));
                    let words = parser.request(&bytes).from(0);
                    requests.push(words.map(<[u8]>::to_vec).collect());
                    bytes.drain(..length);
                    parser.next();
                }
                Err(error) => return (requests, Some(error)),
            }
        }
    }
    (requests, None)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, sent)) = bytes.split_first() else {
        return;
    };
    let whole = feed(sent, sent.len().max(1));
    assert_eq!(feed(sent, usize::from(*first) + 1), whole);
    let mut again = Vec::new();
    for words in &whole.0 {
        encode(words.iter().map(|word| &**word), &mut again);
    }
    assert_eq!(feed(&again, again.len().max(1)), (whole.0, None));
});
