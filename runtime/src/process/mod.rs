//! Child processes with std's names: [`Command`], [`Child`].
//!
//! A process is started by a thread of the offload pool: fork and exec take about a millisecond, and the child
//! inherits that thread's CPU mask, which is the process's own and not the pin of a core. Its end is waited for
//! through the ring; its pipes are read and written through the ring.

mod child;
mod command;
mod orphans;

pub use child::{Child, ChildStderr, ChildStdin, ChildStdout};
pub use command::Command;
pub use std::process::{ExitStatus, Output, Stdio};
