//! JSON lines: one object a line, valid for any bytes in the arguments.
//!
//! ```text
//! {"unix_ns":1763665126123456789,"level":"INFO","core":0,"coroutine":7,"name":"session","target":"net","message":"accepted","fields":{"user":"ann"}}
//! ```
//!
//! Fields stand in an object of their own, so that none can overwrite the line's level or message; of two fields with one
//! key a reader takes the later, which is the line's own. Numbers that JSON cannot hold (NaN, infinities, more than 64 bits) become texts.

use crate::append::decimal;
use crate::format::Format;
use crate::line::Line;
use crate::plan::Spec;
use crate::show::show;
use crate::value::Value;

/// One JSON object a line.
#[derive(Debug, Default, Clone)]
pub struct Json {
    /// Reused for messages and values before they are quoted.
    plain: Vec<u8>,
}

impl Json {
    /// A JSON format.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// Appends a JSON string.
pub(crate) fn quote(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest
        .iter()
        .position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\' | 0x7f))
    {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn quote_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    quote(out, &String::from_utf8_lossy(bytes));
}

fn key(out: &mut Vec<u8>, key: &str) {
    if !matches!(out.last(), Some(b'{')) {
        out.push(b',');
    }
    quote(out, key);
    out.push(b':');
}

impl Json {
    fn value(&mut self, value: Value<'_>, out: &mut Vec<u8>) {
        match value {
            Value::None => out.extend_from_slice(b"null"),
            Value::Some(inner) => match inner.values().next() {
                Some(inner) => self.value(inner, out),
                None => out.extend_from_slice(b"null"),
            },
            Value::Tuple(inner) => {
                out.push(b'[');
                for (index, value) in inner.values().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    self.value(value, out);
                }
                out.push(b']');
            }
            Value::F32(number) if !number.is_finite() => quote(out, &number.to_string()),
            Value::F64(number) if !number.is_finite() => quote(out, &number.to_string()),
            Value::Bool(_)
            | Value::U8(_)
            | Value::U16(_)
            | Value::U32(_)
            | Value::U64(_)
            | Value::I8(_)
            | Value::I16(_)
            | Value::I32(_)
            | Value::I64(_)
            | Value::F32(_)
            | Value::F64(_) => show(out, value, &Spec::DISPLAY),
            Value::Text(text, false) => quote(out, text),
            Value::Bytes(bytes, false) => quote_bytes(out, bytes),
            _ => {
                self.plain.clear();
                show(&mut self.plain, value, &Spec::DISPLAY);
                quote_bytes(out, &self.plain);
            }
        }
    }
}

impl Format for Json {
    fn line(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"unix_ns\":");
        decimal(out, line.time_ns());
        key(out, "level");
        quote(out, line.level().as_str());
        if let Some(core) = line.core() {
            key(out, "core");
            decimal(out, core.into());
        }
        if !line.thread().is_empty() {
            key(out, "thread");
            quote(out, line.thread());
        }
        if let Some((id, name)) = line.coroutine() {
            key(out, "coroutine");
            decimal(out, id);
            key(out, "name");
            quote(out, name);
        }
        key(out, "target");
        quote(out, line.target());
        key(out, "file");
        quote(out, line.file());
        key(out, "line");
        decimal(out, line.line().into());
        key(out, "message");
        self.plain.clear();
        line.write_message(&mut self.plain);
        quote_bytes(out, &self.plain);
        if line.has_fields() {
            key(out, "fields");
            out.push(b'{');
            for (name, value) in line.fields() {
                key(out, name);
                self.value(value, out);
            }
            out.push(b'}');
        }
        out.extend_from_slice(b"}\n");
    }
}
