//! The records as they are in the rings, in one stream of time order.
//!
//! ```text
//!   | magic | origin 1 | site 16 | line | line | site 17 | line | origin 2 | context | line | ...
//! ```
//!
//! Before the first line of a call site goes its description, before a line from another ring the name of that ring (and its
//! context). The counter in each record is replaced by the wall time, so a file can be read on any machine, and files can be merged.
//! A line of a u64, an f64 and a text of 12 bytes takes 48 bytes.

use crate::encode::push;
use crate::format::Format;
use crate::line::{Line, Origin, Site};
use crate::record::{self, id};

/// The first bytes of a binary log file. The last byte is the version.
pub(crate) const MAGIC: [u8; 16] = *b"\x89coring-log\r\n\x1a\0\x01";

/// Binary records; read them with the `coring-log` command.
#[derive(Debug, Default)]
pub struct Binary {
    /// By site id: whether this file has its description.
    described: Vec<bool>,
    /// The number of the origin last written.
    origin: Option<u64>,
}

impl Binary {
    /// A binary format.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// By site id: whether this file has its description.
    pub(crate) fn described(&self) -> &[bool] {
        &self.described
    }

    /// Whether a line of this origin may follow the last one as it is.
    pub(crate) fn is_at(&self, origin: &Origin) -> bool {
        self.origin == Some(origin.number)
    }

    #[cold]
    fn describe(&mut self, site: &Site, out: &mut Vec<u8>) {
        let index = site.id as usize;
        if self.described.len() <= index {
            self.described.resize(index + 1, false);
        }
        self.described[index] = true;
        push_site(out, site);
    }

    #[cold]
    fn change_origin(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        self.origin = Some(line.origin.number);
        push_origin(out, line.origin);
    }
}

/// Appends a record that describes a call site.
pub(crate) fn push_site(out: &mut Vec<u8>, site: &Site) {
    let mut values = Vec::new();
    push(&mut values, u64::from(site.id));
    push(&mut values, site.level as u64);
    push(&mut values, u64::from(site.line));
    for text in [&site.target, &site.module, &site.file, &site.format] {
        push(&mut values, text.as_str());
    }
    for key in &site.keys {
        push(&mut values, key.as_str());
    }
    record::push(out, 0, id::SITE, 0, &values);
}

/// Appends a record that names a ring, and one with its context.
pub(crate) fn push_origin(out: &mut Vec<u8>, origin: &Origin) {
    let mut values = Vec::new();
    push(&mut values, u64::from(origin.id));
    push(&mut values, origin.core.map(u64::from));
    push(&mut values, origin.thread.as_str());
    record::push(out, 0, id::SOURCE, 0, &values);
    values.clear();
    push(&mut values, origin.context);
    push(&mut values, origin.context_name.as_str());
    values.extend_from_slice(&origin.context_fields);
    record::push(out, 0, id::CONTEXT, 0, &values);
}

impl Format for Binary {
    fn as_binary(&self) -> Option<&Binary> {
        Some(self)
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        *self = Self::default();
        out.extend_from_slice(&MAGIC);
    }

    #[inline]
    fn line(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        if let Some(site) = line.site
            && !self
                .described
                .get(site.id as usize)
                .copied()
                .unwrap_or(false)
        {
            self.describe(site, out);
        }
        if !self.is_at(line.origin) {
            self.change_origin(line, out);
        }
        let start = out.len();
        out.extend_from_slice(line.raw);
        record::set_time(&mut out[start..], line.time_ns());
    }
}
/// The reverse of [`push_site`].
pub(crate) fn read_site(bytes: &[u8]) -> Result<Site, crate::value::Torn> {
    use crate::value::{Torn, Value, Values};
    let mut values = Values::new(bytes);
    let narrow = |number: u64| u32::try_from(number).map_err(|_| Torn);
    let id = narrow(values.number()?)?;
    let level = values.number()?;
    let level = log::Level::iter()
        .find(|known| *known as u64 == level)
        .ok_or(Torn)?;
    let line = narrow(values.number()?)?;
    let mut text = || values.text().map(str::to_owned);
    let (target, module, file, format) = (text()?, text()?, text()?, text()?);
    let mut keys = Vec::new();
    while let Some(Value::Text(key, _)) = values.next() {
        keys.push(key.to_owned());
    }
    let plan = crate::plan::Plan::parse(&format);
    Ok(Site {
        id,
        level,
        target,
        module,
        file,
        line,
        format,
        keys,
        plan,
    })
}
