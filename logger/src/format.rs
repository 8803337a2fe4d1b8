//! How lines become bytes.
//!
//! A [`Format`] appends one line to a buffer; the drain gives full buffers to a sink. Three are here: [`Text`] with a pattern, [`Json`] (one
//! object a line) and [`Binary`] (the records as they are; smallest and fastest, read by the `coring-log` command).

mod binary;
mod json;
mod text;

pub use binary::Binary;
#[cfg(test)]
pub(crate) use binary::push_origin;
pub(crate) use binary::{MAGIC, push_site, read_site};

pub use json::Json;
pub use text::{ParsePatternError, Text};
pub(crate) use text::{fields as push_fields, timestamp};

use crate::line::Line;

/// Turns lines into bytes.
///
/// # Examples
/// ```
/// use coring_logger::{Format, Line, Logger, info};
///
/// /// The message and nothing else.
/// struct Bare;
/// impl Format for Bare {
///     fn line(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
///         let start = out.len();
///         line.write_message(out);
///         coring_logger::escape(out, start);
///         out.push(b'\n');
///     }
/// }
///
/// let (builder, lines) = Logger::builder().format(Bare).memory();
/// let logger = builder.start()?;
/// info!("{} + {}", 1, 2);
/// logger.shutdown();
/// assert_eq!(lines.text(), "1 + 2\n");
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait Format: Send {
    /// The following bytes begin a new file. Appends what must stand there.
    fn begin(&mut self, out: &mut Vec<u8>) {
        let _ = out;
    }

    /// Appends one line.
    fn line(&mut self, line: &Line<'_>, out: &mut Vec<u8>);

    /// The format whose lines are the records themselves, so that the drain may copy many at a time.
    #[doc(hidden)]
    fn as_binary(&self) -> Option<&Binary> {
        None
    }
}
