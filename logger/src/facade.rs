//! The `log` crate's macros, so that libraries log into the same rings.
//!
//! `log` hands over finished `fmt::Arguments` and no call site, so such a line is formatted at the call and carries its target, module,
//! file and line as text. Key-values of `log` keep their types. The line of `benches/log.rs` costs 116 ns this
//! way, and 8 through the macros of this crate (AMD Zen 5).

use std::fmt::Write as _;
use std::io;

use log::kv::{self, VisitSource, VisitValue};
use log::{Log, Metadata, Record};

use crate::callsite::Interest;
use crate::encode::push;
use crate::expanded::Scratch;
use crate::{logger, producer, record, state};

struct Facade;

static FACADE: Facade = Facade;

/// Becomes the logger of the `log` crate, which can be done once per process.
pub(crate) fn install() -> io::Result<()> {
    if log::set_logger(&FACADE).is_ok() || std::ptr::addr_eq(log::logger(), &raw const FACADE) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::AlreadyExists,
        "another logger serves the `log` crate: do not install it, or start this one with log_facade(false)",
    ))
}

impl Log for Facade {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        state::is_running()
            && state::interest_of(metadata.target(), metadata.level()) != Interest::Off
    }

    fn log(&self, record: &Record<'_>) {
        if !state::is_running() {
            return;
        }
        let interest = state::interest_of(record.target(), record.level());
        if interest == Interest::Off {
            return;
        }
        let mut message = Scratch::<512>::new();
        let text = match record.args().as_str() {
            Some(text) => text,
            None => {
                message.format(*record.args());
                message.as_str()
            }
        };
        let place = Place {
            target: record.target(),
            module: record.module_path().unwrap_or(""),
            file: record.file().unwrap_or(""),
            line: record.line().unwrap_or(0),
        };
        let mut values = place.encode(text);
        // A source that fails half way has given what it has; the line is worth more than the rest.
        let _ = record.key_values().visit(&mut Fields(&mut values));
        emit(record.level(), interest, &values);
    }

    fn flush(&self) {
        let _ = logger::flush(std::time::Duration::from_secs(5));
    }
}

/// Where a line without call site comes from.
pub(crate) struct Place<'a> {
    pub(crate) target: &'a str,
    pub(crate) module: &'a str,
    pub(crate) file: &'a str,
    pub(crate) line: u32,
}

impl Place<'_> {
    /// The values of a line; its fields may be pushed behind.
    pub(crate) fn encode(&self, message: &str) -> Vec<u8> {
        let mut values = Vec::with_capacity(256);
        push(&mut values, self.target);
        push(&mut values, self.module);
        push(&mut values, self.file);
        push(&mut values, u64::from(self.line));
        push(&mut values, message);
        values
    }
}

/// Writes a line without call site.
pub(crate) fn emit(level: log::Level, interest: Interest, values: &[u8]) {
    let flags = if interest == Interest::Recorded {
        record::RECORDED
    } else {
        0
    };
    producer::emit_dynamic(level, flags, values);
}

/// Encodes the key-values of a `log` record, each by its own type.
struct Fields<'a>(&'a mut Vec<u8>);

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: kv::Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
        push(self.0, key.as_str());
        value.visit(FieldValue(self.0))
    }
}

struct FieldValue<'a>(&'a mut Vec<u8>);

impl<'v> VisitValue<'v> for FieldValue<'_> {
    fn visit_any(&mut self, value: kv::Value<'_>) -> Result<(), kv::Error> {
        let mut text = String::new();
        let _ = write!(text, "{value}");
        push(self.0, text.as_str());
        Ok(())
    }
    fn visit_null(&mut self) -> Result<(), kv::Error> {
        push(self.0, None::<u64>);
        Ok(())
    }
    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        push(self.0, value);
        Ok(())
    }
    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        push(self.0, value);
        Ok(())
    }
    fn visit_u128(&mut self, value: u128) -> Result<(), kv::Error> {
        push(self.0, value);
        Ok(())
    }
    fn visit_i128(&mut self, value: i128) -> Result<(), kv::Error> {
        push(self.0, value);
        Ok(())
    }
    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        push(self.0, value);
        Ok(())
    }
    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        push(self.0, value);
        Ok(())
    }
    fn visit_str(&mut self, value: &str) -> Result<(), kv::Error> {
        push(self.0, value);
        Ok(())
    }
    fn visit_char(&mut self, value: char) -> Result<(), kv::Error> {
        push(self.0, value);
        Ok(())
    }
}
