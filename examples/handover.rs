//! Connections move: accepted on one core, or in one process, and served by another.
//!
//! ```text
//!   core 0: accept --+--mailbox--> core 1: serve        a TcpStream is a descriptor, and descriptors can be sent
//!                    +--mailbox--> core 2: serve
//!
//!   process A: accept --- Unix socket, SCM_RIGHTS ---> process B: core 0 --mailbox--> core 1: serve
//! ```
//!
//! One listener that hands over balances better than one a core for few connections that live long. Between processes it
//! is how a new version of a server takes over without a refused connection.
//!
//! A full mailbox makes the acceptor wait, so what is accepted and not served is bounded; the rest waits in the backlog.

use coring::coro;
use coring::mailbox::{Receiver, Sender, mailbox};
use coring::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use coring_examples::{Arguments, exit};
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "handover [--cores N] (--port P [--to SOCKET] | --from SOCKET)";
/// Connections that wait for one core.
const WAITING: usize = 64;

fn main() -> ExitCode {
    exit(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read(USAGE, &["cores", "port", "to", "from"])?;
    let port = arguments.option("port")?.unwrap_or(7777);
    let to: Option<PathBuf> = arguments.option("to")?;
    let from: Option<PathBuf> = arguments.option("from")?;
    let mut builder = coring::Runtime::builder();
    if let Some(cores) = arguments.option("cores")? {
        builder = builder.cores(cores);
    }
    builder.build()?.run(|| match (from, to) {
        (None, None) => {
            let mut servers = Servers::start();
            accept(port, |stream| servers.serve(stream))
        }
        (None, Some(to)) => {
            let other = UnixStream::connect(to)?;
            // The duplicate that travels keeps the connection open when ours is closed.
            accept(port, |stream| give_away(&other, &stream))
        }
        (Some(from), _) => take_over(&from, &mut Servers::start()),
    })?;
    Ok(())
}

fn accept(port: u16, mut pass_on: impl FnMut(TcpStream) -> io::Result<()>) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept()?;
        pass_on(stream)?;
    }
}

/// The cores that serve, each with a mailbox of connections.
struct Servers {
    mailboxes: Vec<Sender<TcpStream>>,
    next: usize,
}

impl Servers {
    /// All cores but the first, which accepts; or that one, where there is no other.
    fn start() -> Self {
        let cores = coring::cores();
        let start = |core| {
            let (sender, receiver) = mailbox(WAITING);
            coring::spawn_on(core, move || serve_all(receiver));
            sender
        };
        Self {
            mailboxes: (1.min(cores - 1)..cores).map(start).collect(),
            next: 0,
        }
    }

    /// Hands a connection to the core whose turn it is.
    fn serve(&mut self, stream: TcpStream) -> io::Result<()> {
        self.next = (self.next + 1) % self.mailboxes.len();
        let sent = self.mailboxes[self.next].send(stream);
        sent.map_err(|error| io::Error::other(error.to_string()))
    }
}

fn serve_all(mut connections: Receiver<TcpStream>) {
    while let Ok(stream) = connections.recv() {
        let serving = coro::try_spawn(move || {
            // A peer that goes away in the middle is nothing to worry about.
            let _ = echo(&stream);
        });
        if let Err(error) = serving {
            eprintln!("a connection was turned away: {error}");
        }
    }
}

/// Says who serves, then gives back what comes.
fn echo(mut stream: &TcpStream) -> io::Result<()> {
    let core = coring::current_core().expect("on a core");
    let greeting = format!("core {core} of process {}\n", std::process::id());
    stream.write_all(greeting.as_bytes())?;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            bytes => stream.write_all(&buffer[..bytes])?,
        }
    }
}

/// Sends a connection to another process: a byte, and with it the descriptor.
fn give_away(other: &UnixStream, stream: &TcpStream) -> io::Result<()> {
    match other.send_with_fds(b"c", &[stream.as_fd()])? {
        1 => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Serves what other processes send, one process after the other.
fn take_over(path: &Path, servers: &mut Servers) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    println!("taking over connections from {}", path.display());
    loop {
        let (other, _) = listener.accept()?;
        loop {
            // One byte at a time: each has the descriptor that was sent with it.
            let received = other.recv_with_fds(&mut [0])?;
            if received.bytes == 0 {
                break;
            }
            for descriptor in received.descriptors {
                servers.serve(TcpStream::from(descriptor))?;
            }
        }
    }
}
