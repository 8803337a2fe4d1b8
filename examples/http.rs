//! Reading HTTP/1.1 requests, as far as the examples need it.
//!
//! A request's head is found in a buffer of fixed size, in place; what does not fit is answered with 431. Bodies
//! are not wanted here: small ones are skipped, others answered with 413.

use coring::net::{Shutdown, TcpStream};
use std::io::{self, Read};
use std::ops::Range;
use std::time::Duration;

/// The longest head of a request.
pub const HEAD_BYTES: usize = 8 * 1024;
/// The longest body that is skipped.
const BODY_BYTES: usize = 4 * 1024;
const HEADERS: usize = 64;
/// What a client that was refused may still send, and how long it may take for the next piece of it.
const FAREWELL_BYTES: usize = 16 << 20;
const FAREWELL_TIME: Duration = Duration::from_secs(2);

/// Why a request is not served. The connection ends after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is no HTTP.
    Bad,
    /// It has a body that is too long.
    BodyTooLarge,
    /// Its head is too long.
    HeadTooLarge,
}

impl Refusal {
    /// The status line's number and words.
    #[must_use]
    pub fn status(self) -> &'static str {
        match self {
            Self::Bad => "400 Bad Request",
            Self::BodyTooLarge => "413 Content Too Large",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// Anything else.
    Other,
}

/// The head of a request. Its texts are in the buffer: [`Requests::text`].
#[derive(Clone, Debug)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The target, as it was sent.
    pub target: Range<usize>,
    /// The value of `Range`.
    pub range: Option<Range<usize>>,
    /// Whether the connection goes on afterwards.
    pub keep_alive: bool,
}

/// The requests of one connection.
#[derive(Debug)]
pub struct Requests {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            buffer: vec![0; HEAD_BYTES].into(),
            start: 0,
            end: 0,
        }
    }
}

impl Requests {
    /// A text of the last head. Valid until the next `fill`.
    #[must_use]
    pub fn text(&self, range: Range<usize>) -> &str {
        std::str::from_utf8(&self.buffer[range]).unwrap_or("")
    }

    /// The next request, if all of it has been received.
    ///
    /// # Errors
    ///
    /// The answer to give, when it will never be one.
    pub fn parse(&mut self) -> Result<Option<Head>, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let received = &self.buffer[self.start..self.end];
        let head_bytes = match request.parse(received) {
            Ok(httparse::Status::Complete(bytes)) => bytes,
            Ok(httparse::Status::Partial) if received.len() == HEAD_BYTES => {
                return Err(Refusal::HeadTooLarge);
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadTooLarge),
            Err(_) => return Err(Refusal::Bad),
        };
        let place = |text: &[u8]| {
            let start = text.as_ptr().addr() - self.buffer.as_ptr().addr();
            start..start + text.len()
        };
        let mut head = Head {
            method: match request.method {
                Some("GET") => Method::Get,
                Some("HEAD") => Method::Head,
                _ => Method::Other,
            },
            target: place(request.path.unwrap_or("").as_bytes()),
            range: None,
            keep_alive: request.version == Some(1),
        };
        let mut body_bytes = None;
        for header in &*request.headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("connection") {
                for word in header.value.split(|&byte| byte == b',') {
                    match &*word.trim_ascii().to_ascii_lowercase() {
                        b"close" => head.keep_alive = false,
                        b"keep-alive" => head.keep_alive = true,
                        _ => {}
                    }
                }
            } else if is("range") {
                head.range = Some(place(header.value));
            } else if is("content-length") {
                // Two that differ are an attack on whoever believes the other one.
                let bytes = decimal(header.value).ok_or(Refusal::Bad)?;
                if body_bytes.is_some_and(|before| before != bytes) {
                    return Err(Refusal::Bad);
                }
                body_bytes = Some(bytes);
            } else if is("transfer-encoding") {
                return Err(Refusal::BodyTooLarge);
            }
        }
        let body_bytes = usize::try_from(body_bytes.unwrap_or(0)).unwrap_or(usize::MAX);
        if body_bytes > BODY_BYTES {
            return Err(Refusal::BodyTooLarge);
        }
        let whole = head_bytes + body_bytes;
        if whole > received.len() {
            return match whole > HEAD_BYTES {
                true => Err(Refusal::BodyTooLarge),
                false => Ok(None),
            };
        }
        self.start += whole;
        Ok(Some(head))
    }

    /// Receives more. `false` at the end.
    ///
    /// # Errors
    ///
    /// The stream's.
    pub fn fill(&mut self, mut stream: &TcpStream) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let bytes = stream.read(&mut self.buffer[self.end..])?;
        self.end += bytes;
        Ok(bytes != 0)
    }
}

/// A number as HTTP has it: digits, and nothing else.
fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| digits)?;
    text.parse().ok()
}

/// Ends a connection after a refusal. To close it with bytes unread would be a reset, which can overtake the answer: so
/// what the client still sends is read and thrown away, within limits.
///
/// # Errors
///
/// The stream's.
pub fn take_leave(mut stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(FAREWELL_TIME))?;
    let (mut bytes, mut rest) = (vec![0; HEAD_BYTES], FAREWELL_BYTES);
    loop {
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            read if read < rest => rest -= read,
            _ => return Ok(()),
        }
    }
}
