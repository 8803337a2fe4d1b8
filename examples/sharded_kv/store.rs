//! The keys of one core: values, when they expire, and what is still to be written to the log.
//!
//! Pure data of one core: no lock, no I/O, and nothing here waits, so that each command is whole before the next one.
//!
//! Time stands still during a command, at `now_ms`. A key that has expired is removed by who comes across it, or by the
//! core's janitor, and the removal goes into the journal as a `DEL`. While the log is replayed the time is zero and
//! nothing expires: else a command that met a key when it was written would miss it when it is read.

use crate::protocol::encode;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

/// What a key holds.
#[derive(Debug)]
pub(crate) enum Value {
    Text(Vec<u8>),
    List(VecDeque<Box<[u8]>>),
}

/// A value and its end.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) value: Value,
    /// [`NEVER`], or milliseconds since 1970.
    pub(crate) expires_ms: u64,
}

/// The end of what has none.
pub(crate) const NEVER: u64 = u64::MAX;

/// Changes that are not in the log yet, as requests.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Whether there is a log to write to.
    pub(crate) on: bool,
    pub(crate) pending: Vec<u8>,
    /// All bytes that were ever appended.
    pub(crate) appended: u64,
}

impl Journal {
    pub(crate) fn record<'a>(&mut self, words: impl ExactSizeIterator<Item = &'a [u8]>) {
        if self.on {
            let before = self.pending.len();
            encode(words, &mut self.pending);
            self.appended += (self.pending.len() - before) as u64;
        }
    }
}

/// The keys of one core.
#[derive(Debug, Default)]
pub(crate) struct Store {
    entries: HashMap<Rc<[u8]>, Entry>,
    /// The keys that have an end, the next one first.
    expiring: BTreeSet<(u64, Rc<[u8]>)>,
    pub(crate) now_ms: u64,
    pub(crate) journal: Journal,
}

impl Store {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What is there under a key now.
    #[inline]
    pub(crate) fn get(&mut self, key: &[u8]) -> Option<&mut Entry> {
        if !self.expiring.is_empty() {
            self.expire(key);
        }
        self.entries.get_mut(key)
    }

    /// Removes a key if its time is over.
    fn expire(&mut self, key: &[u8]) {
        let over = |entry: &Entry| entry.expires_ms <= self.now_ms;
        if self.entries.get(key).is_some_and(over) {
            self.remove(key);
            self.journal.record([&b"DEL"[..], key].into_iter());
        }
    }

    /// Removes up to `most` keys whose time is over; whether there may be more.
    pub(crate) fn expire_some(&mut self, most: usize) -> bool {
        for _ in 0..most {
            match self.expiring.first() {
                Some((at_ms, key)) if *at_ms <= self.now_ms => {
                    let key = Rc::clone(key);
                    self.expire(&key);
                }
                _ => return false,
            }
        }
        true
    }

    /// Puts a value under a key, whatever was there; it has no end.
    #[inline]
    pub(crate) fn put(&mut self, key: &[u8], value: Value) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.value = value;
            if entry.expires_ms != NEVER {
                self.expire_at(key, NEVER);
            }
        } else {
            let expires_ms = NEVER;
            self.entries.insert(key.into(), Entry { value, expires_ms });
        }
    }

    /// Puts text under a key. As [`put`](Self::put), in the memory of the text that was there.
    #[inline]
    pub(crate) fn put_text(&mut self, key: &[u8], text: &[u8]) {
        match self.entries.get_mut(key) {
            Some(Entry {
                value: Value::Text(there),
                expires_ms: NEVER,
            }) if text.len() >= there.capacity() / 2 => {
                there.clear();
                there.extend_from_slice(text);
            }
            _ => self.put(key, Value::Text(text.to_vec())),
        }
    }

    /// Sets the end of a key that is there.
    pub(crate) fn expire_at(&mut self, key: &[u8], at_ms: u64) {
        let Some((name, _)) = self.entries.get_key_value(key) else {
            return;
        };
        let name = Rc::clone(name);
        let entry = self
            .entries
            .get_mut(key)
            .expect("it was there a moment ago");
        let before = std::mem::replace(&mut entry.expires_ms, at_ms);
        if before != NEVER {
            self.expiring.remove(&(before, Rc::clone(&name)));
        }
        if at_ms != NEVER {
            self.expiring.insert((at_ms, name));
        }
    }

    /// Removes a key; whether it was there.
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        let Some((name, entry)) = self.entries.remove_entry(key) else {
            return false;
        };
        if entry.expires_ms != NEVER {
            self.expiring.remove(&(entry.expires_ms, name));
        }
        true
    }

    /// Removes everything.
    pub(crate) fn clear(&mut self) {
        self.expiring.clear();
        for (key, _) in self.entries.drain() {
            // One by one: in the log of a core that had other keys, "all" would mean something else.
            self.journal.record([&b"DEL"[..], &key].into_iter());
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.entries.iter().map(|(key, entry)| (&**key, entry))
    }
}
