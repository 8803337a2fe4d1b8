//! The server: a listener a core, a coroutine a connection.

use coring::logger::{debug, info, warn};
use coring::net::{TcpListener, TcpStream};
use coring::{RemoteHandle, coro};
use std::error::Error;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// How long a listener waits when there is no descriptor left for a connection.
const NO_DESCRIPTOR_PAUSE: Duration = Duration::from_millis(10);

/// Serves on every core for ever.
pub(crate) fn serve(port: u16, cores: usize) -> Result<(), Box<dyn Error>> {
    let (address, listeners) = listen(port, cores)?;
    println!("listening on {address} on {cores} cores");
    for listener in listeners {
        listener
            .join()?
            .map_err(|error| format!("a listener ended: {error}"))?;
    }
    Ok(())
}

/// Starts serving on every core and returns the address.
pub(crate) fn start(port: u16, cores: usize) -> Result<SocketAddr, Box<dyn Error>> {
    listen(port, cores).map(|(address, _listeners)| address)
}

type Listeners = Vec<RemoteHandle<io::Result<()>>>;

/// One listener a core, all on one port. The first decides which, if it is not given.
fn listen(port: u16, cores: usize) -> Result<(SocketAddr, Listeners), Box<dyn Error>> {
    let bind = |port| TcpListener::bind_reuse_port(("127.0.0.1", port));
    let first = bind(port).map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    let address = first.local_addr()?;
    let mut listeners = vec![coring::spawn_on(0, move || accept(first))];
    for core in 1..cores {
        let listener = bind(address.port())?;
        listeners.push(coring::spawn_on(core, move || accept(listener)));
    }
    Ok((address, listeners))
}

/// Accepts connections on this core. Ends only with an error that will not go away.
fn accept(listener: TcpListener) -> io::Result<()> {
    info!("core {} accepts", coring::current_core().unwrap_or(0));
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                coro::spawn(move || {
                    // A peer that resets the connection is nothing to worry about, and all that can go wrong here.
                    if let Err(error) = echo(stream) {
                        debug!("{}: {}", peer, error);
                    }
                });
            }
            Err(error) if is_passing(&error) => {
                warn!(
                    "cannot accept for now: {}; raise the limit with ulimit -n",
                    error
                );
                coro::sleep(NO_DESCRIPTOR_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Sends back what comes until the peer has sent everything. While it waits it holds no buffer: an idle connection costs one page
/// of its stack.
fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let received = stream.recv_buffer()?;
        if received.is_empty() {
            return Ok(());
        }
        stream.write_all(&received)?;
    }
}

/// No descriptor or memory for one more connection (it stays in the backlog), or one that was gone already.
fn is_passing(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    // EMFILE, ENFILE, ENOBUFS, ENOMEM as accept(2) lists them.
    error.kind() == ErrorKind::ConnectionAborted || matches!(errno, Some(24 | 23 | 105 | 12))
}
