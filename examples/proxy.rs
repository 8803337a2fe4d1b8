//! A TCP proxy that changes no byte: each connection is two coroutines, one a direction.
//!
//! The end of one direction is handed on as such and leaves the other one open. An error in one direction ends both,
//! with a reset where that is what happened: the peers see what they would see without the proxy in between.

use coring::coro;
use coring::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use coring_examples::{Arguments, exit, serve};
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "proxy --listen ADDRESS:PORT --to HOST:PORT [--cores N]";
/// Moved at once, in each direction. On the heap: a quarter of the stack is the most that a closure may take.
const BUFFER_BYTES: usize = 64 * 1024;

fn main() -> ExitCode {
    exit(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read(USAGE, &["listen", "to", "cores"])?;
    let listen: SocketAddr = arguments.option("listen")?.ok_or(USAGE)?;
    let to: String = arguments.option("to")?.ok_or(USAGE)?;
    let mut builder = coring::Runtime::builder();
    if let Some(cores) = arguments.option("cores")? {
        builder = builder.cores(cores);
    }
    builder.build()?.run(|| {
        let to: Vec<SocketAddr> = to.to_socket_addrs()?.collect();
        serve(listen.ip(), listen.port(), move |client| relay(client, &to))
    })
}

/// Connects to the server and moves bytes until both directions have ended.
fn relay(client: &TcpStream, to: &[SocketAddr]) -> io::Result<()> {
    let server = TcpStream::connect(to)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let outcome = coro::scope(|scope| {
        let up = scope.spawn(|| forward(client, &server));
        let down = forward(&server, client);
        let up = up
            .join()
            .unwrap_or_else(|error| Err(io::Error::other(error.to_string())));
        up.and(down)
    });
    if outcome.is_err() {
        // What was cut off must not look like an end.
        let _ = client.set_linger(Some(Duration::ZERO));
        let _ = server.set_linger(Some(Duration::ZERO));
    }
    outcome
}

/// Moves one direction to its end.
fn forward(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let outcome = loop {
        match from.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(bytes) => {
                if let Err(error) = to.write_all(&buffer[..bytes]) {
                    break Err(error);
                }
            }
            Err(error) => break Err(error),
        }
    };
    match outcome {
        Ok(()) => ignore_gone(to.shutdown(Shutdown::Write)),
        Err(error) => {
            // Wakes the other direction, whose peer will not hear from this one any more.
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
            Err(error)
        }
    }
}

fn ignore_gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
        outcome => outcome,
    }
}
