//! Serving: a listener a core, a coroutine a connection.

use coring::logger::{debug, warn};
use coring::net::{TcpListener, TcpStream};
use coring::{coro, spawn_on};
use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// How long a listener waits when there is no descriptor left for a connection.
const NO_DESCRIPTOR_PAUSE: Duration = Duration::from_millis(10);

/// Serves on every core of the runtime, for ever: each connection gets a coroutine that runs `handle`.
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
            spawn_on(core, move || accept(&listener, &handle))
        })
        .collect();
    for one in accepting {
        one.join()??;
    }
    Ok(())
}

/// Accepts on this core. Ends only with an error that will not go away.
fn accept<H>(listener: &TcpListener, handle: &H) -> io::Result<()>
where
    H: Fn(&TcpStream) -> io::Result<()> + Clone + 'static,
{
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                let handle = handle.clone();
                let connection = coro::try_spawn(move || {
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
