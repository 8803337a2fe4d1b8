//! flexi_logger in its asynchronous mode: formatted by the caller, written by a thread, an unbounded queue in between.

use std::path::Path;

use flexi_logger::{FileSpec, LoggerHandle, WriteMode};

use super::{Of, facade};
use crate::lines::Logger;
use crate::subject::Skip;

pub(super) static SUBJECT: Of<Flexi> = Of::peer("flexi_logger");

pub(super) struct Flexi(LoggerHandle);

impl Logger for Flexi {
    fn start(path: &Path, _: bool) -> Result<Self, Skip> {
        let file = FileSpec::try_from(path).map_err(|error| Skip::because(error.to_string()))?;
        let handle = flexi_logger::Logger::with(log::LevelFilter::Info)
            .log_to_file(file)
            .format(flexi_logger::detailed_format)
            .write_mode(WriteMode::Async)
            .start();
        let handle = handle.map_err(|error| Skip::because(error.to_string()))?;
        Ok(Flexi(handle))
    }

    fn line(&self, id: u64, price: f64, symbol: &'static str) {
        facade::line(id, price, symbol);
    }

    #[inline(always)]
    fn off(&self, id: u64, price: f64, symbol: &'static str) {
        facade::off(id, price, symbol);
    }

    fn end(self) {
        self.0.shutdown();
    }
}
