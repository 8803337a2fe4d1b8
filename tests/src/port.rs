//! A port for a server that none of us wrote, and that has to be told one.
//!
//! Who looks for a free port and lets go of it may see another test get it before the server does. So the port stays bound
//! here, by a socket that does not listen: with `SO_REUSEADDR`, which such servers set, it can be bound once more by name, while
//! whoever asks for any port does not get it (socket(7)).

use socket2::{Domain, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr};

/// A port of the loopback that is kept from all who do not know it.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _held: Socket,
}

impl Port {
    /// Takes one.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn take() -> Self {
        let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let held = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is left");
        held.set_reuse_address(true).expect("SO_REUSEADDR");
        held.bind(&any.into()).expect("a free port");
        let address = held.local_addr().expect("a bound socket has one");
        let number = address.as_socket().expect("of the internet").port();
        Self {
            number,
            _held: held,
        }
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn nobody_gets_it_who_does_not_know_it() {
        // Goal: a server can listen on it, and it counts as taken for all others.
        // Method: a socket without SO_REUSEADDR, which is refused as one that asks for any port would be; then std's listener.
        let port = Port::take();
        let here: SocketAddr = (Ipv4Addr::LOCALHOST, port.number()).into();
        let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let refused = other.bind(&here.into()).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
        let server = TcpListener::bind(here).unwrap();
        let client = TcpStream::connect(here).unwrap();
        assert_eq!(server.accept().unwrap().1, client.local_addr().unwrap());
    }
}
