//! TCP for tests: an echo server made of coroutines, and clients made of threads with std's sockets.

use crate::random::pattern;
use coring::coro;
use coring::net::{TcpListener, TcpStream};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::Duration;

/// How long a blocking call of a client may take before the test fails instead of hanging.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);

/// A listener on a free port of the loopback.
///
/// # Panics
///
/// Outside a coroutine, and when there is none.
#[must_use]
pub fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket has one");
    (listener, address)
}

/// Two ends of a connection: one of ours, one of std's.
///
/// # Panics
///
/// When the loopback does not work.
#[must_use]
pub fn pair() -> (TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket has one");
    let theirs = connect(address);
    let (ours, _) = listener.accept().expect("the connection is in the backlog");
    (ours.into(), theirs)
}

/// Two ends of a connection, both ours.
///
/// # Panics
///
/// As [`pair`].
#[must_use]
pub fn pair_of_ours() -> (TcpStream, TcpStream) {
    let (one, other) = pair();
    other.set_read_timeout(None).expect("it can be taken back");
    other.set_write_timeout(None).expect("it can be taken back");
    (one, other.into())
}

/// Accepts so many connections, echoes each to its end, and returns the bytes echoed.
///
/// # Panics
///
/// When a connection fails.
pub fn serve(listener: &TcpListener, connections: usize) -> u64 {
    let handles: Vec<_> = (0..connections)
        .map(|_| {
            let (stream, _) = listener.accept().expect("accept");
            coro::spawn(move || echo(&stream))
        })
        .collect();
    let echoed = handles.into_iter().map(|handle| {
        let outcome = handle.join().expect("no panic");
        outcome.expect("no error")
    });
    echoed.sum()
}

/// Gives back every byte until the peer ends its side.
///
/// # Errors
///
/// The stream's.
pub fn echo(mut stream: &TcpStream) -> io::Result<u64> {
    // On the stack: what it dirties, the runtime has to give back.
    let mut buffer = [0; 32 * 1024];
    let mut echoed = 0;
    loop {
        let bytes = stream.read(&mut buffer)?;
        if bytes == 0 {
            return Ok(echoed);
        }
        stream.write_all(&buffer[..bytes])?;
        echoed += bytes as u64;
    }
}

/// A client of std's, whose calls end in an error rather than never.
///
/// # Panics
///
/// When it cannot connect.
#[must_use]
pub fn connect(address: SocketAddr) -> std::net::TcpStream {
    let stream = std::net::TcpStream::connect(address).expect("the server listens");
    let limit = Some(CLIENT_TIMEOUT);
    stream.set_read_timeout(limit).expect("a valid time");
    stream.set_write_timeout(limit).expect("a valid time");
    stream
}

/// Sends a message that no other seed gives, and reads it back while it sends.
///
/// # Panics
///
/// When what comes back is not what was sent.
pub fn round_trip(stream: &std::net::TcpStream, seed: usize, length: usize) {
    let message = pattern(seed, length);
    let mut back = vec![0; length];
    if length <= 16 * 1024 {
        // Fits the socket buffers: the server can take it before we read.
        (&*stream).write_all(&message).expect("send");
        (&*stream).read_exact(&mut back).expect("the echo");
    } else {
        thread::scope(|scope| {
            let sender = scope.spawn(|| (&*stream).write_all(&message));
            (&*stream).read_exact(&mut back).expect("the echo");
            sender.join().expect("no panic").expect("send");
        });
    }
    assert!(back == message, "{length} bytes came back changed");
}

/// As [`round_trip`], for a coroutine: a second one sends.
///
/// # Panics
///
/// As [`round_trip`].
pub fn round_trip_of_ours(stream: &TcpStream, seed: usize, length: usize) {
    let message = pattern(seed, length);
    let mut back = vec![0; length];
    if length <= 16 * 1024 {
        (&*stream).write_all(&message).expect("send");
        (&*stream).read_exact(&mut back).expect("the echo");
    } else {
        let other = stream.try_clone().expect("a descriptor is left");
        let sent = message.clone();
        let sender = coro::spawn(move || (&other).write_all(&sent));
        (&*stream).read_exact(&mut back).expect("the echo");
        sender.join().expect("no panic").expect("send");
    }
    assert!(back == message, "{length} bytes came back changed");
}

/// Ends our direction and expects the other side to end its own, with nothing in between.
///
/// # Panics
///
/// When something else comes.
pub fn finish(stream: &std::net::TcpStream) {
    stream.shutdown(Shutdown::Write).expect("shutdown");
    let mut byte = [0];
    let rest = (&*stream).read(&mut byte).expect("the end, not an error");
    assert_eq!(rest, 0, "the peer ends after we did");
}

/// Closes with a reset instead of an end: `SO_LINGER` of zero.
///
/// # Panics
///
/// When the option is refused.
pub fn reset(stream: std::net::TcpStream) {
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .expect("SO_LINGER");
    drop(stream);
}

/// An address on which nobody listens: port 1 of the loopback, which no free port ever is.
#[must_use]
pub fn refusing() -> SocketAddr {
    (std::net::Ipv4Addr::LOCALHOST, 1).into()
}

/// A listener that answers nobody: its queue is full, so the kernel drops every further SYN.
#[derive(Debug)]
pub struct Silent {
    address: SocketAddr,
    _listener: socket2::Socket,
    _queued: std::net::TcpStream,
}

impl Silent {
    /// On a free port of the loopback.
    ///
    /// # Panics
    ///
    /// When the loopback does not work.
    #[must_use]
    pub fn new() -> Self {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .expect("a descriptor is left");
        let any: SocketAddr = (std::net::Ipv4Addr::LOCALHOST, 0).into();
        listener.bind(&any.into()).expect("a free port");
        // Room for none means one: the queue is full when it is longer than that.
        listener.listen(0).expect("it can listen");
        let address = listener
            .local_addr()
            .ok()
            .and_then(|address| address.as_socket());
        let address = address.expect("a bound socket has one");
        Self {
            address,
            _listener: listener,
            _queued: connect(address),
        }
    }

    /// Connecting to it does not end.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Default for Silent {
    fn default() -> Self {
        Self::new()
    }
}
