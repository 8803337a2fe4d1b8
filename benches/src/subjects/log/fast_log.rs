//! fast_log: the caller makes the message, threads the line. Its queue is unbounded unless told otherwise; its documentation
//! measures with a million.

use std::path::Path;

use fast_log::Config;

use super::{Of, facade};
use crate::lines::Logger;
use crate::subject::Skip;

pub(super) static SUBJECT: Of<FastLog> = Of::peer("fast_log");

pub(super) struct FastLog;

impl Logger for FastLog {
    fn start(path: &Path, _: bool) -> Result<Self, Skip> {
        let path = path.to_str().expect("a plain path");
        let config = Config::new()
            .level(log::LevelFilter::Info)
            .chan_len(Some(1_000_000))
            .file(path);
        fast_log::init(config).map_err(|error| Skip::because(error.to_string()))?;
        Ok(FastLog)
    }

    fn line(&self, id: u64, price: f64, symbol: &'static str) {
        facade::line(id, price, symbol);
    }

    #[inline(always)]
    fn off(&self, id: u64, price: f64, symbol: &'static str) {
        facade::off(id, price, symbol);
    }

    fn end(self) {
        log::logger().flush();
    }
}
