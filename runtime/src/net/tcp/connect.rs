//! Connecting to one of several addresses: in order, with a head start for each (RFC 8305).
//!
//! ```text
//!   address 1  |------------------------------------ ... no answer          ended
//!   address 2            |------ refused
//!   address 3                    |---------------- connected: wins
//!                 250 ms    at once
//! ```
//!
//! std waits for each address to fail before it tries the next, which for one that is silent takes two minutes. Here the
//! order is kept and the wait is not. Unlike in RFC 8305 the list is not sorted again by family: it comes from the
//! caller, or from getaddrinfo(3), which sorts by what can be reached (RFC 6724).

use super::{TcpSocket, TcpStream};
use crate::io::connect_first;
use crate::net::no_addresses;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// The head start of an address before the next one: the Connection Attempt Delay that RFC 8305 recommends.
const HEAD_START: Duration = Duration::from_millis(250);

pub(super) fn connect_to_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    match addresses {
        [] => Err(no_addresses()),
        [address] => TcpSocket::for_address(address)?.connect(*address),
        several => {
            let open = |address: &SocketAddr| Ok(TcpSocket::for_address(address)?.into_socket());
            let socket = connect_first(several, HEAD_START, open)?;
            Ok(TcpStream { socket })
        }
    }
}
