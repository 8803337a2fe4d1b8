//! The limit of `log`: the processor's counter and a copy of the same bytes into memory that is reused, as a ring is.
//!
//! It has no gate, no room to ask for, no reader. In bench `file` it copies the records into blocks and writes those, on the same
//! thread, with write(2): no text is made. `raw-copy` leaves the counter out too.
//!
//! `raw-log` is listed twice: the second is the twin of the A/A pair.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Of, coring};
use crate::lines::Logger;
use crate::machine;
use crate::subject::{Role, Skip};

const fn subject<const COUNTER: bool>(name: &'static str) -> Of<Raw<COUNTER>> {
    Of {
        name,
        role: Role::Limit,
        version: |_| machine::kernel(),
        serve: coring::serve_silently,
        logger: PhantomData,
    }
}

/// The reference.
pub(super) static FIRST: Of<Raw<true>> = subject("raw-log");
/// The same again, to see how far apart two equal subjects are.
pub(super) static AGAIN: Of<Raw<true>> = subject("raw-log-again");
/// Without the counter.
pub(super) static COPY: Of<Raw<false>> = subject("raw-copy");

/// A record of ours has this many bytes: head, counter, and the three values with their tags.
const RECORD: usize = 48;
/// As much as a core's ring; a whole number of records.
const RING: usize = (1 << 20) / RECORD * RECORD;

pub(super) struct Raw<const COUNTER: bool> {
    ring: RefCell<(Vec<u8>, usize)>,
    /// Where full rings go, in bench `file`.
    file: Option<File>,
    gate: AtomicBool,
}

impl<const COUNTER: bool> Logger for Raw<COUNTER> {
    const ALWAYS_WRITES: bool = false;

    fn start(path: &Path, lossless: bool) -> Result<Self, Skip> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Raw {
            ring: RefCell::new((vec![1; RING], 0)),
            file: lossless.then_some(file),
            gate: AtomicBool::new(false),
        })
    }

    #[inline(never)]
    fn line(&self, id: u64, price: f64, symbol: &'static str) {
        let mut record = [0; RECORD];
        if COUNTER {
            record[8..16].copy_from_slice(&::coring::logger::ticks().to_le_bytes());
        }
        record[17..25].copy_from_slice(&id.to_le_bytes());
        record[26..34].copy_from_slice(&price.to_le_bytes());
        let symbol: &[u8; 12] = symbol.as_bytes().try_into().expect("twelve bytes");
        record[35..47].copy_from_slice(symbol);
        let (ring, at) = &mut *self.ring.borrow_mut();
        ring[*at..*at + RECORD].copy_from_slice(&record);
        *at += RECORD;
        if *at == RING {
            *at = 0;
            if let Some(mut file) = self.file.as_ref() {
                file.write_all(ring).expect("the disk takes it");
            }
        }
    }

    #[inline(always)]
    fn off(&self, id: u64, price: f64, symbol: &'static str) {
        if self.gate.load(Ordering::Relaxed) {
            self.line(id, price, symbol);
        }
    }

    fn end(self) {
        let (ring, at) = self.ring.into_inner();
        if let Some(mut file) = self.file {
            file.write_all(&ring[..at]).expect("the disk takes it");
        }
    }

    fn text(bytes: Vec<u8>) -> Vec<u8> {
        let mut text = Vec::new();
        for record in bytes.chunks_exact(RECORD) {
            let word = |at| u64::from_le_bytes(record[at..at + 8].try_into().expect("eight bytes"));
            let symbol = String::from_utf8_lossy(&record[35..47]);
            let price = f64::from_bits(word(26));
            writeln!(text, "order id={} price={price} sym={symbol}", word(17))
                .expect("a vector takes it");
        }
        text
    }
}
