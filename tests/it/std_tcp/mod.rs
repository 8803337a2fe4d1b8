//! TCP as std documents it: what a caller of `std::net` may rely on holds for ours, too. About a test for each case that
//! std's own suite has.

mod clones;
mod listeners;
mod nonblocking;
mod options;
mod streams;
mod timeouts;

use coring::net::{TcpListener, TcpStream};
use std::net::SocketAddr;

/// A listener on a free port of each family.
fn each_family(mut body: impl FnMut(TcpListener, SocketAddr)) {
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(host).unwrap();
        let address = listener.local_addr().unwrap();
        body(listener, address);
    }
}

/// Both ends of a connection, ours, over each family.
fn each_pair(mut body: impl FnMut(TcpStream, TcpStream)) {
    each_family(|listener, address| {
        let client = TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        body(client, server);
    });
}
