//! A limit of `net`: a hand-written echo loop over epoll, level-triggered, with one shared buffer.
//!
//! One read and one write for each answer, one `epoll_wait` for all that are ready. No task, no timer, no
//! registration but the kernel's: what readiness costs when nothing is built upon it.

use std::convert::Infallible;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use crate::machine;
use crate::subject::{ECHO_BUFFER_BYTES, Job, Role, Skip, Subject, Work};
use crate::sys::{self, Interest};

/// The subject.
#[derive(Debug)]
pub(crate) struct Epoll;

impl Subject for Epoll {
    fn name(&self) -> &'static str {
        "raw-epoll"
    }

    fn role(&self) -> Role {
        Role::Limit
    }

    fn version(&self) -> String {
        machine::kernel()
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        match job.work {
            Work::Echo => match serve(job)? {},
            _ => job.not_offered(),
        }
    }
}

const BATCH: usize = 512;

fn serve(job: &Job) -> io::Result<Infallible> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let mut epoll = sys::Epoll::new(BATCH)?;
    let mut ready = Vec::with_capacity(BATCH);
    let accept = token(&listener);
    epoll.add(&listener, accept, Interest::Level)?;
    job.listening(listener.local_addr()?);
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut buffer = [0; ECHO_BUFFER_BYTES];
    loop {
        ready.extend(epoll.wait(None)?);
        for fd in ready.drain(..) {
            if fd == accept {
                accept_all(&listener, &epoll, &mut streams)?;
            } else if let Some(stream) = &mut streams[fd]
                && echo(stream, &mut buffer).is_err()
            {
                streams[fd] = None;
            }
        }
    }
}

/// Sockets are known by their descriptor, which is small and unique.
fn token(socket: &impl AsRawFd) -> usize {
    usize::try_from(socket.as_raw_fd()).expect("an open descriptor is not negative")
}

fn accept_all(
    listener: &TcpListener,
    epoll: &sys::Epoll,
    streams: &mut Vec<Option<TcpStream>>,
) -> io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let fd = token(&stream);
        epoll.add(&stream, fd, Interest::Level)?;
        if streams.len() <= fd {
            streams.resize_with(fd + 1, || None);
        }
        streams[fd] = Some(stream);
    }
}

/// One answer. An end of input is an error here: both close the connection.
fn echo(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    match stream.read(buffer) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        // A request is far below the socket's buffer, so the answer always fits.
        Ok(count) => stream.write_all(&buffer[..count]),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}
