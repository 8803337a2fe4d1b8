//! The input of a connection: bytes that have come, and the requests in them.
//!
//! ```text
//!   | answered | request | request | half a request |  room  |
//!              used                                 filled   the end: what is read next goes behind filled
//! ```
//!
//! The memory doubles while one request is longer than it, and is given back afterwards.

use crate::protocol::{Malformed, Parser, Request};
use coring::net::TcpStream;
use std::io::{self, Read};

/// What an idle connection has.
const USUAL_BYTES: usize = 16 << 10;

#[derive(Debug)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    used: usize,
    filled: usize,
    /// The length of the request that was given out last.
    current: usize,
    parser: Parser,
}

impl Input {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; USUAL_BYTES],
            used: 0,
            filled: 0,
            current: 0,
            parser: Parser::new(),
        }
    }

    /// Waits for more; whether there is any.
    ///
    /// # Errors
    ///
    /// The stream's.
    pub(crate) fn read(&mut self, mut stream: &TcpStream) -> io::Result<bool> {
        self.make_room();
        let came = stream.read(&mut self.bytes[self.filled..])?;
        self.filled += came;
        Ok(came > 0)
    }

    fn make_room(&mut self) {
        if self.used == self.filled {
            (self.used, self.filled) = (0, 0);
            if self.bytes.len() > 4 * USUAL_BYTES {
                self.bytes = vec![0; USUAL_BYTES];
            }
        } else if self.filled == self.bytes.len() {
            if self.used > 0 {
                self.bytes.copy_within(self.used..self.filled, 0);
                self.filled -= self.used;
                self.used = 0;
            } else {
                // Twice as much as has come, whatever was announced. The parser bounds it.
                self.bytes.resize(self.bytes.len() * 2, 0);
            }
        }
    }

    /// The next request, if a whole one is here. The one before is answered.
    ///
    /// # Errors
    ///
    /// When what comes next is no request.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Request<'_>>, Malformed> {
        if self.current > 0 {
            self.used += std::mem::take(&mut self.current);
            self.parser.next();
        }
        let bytes = &self.bytes[self.used..self.filled];
        match self.parser.parse(bytes)? {
            None => Ok(None),
            Some(length) => {
                self.current = length;
                Ok(Some(self.parser.request(bytes)))
            }
        }
    }
}
