//! Reads binary log files: the way back from [`Binary`](crate::Binary), for the `coring-log` command and for programs.
//!
//! A file is a sequence of records. Those that describe a call site, a ring or a context change what the reader knows; every other is a
//! line. Nothing in the bytes is trusted: sizes are checked against the file, texts against UTF-8, nesting against a depth; what does not fit
//! is [`TornAt`] an offset.

use std::collections::HashMap;
use std::fmt;

use crate::callsite::FIRST_ID;
use crate::format::{MAGIC, read_site};
use crate::line::{Line, Origin, Site};
use crate::record::{HEADER_BYTES, Head, id};
use crate::value::{Torn, Value, Values};

/// The bytes at an offset are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TornAt {
    /// Bytes from the beginning of the file.
    pub offset: usize,
}

impl fmt::Display for TornAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "torn record at byte {}: written half when the program or the machine stopped, or not a log of ours",
            self.offset
        )
    }
}
impl std::error::Error for TornAt {}

/// Reads the lines of a binary log.
///
/// # Examples
/// ```
/// use coring_logger::{Binary, LogReader, Logger, info};
///
/// let (builder, log) = Logger::builder().format(Binary::new()).memory();
/// let logger = builder.start()?;
/// info!(user = "ann"; "login {}", 7);
/// logger.shutdown();
///
/// let bytes = log.bytes();
/// let mut reader = LogReader::new(&bytes);
/// let line = reader.next_line()?.expect("one line");
/// let mut message = Vec::new();
/// line.write_message(&mut message);
/// assert_eq!(message, b"login 7");
/// assert_eq!(line.fields().next().map(|(key, _)| key), Some("user"));
/// assert!(reader.next_line()?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LogReader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where `bytes` begin in the log.
    base: usize,
    known: Known,
}

/// What a reader has learned on its way.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) sites: HashMap<u32, Site>,
    pub(crate) origin: Origin,
}

impl Known {
    /// Takes over a record that is no line. Returns false if it is one.
    fn learn(&mut self, head: &Head, record: &[u8]) -> Result<bool, Torn> {
        let values = record.get(HEADER_BYTES..).ok_or(Torn)?;
        match head.site {
            id::SITE => {
                let site = read_site(values)?;
                self.sites.insert(site.id, site);
            }
            id::SOURCE => self.origin = read_origin(values)?,
            id::CONTEXT => self.origin.set_context(values)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The line in a record.
    pub(crate) fn line<'l>(
        &'l self,
        head: Head,
        record: &'l [u8],
        origin: &'l Origin,
        time_ns: u64,
    ) -> Result<Line<'l>, Torn> {
        let line = if head.site >= FIRST_ID {
            Line::of_site(
                head,
                record,
                self.sites.get(&head.site).ok_or(Torn)?,
                origin,
                time_ns,
            )
        } else {
            Line::dynamic(head, record, origin, time_ns)?
        };
        line.check()?;
        Ok(line)
    }
}

fn read_origin(values: &[u8]) -> Result<Origin, Torn> {
    let mut values = Values::new(values);
    let id = u32::try_from(values.number()?).map_err(|_| Torn)?;
    let core = match values.value()? {
        Value::Some(core) => match core.values().next() {
            Some(Value::U64(core)) => Some(u32::try_from(core).map_err(|_| Torn)?),
            _ => return Err(Torn),
        },
        _ => None,
    };
    let thread = values.text()?.to_owned();
    Ok(Origin::of_ring(id, core, thread))
}

impl<'a> LogReader<'a> {
    /// Reads from the beginning of a file.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            base: 0,
            known: Known::default(),
        }
    }

    /// Goes on with a file that has grown; `bytes` must begin with what was read so far.
    #[must_use]
    pub fn resume<'b>(self, bytes: &'b [u8]) -> LogReader<'b> {
        LogReader {
            bytes,
            at: self.at,
            base: self.base,
            known: self.known,
        }
    }

    /// Goes on with what follows, when what was read so far is not at hand any more: `bytes` must begin at [`LogReader::offset`].
    ///
    /// # Examples
    /// A log is read as it comes, and what has been read is let go of:
    /// ```
    /// use coring_logger::{Binary, LogReader, Logger, info};
    ///
    /// let (builder, lines) = Logger::builder().format(Binary::new()).memory();
    /// let logger = builder.start()?;
    /// for number in 0..100 {
    ///     info!("line {}", number);
    /// }
    /// logger.shutdown();
    ///
    /// let (mut pending, mut messages) = (Vec::new(), Vec::new());
    /// let mut reader = LogReader::new(&[]);
    /// for piece in lines.bytes().chunks(1000) {
    ///     pending.extend_from_slice(piece);
    ///     let begin = reader.offset();
    ///     let mut here = reader.go_on(&pending);
    ///     while let Some(line) = here.next_line()? {
    ///         line.write_message(&mut messages);
    ///         messages.push(b'\n');
    ///     }
    ///     let read = here.offset() - begin;
    ///     reader = here.go_on(&[]);
    ///     pending.drain(..read); // The rest is the beginning of a record.
    /// }
    /// assert!(messages.starts_with(b"line 0\n") && messages.ends_with(b"line 99\n"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn go_on<'b>(self, bytes: &'b [u8]) -> LogReader<'b> {
        LogReader {
            bytes,
            at: 0,
            base: self.offset(),
            known: self.known,
        }
    }

    /// Where the next record begins.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.base + self.at
    }

    /// Steps to the next line and returns its time, or `None` at the end. A last record that is not complete counts as the end:
    /// it may be being written.
    ///
    /// # Errors
    /// [`TornAt`] if the bytes here are not a record; [`LogReader::skip_torn`] goes on behind it.
    pub fn peek_time_ns(&mut self) -> Result<Option<u64>, TornAt> {
        loop {
            let rest = &self.bytes[self.at..];
            if rest.starts_with(&MAGIC) {
                self.known = Known::default();
                self.at += MAGIC.len();
                continue;
            }
            let torn = TornAt {
                offset: self.offset(),
            };
            if rest.len() < HEADER_BYTES {
                return Ok(None);
            }
            if is_cut(rest) {
                // Being written, if it is the last; a damaged size, if more records follow.
                let last = self.next_plausible() == self.bytes.len();
                return if last { Ok(None) } else { Err(torn) };
            }
            let head = Head::read(rest).map_err(|_| torn)?;
            let reach = rest.len().min(head.size + MAGIC.len() - 1);
            if holds_magic(&rest[1..reach]) && !self.is_plausible(self.at + head.size) {
                // Broken off where the next file begins: what is behind that is not the rest of it.
                return Err(torn);
            }
            if !self
                .known
                .learn(&head, &rest[..head.size])
                .map_err(|_| torn)?
            {
                return Ok(Some(head.ticks));
            }
            self.at += head.size;
        }
    }

    /// The next line, or `None` at the end.
    ///
    /// # Errors
    /// As [`LogReader::peek_time_ns`].
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>, TornAt> {
        let Some(time_ns) = self.peek_time_ns()? else {
            return Ok(None);
        };
        let torn = TornAt {
            offset: self.offset(),
        };
        let rest = &self.bytes[self.at..];
        let head = Head::read(rest).map_err(|_| torn)?;
        let line = self
            .known
            .line(head, &rest[..head.size], &self.known.origin, time_ns)
            .map_err(|_| torn)?;
        self.at += head.size;
        Ok(Some(line))
    }

    /// Goes to the next place behind here where a record, or a new file, seems to begin.
    pub fn skip_torn(&mut self) {
        self.at = self.next_plausible();
    }

    /// The next place behind here where a record or a file seems to begin, or the end. A file may begin anywhere: it was appended to one that ends
    /// within a record.
    fn next_plausible(&self) -> usize {
        let records = (self.at + 8..self.bytes.len()).step_by(8);
        let record = records
            .into_iter()
            .find(|at| self.is_plausible(*at))
            .unwrap_or(self.bytes.len());
        let before = &self.bytes[self.at + 1..self.bytes.len().min(record + MAGIC.len())];
        find_magic(before).map_or(record, |at| self.at + 1 + at)
    }

    /// Whether a record or a file seems to begin here, or nothing is here.
    fn is_plausible(&self, at: usize) -> bool {
        let rest = &self.bytes[at..];
        let record = Head::read(rest).is_ok_and(|head| match head.site {
            id::SITE | id::SOURCE | id::CONTEXT => {
                Values::new(&rest[HEADER_BYTES..head.size]).number().is_ok()
            }
            _ => self
                .known
                .line(head, &rest[..head.size], &self.known.origin, head.ticks)
                .is_ok(),
        });
        record || rest.is_empty() || rest.starts_with(&MAGIC)
    }
}

fn holds_magic(bytes: &[u8]) -> bool {
    // Mostly not even its first byte is there, which is found out quickly.
    bytes.contains(&MAGIC[0]) && find_magic(bytes).is_some()
}

fn find_magic(bytes: &[u8]) -> Option<usize> {
    bytes.windows(MAGIC.len()).position(|part| part == MAGIC)
}

/// Whether the record at the start of `bytes` would end beyond them.
fn is_cut(bytes: &[u8]) -> bool {
    let size = usize::from(u16::from_le_bytes([bytes[0], bytes[1]])) * 8;
    size > bytes.len()
}

#[cfg(all(test, not(loom)))]
mod tests {
    //! Goal: no bytes make the reader panic, loop for ever, or read out of bounds; damage in one place leaves the rest readable.
    use super::*;
    use crate::encode::push;
    use crate::format::{Binary, Format, push_origin, push_site};
    use crate::plan::Plan;
    use crate::record;
    use proptest::prelude::*;

    fn sample(lines: u64) -> Vec<u8> {
        let format = "n={} {:?}";
        let site = Site {
            id: 16,
            level: log::Level::Info,
            target: "t".into(),
            module: "m".into(),
            file: "f.rs".into(),
            line: 1,
            format: format.into(),
            keys: vec!["k".into()],
            plan: Plan::parse(format),
        };
        let mut out = Vec::new();
        Binary::new().begin(&mut out);
        push_site(&mut out, &site);
        push_origin(
            &mut out,
            &Origin {
                id: 1,
                core: Some(3),
                thread: "t".into(),
                ..Origin::default()
            },
        );
        for number in 0..lines {
            let mut values = Vec::new();
            push(&mut values, number);
            push(&mut values, "text");
            push(&mut values, Some(1.5));
            record::push(&mut out, 0, 16, number, &values);
        }
        out
    }

    fn read_all(bytes: &[u8]) -> (Vec<u64>, usize) {
        let mut reader = LogReader::new(bytes);
        let (mut times, mut torn) = (Vec::new(), 0);
        loop {
            match reader.next_line() {
                Ok(None) => return (times, torn),
                Ok(Some(line)) => {
                    let mut text = Vec::new();
                    line.write_message(&mut text);
                    let _ = line.fields().count();
                    times.push(line.time_ns());
                }
                Err(_) => {
                    torn += 1;
                    reader.skip_torn();
                }
            }
        }
    }

    #[test]
    fn reads_what_was_written() {
        let bytes = sample(50);
        assert_eq!(read_all(&bytes), ((0..50).collect(), 0));
    }

    /// Goal: one text format shows the lines of several files as those of who logged them. Method: two files of rings with the same number, as
    /// those of two processes have; in each the coroutine changes; their lines in turn.
    #[test]
    fn each_line_is_shown_as_its_own_coroutines() {
        let file = |core: u32| {
            let mut out = sample(0);
            for context in [7, 8] {
                let origin = Origin {
                    id: 1,
                    core: Some(core),
                    context,
                    ..Origin::default()
                };
                push_origin(&mut out, &origin);
                let mut values = Vec::new();
                push(&mut values, context);
                push(&mut values, "text");
                push(&mut values, Some(1.5));
                record::push(&mut out, 0, 16, context, &values);
            }
            out
        };
        let files = [file(0), file(1)];
        let mut readers = [LogReader::new(&files[0]), LogReader::new(&files[1])];
        let mut format: crate::Text = "{origin}".parse().expect("a pattern");
        let mut out = Vec::new();
        for _ in 0..2 {
            for reader in &mut readers {
                let line = reader.next_line().expect("intact").expect("a line");
                format.line(&line, &mut out);
            }
        }
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text, "core 0 #7\ncore 1 #7\ncore 0 #8\ncore 1 #8\n");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_torn_and_nothing_worse(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            read_all(&bytes);
            let mut file = sample(3);
            file.extend_from_slice(&bytes);
            let (times, _) = read_all(&file);
            prop_assert_eq!(&times[..3], &[0, 1, 2]);
        }

        #[test]
        fn a_damaged_byte_costs_little(at in 300usize..1000, value: u8) {
            let mut bytes = sample(50);
            let at = at.min(bytes.len() - 1);
            bytes[at] = value;
            let (times, _) = read_all(&bytes);
            prop_assert!(times.len() >= 30, "{} lines left", times.len());
        }

        #[test]
        fn what_follows_a_file_that_was_cut_is_whole(cut in 0usize..3000) {
            // A process dies in the middle of a block, and the next one goes on in its file.
            let mut bytes = sample(50);
            bytes.truncate(cut);
            bytes.extend_from_slice(&sample(20));
            let (times, torn) = read_all(&bytes);
            let before = times.len().saturating_sub(20);
            prop_assert!(times.iter().copied().eq((0..before as u64).chain(0..20)), "{times:?}");
            prop_assert!(torn <= 1, "{torn}");
        }

        #[test]
        fn a_file_cut_anywhere_gives_its_beginning(cut in 0usize..3000) {
            let bytes = sample(50);
            let (times, torn) = read_all(&bytes[..cut.min(bytes.len())]);
            prop_assert_eq!(torn, 0);
            prop_assert!(times.iter().copied().eq(0..times.len() as u64));
        }
    }
}
