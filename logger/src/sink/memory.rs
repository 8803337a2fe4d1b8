//! A sink that keeps everything, for tests.

use std::io;
use std::sync::{Arc, Mutex};

use crate::memory::lock;
use crate::sink::Sink;

/// Keeps all lines in memory.
#[derive(Debug, Default)]
pub struct Memory(MemoryLines);

/// What a [`Memory`] sink has received; can be read while the logger runs.
#[derive(Debug, Default, Clone)]
pub struct MemoryLines(Arc<Mutex<Vec<u8>>>);

impl Memory {
    /// A sink and the handle by which its content is read.
    #[must_use]
    pub fn new() -> (Self, MemoryLines) {
        let lines = MemoryLines::default();
        (Self(lines.clone()), lines)
    }
}

impl MemoryLines {
    /// Everything received so far.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        lock(&self.0).clone()
    }

    /// Everything received so far, as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.0)).into_owned()
    }
}

impl Sink for Memory {
    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        lock(&self.0.0).extend_from_slice(block);
        Ok(block.len())
    }
}
