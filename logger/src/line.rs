//! One line, decoded as far as its reader asks: what formats and tests look at.

use std::sync::atomic::{AtomicU64, Ordering};

use log::Level;

use crate::append::append;
use crate::plan::{Piece, Plan};
use crate::record::{FINISHED, Head};
use crate::show::{show, show_next};
use crate::value::{Torn, Value, Values};

/// A call site as the drain and the decoder know it: owned, with its format string parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site {
    pub(crate) id: u32,
    pub(crate) level: Level,
    pub(crate) target: String,
    pub(crate) module: String,
    pub(crate) file: String,
    pub(crate) line: u32,
    pub(crate) format: String,
    pub(crate) keys: Vec<String>,
    pub(crate) plan: Plan,
}

/// The ring a line came from, and the coroutine that ring was last said to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) id: u32,
    pub(crate) core: Option<u32>,
    pub(crate) thread: String,
    pub(crate) context: u64,
    pub(crate) context_name: String,
    /// Keys and values, encoded.
    pub(crate) context_fields: Vec<u8>,
    /// Another one for each ring and each context, whatever file or process they are from: a cheap way to see that the origin has changed.
    pub(crate) number: u64,
}

/// The last number given to an origin. 0 is the logger itself, which has a default one.
static LAST_NUMBER: AtomicU64 = AtomicU64::new(0);

fn next_number() -> u64 {
    LAST_NUMBER.fetch_add(1, Ordering::Relaxed) + 1
}

impl Origin {
    /// The origin of lines of a ring, before any context.
    pub(crate) fn of_ring(id: u32, core: Option<u32>, thread: String) -> Self {
        Self {
            id,
            core,
            thread,
            number: next_number(),
            ..Self::default()
        }
    }

    /// Takes over a context record.
    pub(crate) fn set_context(&mut self, values: &[u8]) -> Result<(), Torn> {
        let mut values = Values::new(values);
        self.number = next_number();
        self.context = values.number()?;
        values.text()?.clone_into(&mut self.context_name);
        self.context_fields.clear();
        // The padding behind the last value is zero, which is no tag.
        while values.rest().first().is_some_and(|tag| *tag != 0) {
            let before = values.rest();
            values.text()?;
            values.value()?;
            self.context_fields
                .extend_from_slice(&before[..before.len() - values.rest().len()]);
        }
        Ok(())
    }
}

/// One log line, as a [`Format`](crate::Format) sees it.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    pub(crate) head: Head,
    /// The whole record.
    pub(crate) raw: &'a [u8],
    /// None for lines of the `log` facade, of `tracing`, and of the logger itself.
    pub(crate) site: Option<&'a Site>,
    pub(crate) origin: &'a Origin,
    time_ns: u64,
    level: Level,
    target: &'a str,
    module: &'a str,
    file: &'a str,
    line: u32,
    values: &'a [u8],
}

impl<'a> Line<'a> {
    /// The line of a call site.
    #[inline]
    pub(crate) fn of_site(
        head: Head,
        raw: &'a [u8],
        site: &'a Site,
        origin: &'a Origin,
        time_ns: u64,
    ) -> Self {
        Self {
            head,
            raw,
            site: Some(site),
            origin,
            time_ns,
            level: site.level,
            target: &site.target,
            module: &site.module,
            file: &site.file,
            line: site.line,
            values: &raw[crate::record::HEADER_BYTES..],
        }
    }

    /// A line that carries its own description: target, module, file, line, message, (key, value)*.
    pub(crate) fn dynamic(
        head: Head,
        raw: &'a [u8],
        origin: &'a Origin,
        time_ns: u64,
    ) -> Result<Self, Torn> {
        let level = head.dynamic_level().ok_or(Torn)?;
        let mut values = Values::new(raw.get(crate::record::HEADER_BYTES..).ok_or(Torn)?);
        let (target, module, file) = (values.text()?, values.text()?, values.text()?);
        let line = u32::try_from(values.number()?).map_err(|_| Torn)?;
        let values = values.rest();
        Ok(Self {
            head,
            raw,
            site: None,
            origin,
            time_ns,
            level,
            target,
            module,
            file,
            line,
            values,
        })
    }

    /// Decodes every value once; afterwards nothing below can be torn.
    pub(crate) fn check(&self) -> Result<(), Torn> {
        let mut values = self.message_end()?;
        match self.site {
            Some(site) => values.advance(site.keys.len()),
            None => {
                while values.rest().first().is_some_and(|tag| *tag != 0) {
                    values.text()?;
                    values.value()?;
                }
                Ok(())
            }
        }?;
        if values.rest().len() < 8 && values.rest().iter().all(|byte| *byte == 0) {
            Ok(())
        } else {
            Err(Torn)
        }
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub fn time_ns(&self) -> u64 {
        self.time_ns
    }

    /// Severity.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// What the line is about, usually the module's path.
    #[must_use]
    pub fn target(&self) -> &'a str {
        self.target
    }

    /// The module's path.
    #[must_use]
    pub fn module(&self) -> &'a str {
        self.module
    }

    /// The source file.
    #[must_use]
    pub fn file(&self) -> &'a str {
        self.file
    }

    /// The line in the source file.
    #[must_use]
    pub fn line(&self) -> u32 {
        self.line
    }

    /// The core that logged, or `None` for a thread outside the runtime.
    #[must_use]
    pub fn core(&self) -> Option<u32> {
        self.origin.core
    }

    /// Name of the thread that logged; empty if it has none.
    #[must_use]
    pub fn thread(&self) -> &'a str {
        &self.origin.thread
    }

    /// Id and name of the coroutine that logged, if one did.
    #[must_use]
    pub fn coroutine(&self) -> Option<(u64, &'a str)> {
        (self.origin.context != 0).then_some((self.origin.context, &*self.origin.context_name))
    }

    fn is_finished(&self) -> bool {
        self.head.flags & FINISHED != 0
    }

    fn message_end(&self) -> Result<Values<'a>, Torn> {
        let mut values = Values::new(self.values);
        let count = match self.site {
            Some(site) if !self.is_finished() => site.plan.args,
            _ => 1,
        };
        values.advance(count)?;
        Ok(values)
    }

    /// Appends the message, as `format!` would give it. Control characters are in there as they were logged: a format whose output
    /// has lines must escape them (see [`crate::escape`]).
    pub fn write_message(&self, out: &mut Vec<u8>) {
        if self.write_message_checked(out).is_err() {
            out.extend_from_slice(b"[torn record]");
        }
    }

    fn write_message_checked(&self, out: &mut Vec<u8>) -> Result<(), Torn> {
        let mut values = Values::new(self.values);
        let Some(site) = self.site.filter(|_| !self.is_finished()) else {
            return show_next(out, &mut values);
        };
        for piece in &*site.plan.pieces {
            let (index, spec) = match piece {
                Piece::Literal(text) => {
                    append(out, text.as_bytes());
                    continue;
                }
                Piece::Plain(index) => (*index, None),
                Piece::Arg(index, spec) => (*index, Some(spec)),
            };
            if !site.plan.in_order {
                values = Values::new(self.values);
                values.advance(index)?;
            }
            match spec {
                None => show_next(out, &mut values)?,
                Some(spec) => show(out, values.value()?, spec),
            }
        }
        Ok(())
    }

    /// Whether [`Line::fields`] gives anything.
    #[must_use]
    pub fn has_fields(&self) -> bool {
        !self.origin.context_fields.is_empty() || self.site.is_none_or(|site| !site.keys.is_empty())
    }

    /// The fields: first those of the context, then the line's own.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        let mut context = Values::new(&self.origin.context_fields);
        let mut own = self.message_end().unwrap_or(Values::new(&[]));
        let mut keys = self.site.map(|site| site.keys.iter());
        std::iter::from_fn(move || {
            if let Some(key) = context.next() {
                return Some((as_text(key)?, context.next()?));
            }
            match &mut keys {
                Some(keys) => Some((keys.next()?.as_str(), own.next()?)),
                None => Some((as_text(own.next()?)?, own.next()?)),
            }
        })
    }
}

fn as_text(value: Value<'_>) -> Option<&str> {
    match value {
        Value::Text(text, _) => Some(text),
        _ => None,
    }
}

/// Whether all of it is printable ASCII. One more and then one comparison, as signed numbers, for all that is not: bytes below a space, DEL, and whatever
/// has its high bit set.
#[inline]
fn is_printable(bytes: &[u8]) -> bool {
    const AT_ONCE: usize = 16;
    let is_suspicious = |byte: &u8| byte.wrapping_add(1).cast_signed() <= b' '.cast_signed();
    let is_clean = |bytes: &[u8]| {
        !bytes
            .iter()
            .fold(false, |any, byte| any | is_suspicious(byte))
    };
    match bytes.last_chunk::<AT_ONCE>() {
        // The last chunk overlaps the one before it.
        Some(last) => {
            let mut chunks = bytes.as_chunks::<AT_ONCE>().0.iter();
            chunks.all(|chunk| is_clean(chunk)) && is_clean(last)
        }
        None => is_clean(bytes),
    }
}

/// Makes text safe to stand in a line: control characters (C0, DEL, C1) and the Unicode line separators in `out[from..]` become
/// `\n`, `\x1b`, `\u{9b}`... so that no argument can end the line, start another, or steer a terminal.
pub fn escape(out: &mut Vec<u8>, from: usize) {
    let bytes = &out[from..];
    if is_printable(bytes) {
        return;
    }
    let text = String::from_utf8_lossy(bytes);
    let dangerous = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if !text.contains(dangerous) && matches!(text, std::borrow::Cow::Borrowed(_)) {
        return;
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\t' | '\n' | '\r' => safe.extend(c.escape_default()),
            c if dangerous(c) && u32::from(c) < 0x80 => {
                safe.push_str(&format!("\\x{:02x}", u32::from(c)))
            }
            c if dangerous(c) => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    out.truncate(from);
    out.extend_from_slice(safe.as_bytes());
}

#[cfg(all(test, not(loom)))]
mod tests {
    //! Goal: whatever stands wherever in a line of any length, it is escaped if it must be, and nothing else is.
    use super::escape;

    #[test]
    fn every_byte_at_every_place() {
        // Method: each character below U+0100, and those that separate lines or nearly do, at each place in lines of up to 40 bytes.
        let others = ['\u{2027}', '\u{2028}', '\u{2029}', '\u{202a}', 'é', '漢'];
        let chars = (0..0x100).filter_map(char::from_u32).chain(others);
        for c in chars {
            let dangerous = c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
            for (before, after) in
                (0..40).flat_map(|length| (0..=length).map(move |at| (at, length - at)))
            {
                let line = format!("{}{c}{}", "x".repeat(before), "y".repeat(after));
                let mut out = format!("\n{line}").into_bytes();
                escape(&mut out, 1);
                let out = String::from_utf8(out).expect("text");
                assert_eq!(
                    out == format!("\n{line}"),
                    !dangerous,
                    "{c:?} at {before} of {out:?}"
                );
                assert!(!out[1..].contains(c) || !dangerous, "{out:?}");
            }
        }
    }
}
