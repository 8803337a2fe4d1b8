//! quicklog: deferred formatting of boxed arguments, one queue. It has no thread: whoever logs empties the queue, here
//! between bursts and outside the clock; in bench `file` after each burst, inside it.

use std::path::Path;

use super::Of;
use crate::lines::Logger;
use crate::subject::Skip;

pub(super) static SUBJECT: Of<Quicklog> = Of::peer("quicklog");

pub(super) struct Quicklog;

impl Logger for Quicklog {
    const HAS_OFF: bool = false;
    const CALLER_EMPTIES: bool = true;

    fn start(path: &Path, _: bool) -> Result<Self, Skip> {
        quicklog::init!();
        let path: &'static str = path.to_str().expect("a plain path").to_owned().leak();
        quicklog::logger().use_flush(Box::new(quicklog_flush::file_flusher::FileFlusher::new(
            path,
        )));
        Ok(Quicklog)
    }

    #[inline(never)]
    fn line(&self, id: u64, price: f64, symbol: &'static str) {
        quicklog::info!("order id={} price={} sym={}", id, price, symbol);
    }

    fn off(&self, _: u64, _: f64, _: &'static str) {}

    fn settle(&self) -> bool {
        while quicklog::try_flush!().is_ok() {}
        true
    }

    fn end(self) {
        self.settle();
    }
}
