//! Serving: a listener a core, a coroutine a connection, until the runtime is asked to end.
//!
//! Then each core stops accepting and cancels its connections: one that waits for its client ends at once, and what a
//! handler does in a `coro::shield` it does to the end.

use coring::coro::{self, Builder, Scope};
use coring::logger::{debug, warn};
use coring::net::{TcpListener, TcpStream};
use coring::{shutdown_requested, spawn_on};
use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// How long a listener waits when there is no descriptor left for a connection.
const NO_DESCRIPTOR_PAUSE: Duration = Duration::from_millis(10);

/// Serves on every core of the runtime: each connection gets a coroutine that runs `handle`. Returns when a shutdown was
/// requested and the last connection has ended.
///
/// # Errors
///
/// When a listener cannot be made, or ends.
pub fn serve<H>(host: IpAddr, port: u16, handle: H) -> Result<(), Box<dyn Error>>
where
    H: Fn(&TcpStream) -> io::Result<()> + Clone + Send + 'static,
{
    let bind = |port| TcpListener::bind_reuse_port((host, port));
    let mut listeners = vec![bind(port).map_err(|error| format!("port {port}: {error}"))?];
    let address = listeners[0].local_addr()?;
    for _ in 1..coring::cores() {
        listeners.push(bind(address.port())?);
    }
    println!("listening on {address} on {} cores", listeners.len());
    let accepting: Vec<_> = (0..)
        .zip(listeners)
        .map(|(core, listener)| {
            let handle = handle.clone();
            spawn_on(core, move || serve_core(&listener, &handle))
        })
        .collect();
    for one in accepting {
        one.join()??;
    }
    Ok(())
}

/// Serves on this core.
fn serve_core<H>(listener: &TcpListener, handle: &H) -> io::Result<()>
where
    H: Fn(&TcpStream) -> io::Result<()>,
{
    coro::scope(|connections| {
        let ended = coro::race(
            || shutdown_requested().map_err(io::Error::other),
            || accept(listener, handle, connections),
        );
        connections.cancel();
        ended
    })
}

/// Accepts on this core. Ends only with an error that will not go away.
fn accept<'scope, H>(
    listener: &TcpListener,
    handle: &'scope H,
    connections: &'scope Scope<'scope, '_>,
) -> io::Result<()>
where
    H: Fn(&TcpStream) -> io::Result<()>,
{
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                let connection = connections.spawn_with(Builder::new(), move || {
                    // A peer that goes away in the middle is nothing to worry about.
                    if let Err(error) = handle(&stream) {
                        debug!("{}: {}", peer, error);
                    }
                });
                if let Err(error) = connection {
                    warn!("a connection was turned away: {}", error);
                }
            }
            Err(error) if is_passing(&error) => {
                warn!("cannot accept for now: {}; see ulimit -n", error);
                coro::sleep(NO_DESCRIPTOR_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether accepting will work again: the connection has gone already, or descriptors or memory are short.
fn is_passing(error: &io::Error) -> bool {
    const PASSING: [i32; 4] = [23, 24, 103, 105]; // ENFILE, EMFILE, ECONNABORTED, ENOBUFS
    error
        .raw_os_error()
        .is_some_and(|code| PASSING.contains(&code))
}
