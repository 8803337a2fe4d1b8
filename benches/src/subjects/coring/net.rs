//! coring's servers: a coroutine a connection, std's `Read` and `Write`.

use std::convert::Infallible;
use std::io::{self, Read, Write};

use coring::coro;
use coring::net::{TcpListener, TcpStream};

use crate::load::BULK_REQUEST;
use crate::subject::{ECHO_BUFFER_BYTES, Job};

/// Accepts for ever.
pub(super) fn serve(
    job: &Job,
    handle: impl Fn(TcpStream) -> io::Result<()> + Copy + 'static,
) -> io::Result<Infallible> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    job.listening(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        coro::spawn(move || handle(stream));
    }
}

pub(super) fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; ECHO_BUFFER_BYTES];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count])?;
    }
}

/// The same without a buffer while it waits.
pub(super) fn echo_pooled(mut stream: TcpStream) -> io::Result<()> {
    loop {
        let received = stream.recv_buffer()?;
        if received.is_empty() {
            return Ok(());
        }
        stream.write_all(&received)?;
    }
}

/// Answers each request by one write of all of it.
pub(super) fn bulk(mut stream: TcpStream, answer: &[u8]) -> io::Result<()> {
    let mut request = [0; BULK_REQUEST.len()];
    loop {
        match stream.read_exact(&mut request) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            outcome => outcome?,
        }
        stream.write_all(answer)?;
    }
}

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!";
/// The most headers a request may have.
const HEADERS: usize = 16;

/// An HTTP/1.1 server with httparse: requests without a body, answered in the order and in the pieces they come.
pub(super) fn hello(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; ECHO_BUFFER_BYTES];
    let mut answers = Vec::new();
    let mut received = 0;
    loop {
        let count = stream.read(&mut buffer[received..])?;
        if count == 0 {
            return Ok(());
        }
        received += count;
        let mut begin = 0;
        while let Some(length) = request_bytes(&buffer[begin..received])? {
            answers.extend_from_slice(ANSWER);
            begin += length;
        }
        buffer.copy_within(begin..received, 0);
        received -= begin;
        stream.write_all(&answers)?;
        answers.clear();
    }
}

/// The length of the request at the beginning, if it is complete.
fn request_bytes(received: &[u8]) -> io::Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(received).map_err(io::Error::other)? {
        httparse::Status::Complete(length) => Ok(Some(length)),
        httparse::Status::Partial => Ok(None),
    }
}
