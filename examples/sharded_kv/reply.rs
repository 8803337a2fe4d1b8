//! Answers, in the version of the protocol that the client speaks.

use crate::protocol::{bulk, decimal};

/// Appends answers to a connection's output.
#[derive(Debug)]
pub(crate) struct Reply<'a> {
    pub(crate) out: &'a mut Vec<u8>,
    /// RESP3, which has nulls, maps and pushes of its own; else RESP2.
    pub(crate) resp3: bool,
}

impl Reply<'_> {
    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.push(kind);
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
    }

    fn count(&mut self, kind: u8, count: i64) {
        self.out.push(kind);
        decimal(count, self.out);
        self.out.extend_from_slice(b"\r\n");
    }

    /// A word of success.
    pub(crate) fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    pub(crate) fn ok(&mut self) {
        self.simple("OK");
    }

    /// A sentence that says what is wrong. Whatever of the client's is quoted in it stays on this line.
    pub(crate) fn error(&mut self, text: &str) {
        let text: Vec<u8> = text
            .bytes()
            .map(|byte| match byte {
                b'\r' | b'\n' => b' ',
                other => other,
            })
            .collect();
        self.line(b'-', &text);
    }

    pub(crate) fn integer(&mut self, value: i64) {
        self.count(b':', value);
    }

    pub(crate) fn bulk(&mut self, bytes: &[u8]) {
        bulk(bytes, self.out);
    }

    pub(crate) fn null(&mut self) {
        self.out
            .extend_from_slice(if self.resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    pub(crate) fn null_array(&mut self) {
        self.out
            .extend_from_slice(if self.resp3 { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// The head of an array: so many answers follow.
    pub(crate) fn array(&mut self, length: usize) {
        self.count(b'*', length as i64);
    }

    /// The head of a map: so many pairs of answers follow.
    pub(crate) fn map(&mut self, pairs: usize) {
        if self.resp3 {
            self.count(b'%', pairs as i64);
        } else {
            self.array(pairs * 2);
        }
    }

    /// The head of a message that answers nothing.
    pub(crate) fn push(&mut self, length: usize) {
        self.count(if self.resp3 { b'>' } else { b'*' }, length as i64);
    }
}
