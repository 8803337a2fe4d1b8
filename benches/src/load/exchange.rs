//! What goes to and fro on a connection, and the check that the server does it right.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::sys;

/// A request and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// Bytes, which come back. `deep` requests are sent in one piece, and the next when all answers are there: a
    /// pipelining client.
    Echo {
        /// The size of a request, and of its answer.
        bytes: usize,
        /// How many requests a message carries.
        deep: usize,
    },
    /// An HTTP/1.1 GET on a connection that is kept alive; the answer's body has to be [`HELLO`].
    Hello,
    /// [`BULK_REQUEST`], and so many bytes of [`bulk`] for it.
    Bulk {
        /// The size of an answer.
        bytes: usize,
    },
}

/// What a server of bulk is asked with.
pub(crate) const BULK_REQUEST: &[u8] = b"bulk\r\n\r\n";

/// What it answers. No two pages of it are alike.
pub(crate) fn bulk(bytes: usize) -> impl Iterator<Item = u8> {
    (0..bytes).map(|index| {
        let [low, middle, high, ..] = index.to_le_bytes();
        low ^ middle ^ high
    })
}

/// The body of each answer in `hello`.
pub(crate) const HELLO: &[u8] = b"Hello, world!";

const GET: &[u8] =
    b"GET /hello HTTP/1.1\r\nHost: localhost\r\nUser-Agent: coring-bench\r\nAccept: */*\r\n\r\n";
/// More than any server sends for so short a body.
const LONGEST_HELLO_BYTES: usize = 1024;
/// How long the server may take to answer a connection and a check.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What all connections send from and receive into.
#[derive(Debug)]
pub(super) struct Wire {
    exchange: Exchange,
    pub(super) message: Vec<u8>,
    /// As long as the answer to a message is; that of HTTP is known after the first check.
    pub(super) scratch: Vec<u8>,
}

impl Wire {
    pub(super) fn new(exchange: Exchange) -> Wire {
        let (message, scratch) = match exchange {
            Exchange::Echo { bytes, deep } => (vec![0; bytes * deep], vec![0; bytes * deep]),
            Exchange::Hello => (GET.to_vec(), Vec::new()),
            Exchange::Bulk { bytes } => (BULK_REQUEST.to_vec(), vec![0; bytes]),
        };
        Wire {
            exchange,
            message,
            scratch,
        }
    }

    /// How many requests a message carries.
    pub(super) fn requests(&self) -> u64 {
        match self.exchange {
            Exchange::Echo { deep, .. } => deep as u64,
            Exchange::Hello | Exchange::Bulk { .. } => 1,
        }
    }

    /// Connects, and sees that the server answers as it should: twice, so that the connection is kept alive.
    pub(super) fn connect(&mut self, server: SocketAddr) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        sys::reset_on_close(&stream)?;
        for _ in 0..2 {
            match self.exchange {
                Exchange::Echo { .. } => self.check_echo(&mut stream)?,
                Exchange::Hello => self.check_hello(&mut stream)?,
                Exchange::Bulk { bytes } => self.check_bulk(&mut stream, bytes)?,
            }
        }
        Ok(stream)
    }

    /// Other bytes each time.
    fn check_echo(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        fastrand::fill(&mut self.message);
        stream.write_all(&self.message)?;
        stream.read_exact(&mut self.scratch)?;
        if self.scratch != self.message {
            return Err(io::Error::other(
                "the server echoed other bytes than it was sent",
            ));
        }
        Ok(())
    }

    fn check_bulk(&mut self, stream: &mut TcpStream, bytes: usize) -> io::Result<()> {
        stream.write_all(&self.message)?;
        stream.read_exact(&mut self.scratch)?;
        match self.scratch.iter().copied().eq(bulk(bytes)) {
            true => Ok(()),
            false => Err(io::Error::other("the server sent other bytes than it has")),
        }
    }

    /// Each answer has to be as long as the one before, since later they are only counted.
    fn check_hello(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(&self.message)?;
        let mut answer = vec![0; LONGEST_HELLO_BYTES];
        let mut received = 0;
        let length = loop {
            match stream.read(&mut answer[received..])? {
                0 => return Err(io::Error::other("the server closed in an answer")),
                count => received += count,
            }
            if let Some(length) = hello_bytes(&answer[..received])? {
                break length;
            }
        };
        if received != length || (!self.scratch.is_empty() && self.scratch.len() != length) {
            return Err(io::Error::other("answers differ in length"));
        }
        self.scratch.resize(length, 0);
        Ok(())
    }
}

/// The length of a complete and correct answer, `None` if there is more to come.
fn hello_bytes(answer: &[u8]) -> io::Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(answer).map_err(io::Error::other)? {
        httparse::Status::Complete(head) => head,
        httparse::Status::Partial => return Ok(None),
    };
    if response.code != Some(200) {
        let code = response.code.unwrap_or_default();
        return Err(io::Error::other(format!("the server answered {code}")));
    }
    let length = (response.headers.iter())
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .ok_or_else(|| io::Error::other("the server gave no Content-Length"))?;
    if length.value != HELLO.len().to_string().as_bytes() {
        return Err(io::Error::other("the server's Content-Length is wrong"));
    }
    let body = &answer[head..];
    if !HELLO.starts_with(&body[..body.len().min(HELLO.len())]) || body.len() > HELLO.len() {
        return Err(io::Error::other("the server answered with another body"));
    }
    Ok((body.len() == HELLO.len()).then_some(answer.len()))
}

#[cfg(test)]
mod tests {
    use super::hello_bytes;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nHello, world!";

    /// Goal: an answer counts when it is complete. Method: every prefix of a right one.
    #[test]
    fn an_answer_is_complete_with_its_last_byte() {
        for end in 0..ANSWER.len() {
            assert_eq!(hello_bytes(&ANSWER[..end]).expect("no mistake in it"), None);
        }
        let whole = hello_bytes(ANSWER).expect("no mistake in it");
        assert_eq!(whole, Some(ANSWER.len()));
    }

    /// Goal: wrong answers are refused. Method: one wrong part each.
    #[test]
    fn wrong_answers_are_refused() {
        for wrong in [
            "HTTP/1.1 500 Oh\r\ncontent-length: 13\r\n\r\nHello, world!",
            "HTTP/1.1 200 OK\r\n\r\nHello, world!",
            "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\nHello, world!",
            "HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nHello, World!",
            "HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nHello, world!!",
        ] {
            assert!(hello_bytes(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
