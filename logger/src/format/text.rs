//! Text by a pattern: `{time} {level} [{origin}] {target}: {message}{fields}`.
//!
//! ```text
//! 2026-11-20T18:58:46.123456Z INFO  [core 0 session#7] server::net: accepted 10.0.0.1:4711 user=ann
//! ```
//!
//! The pattern is taken apart once; a line then is a walk over its pieces. The date, which changes once a second, is kept
//! as bytes. Whatever comes from outside is escaped: one record is one line, always.

use std::fmt;
use std::str::FromStr;

use crate::append::{append, decimal, text8};
use crate::format::Format;
use crate::line::{Line, escape};
use crate::plan::{Spec, Style};
use crate::record::level_index;
use crate::show::show;
use crate::value::Value;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Time,
    Unix,
    Level,
    Origin,
    Core,
    Thread,
    Coroutine,
    Target,
    Module,
    File,
    Line,
    Message,
    Fields,
}

const WORDS: [(&str, Piece); 13] = [
    ("time", Piece::Time),
    ("unix", Piece::Unix),
    ("level", Piece::Level),
    ("origin", Piece::Origin),
    ("core", Piece::Core),
    ("thread", Piece::Thread),
    ("coroutine", Piece::Coroutine),
    ("target", Piece::Target),
    ("module", Piece::Module),
    ("file", Piece::File),
    ("line", Piece::Line),
    ("message", Piece::Message),
    ("fields", Piece::Fields),
];

/// Lines of text.
///
/// Words of a pattern: `{time}` (UTC, microseconds), `{unix}` (nanoseconds since 1970), `{level}`, `{origin}` (core or thread, and
/// coroutine), `{core}`, `{thread}`, `{coroutine}`, `{target}`, `{module}`, `{file}`, `{line}`, `{message}`, and `{fields}` (each as
/// ` key=value`, with a space in front).
///
/// # Examples
/// ```
/// use coring_logger::Text;
/// let text: Text = "{level} {message}".parse()?;
/// assert!("{levle}".parse::<Text>().unwrap_err().to_string().contains("levle"));
/// # let _ = text;
/// # Ok::<(), coring_logger::ParsePatternError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Text {
    pieces: Vec<Piece>,
    colors: bool,
    stamp: Stamp,
    whence: Whence,
}

impl Default for Text {
    fn default() -> Self {
        "{time} {level} [{origin}] {target}: {message}{fields}"
            .parse()
            .expect("a valid pattern")
    }
}

impl Text {
    /// Colours the level, for terminals.
    #[must_use]
    pub fn colors(mut self, on: bool) -> Self {
        self.colors = on;
        self
    }
}

/// The time of the last line as text. What changes from line to line is replaced in place.
#[derive(Debug, Clone, Default)]
struct Stamp {
    second: u64,
    /// `2026-11-20T18:58:46.123456Z`
    text: Vec<u8>,
}

impl Stamp {
    fn show(&mut self, ns: u64) -> &[u8] {
        let second = ns / 1_000_000_000;
        if second != self.second || self.text.is_empty() {
            self.set_date(second);
        }
        let micros = text8(ns % 1_000_000_000 / 1000);
        if let Some(tail) = self.text.last_chunk_mut::<8>() {
            tail[1..7].copy_from_slice(&micros[2..]);
        }
        &self.text
    }

    /// Out of line: inlined, the compiler works the date out before it knows whether it is wanted.
    #[cold]
    #[inline(never)]
    fn set_date(&mut self, second: u64) {
        self.second = second;
        self.text = format!("{}.000000Z", date(second)).into_bytes();
    }
}

/// Where the last line came from, as text.
#[derive(Debug, Clone, Default)]
struct Whence {
    /// The origin's number.
    of: Option<u64>,
    text: Vec<u8>,
}

impl Whence {
    fn show(&mut self, line: &Line<'_>) -> &[u8] {
        let of = Some(line.origin.number);
        if of != self.of {
            self.of = of;
            self.text.clear();
            origin(line, &mut self.text);
        }
        &self.text
    }
}

/// `2026-11-20T18:58:46` of seconds since 1970. Days to dates as in the Gregorian calendar's rules, counted in years that begin in March.
fn date(second: u64) -> String {
    let (days, second) = (second / 86_400, second % 86_400);
    let days = days + 719_468; // days from 0000-03-01 to 1970-01-01
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// A time as lines show it.
pub(crate) fn timestamp(ns: u64) -> String {
    format!(
        "{}.{:06}Z",
        date(ns / 1_000_000_000),
        ns % 1_000_000_000 / 1000
    )
}

/// By level and whether it is coloured.
const LEVELS: [[&str; 2]; 5] = [
    ["ERROR", "\x1b[31mERROR\x1b[0m"],
    ["WARN ", "\x1b[33mWARN \x1b[0m"],
    ["INFO ", "\x1b[32mINFO \x1b[0m"],
    ["DEBUG", "\x1b[34mDEBUG\x1b[0m"],
    ["TRACE", "\x1b[35mTRACE\x1b[0m"],
];

/// Where a line comes from, short: `core 0 session#7`, `thread main`.
fn origin(line: &Line<'_>, out: &mut Vec<u8>) {
    match line.core() {
        Some(core) => {
            out.extend_from_slice(b"core ");
            decimal(out, core.into());
        }
        None if line.thread().is_empty() => out.extend_from_slice(b"thread"),
        None => {
            out.extend_from_slice(b"thread ");
            out.extend_from_slice(line.thread().as_bytes());
        }
    }
    if line.coroutine().is_some() {
        out.push(b' ');
        coroutine(line, out);
    }
}

fn coroutine(line: &Line<'_>, out: &mut Vec<u8>) {
    if let Some((id, name)) = line.coroutine() {
        out.extend_from_slice(name.as_bytes());
        out.push(b'#');
        decimal(out, id);
    }
}

/// ` key=value`. Texts that could be taken for something else are quoted.
pub(crate) fn fields(line: &Line<'_>, out: &mut Vec<u8>) {
    for (key, value) in line.fields() {
        out.push(b' ');
        out.extend_from_slice(key.as_bytes());
        out.push(b'=');
        let quoted = match value {
            Value::Text(text, _) => {
                text.is_empty()
                    || text.contains(|c: char| {
                        c.is_whitespace() || c.is_control() || "\"'=\\".contains(c)
                    })
            }
            _ => false,
        };
        let style = if quoted { Style::Debug } else { Style::Display };
        show(
            out,
            value,
            &Spec {
                style,
                ..Spec::DISPLAY
            },
        );
    }
}

/// Appends a piece that few lines have.
#[inline(never)]
fn append_rare(piece: &Piece, line: &Line<'_>, out: &mut Vec<u8>) {
    match piece {
        Piece::Unix => decimal(out, line.time_ns()),
        Piece::Line => decimal(out, line.line().into()),
        Piece::Core => {
            if let Some(core) = line.core() {
                decimal(out, core.into());
            }
        }
        Piece::Coroutine => coroutine(line, out),
        Piece::Fields => fields(line, out),
        other => unreachable!("{other:?} is not rare"),
    }
}

impl Format for Text {
    fn line(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        // Colours are the only control characters of our own: without them one look at the whole line will do.
        let line_start = out.len();
        for piece in &self.pieces {
            let start = out.len();
            // What the arms call is out of line: the compiler would work out before the loop whatever does not change in it.
            match piece {
                Piece::Literal(text) => append(out, text.as_bytes()),
                Piece::Time => append(out, self.stamp.show(line.time_ns())),
                Piece::Level => append(
                    out,
                    LEVELS[level_index(line.level())][usize::from(self.colors)].as_bytes(),
                ),
                Piece::Origin => append(out, self.whence.show(line)),
                Piece::Thread => append(out, line.thread().as_bytes()),
                Piece::Target => append(out, line.target().as_bytes()),
                Piece::Module => append(out, line.module().as_bytes()),
                Piece::File => append(out, line.file().as_bytes()),
                Piece::Message => line.write_message(out),
                Piece::Fields if !line.has_fields() => {}
                Piece::Unix | Piece::Core | Piece::Coroutine | Piece::Line | Piece::Fields => {
                    append_rare(piece, line, out);
                }
            }
            if self.colors && *piece != Piece::Level {
                escape(out, start);
            }
        }
        if !self.colors {
            escape(out, line_start);
        }
        out.push(b'\n');
    }
}

/// A pattern that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsePatternError(String);

impl fmt::Display for ParsePatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; a pattern's words are", self.0)?;
        WORDS
            .iter()
            .try_for_each(|(word, _)| write!(f, " {{{word}}}"))
    }
}
impl std::error::Error for ParsePatternError {}

impl FromStr for Text {
    type Err = ParsePatternError;

    fn from_str(pattern: &str) -> Result<Self, ParsePatternError> {
        let mut pieces = Vec::new();
        let mut rest = pattern;
        while let Some((literal, behind)) = rest.split_once('{') {
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.to_owned()));
            }
            let (word, behind) = behind
                .split_once('}')
                .ok_or_else(|| ParsePatternError(format!("`{{{behind}` has no closing brace")))?;
            let piece = WORDS
                .iter()
                .find(|(known, _)| *known == word)
                .map(|(_, piece)| piece.clone());
            pieces
                .push(piece.ok_or_else(|| ParsePatternError(format!("`{{{word}}}` is unknown")))?);
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.to_owned()));
        }
        Ok(Self {
            pieces,
            colors: false,
            stamp: Stamp::default(),
            whence: Whence::default(),
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    //! Goal: dates are right at the calendar's corners.
    use super::date;

    #[test]
    fn dates() {
        for (second, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_709_251_199, "2024-02-29T23:59:59"),
            (1_735_689_599, "2024-12-31T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(date(second), text);
        }
    }
}
