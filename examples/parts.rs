//! The parts of examples that have tests of their own, put together as one test.
#![expect(dead_code, reason = "the programs use what the tests of a part do not")]

#[path = "sharded_kv/protocol.rs"]
mod protocol;
#[path = "static_files/range.rs"]
mod range;
#[path = "static_files/target.rs"]
mod target;
