//! Names and addresses: [`ToSocketAddrs`] as in std, but a name is looked up in the offload pool.
//!
//! getaddrinfo(3) may take seconds; on a core it would hold up every coroutine. An address that is written in numbers
//! needs no look-up and is parsed on the spot.

use crate::blocking;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::vec;

/// What a socket can be bound or connected to. Implemented for the same types as [`std::net::ToSocketAddrs`].
///
/// # Examples
///
/// ```
/// use coring::net::ToSocketAddrs;
///
/// coring::Runtime::builder().cores(1).build()?.run(|| {
///     let numbers = "127.0.0.1:80".to_socket_addrs()?.next();
///     let name = ("localhost", 80).to_socket_addrs()?.next();
///     assert!(numbers.unwrap().ip().is_loopback() && name.unwrap().ip().is_loopback());
///     Ok::<_, std::io::Error>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait ToSocketAddrs {
    /// The addresses, in the order they are to be tried.
    ///
    /// # Parks
    ///
    /// While a name is looked up.
    ///
    /// # Errors
    ///
    /// As std's; when the caller is cancelled, the error of [`is_cancelled`](crate::io::is_cancelled).
    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>>;
}

fn one(address: SocketAddr) -> io::Result<vec::IntoIter<SocketAddr>> {
    Ok(vec![address].into_iter())
}

/// Looks a name up. On a thread without a core, which may block, it is done right there.
fn look_up<N>(name: N) -> io::Result<vec::IntoIter<SocketAddr>>
where
    N: std::net::ToSocketAddrs + Send + 'static,
{
    let look_up = move || name.to_socket_addrs().map(Iterator::collect::<Vec<_>>);
    let found = if crate::current_core().is_some() {
        blocking::blocking(look_up)?
    } else {
        look_up()
    };
    found.map(Vec::into_iter)
}

macro_rules! plain_addresses {
    ($($address:ty),+) => {$(
        impl ToSocketAddrs for $address {
            fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
                one(SocketAddr::from(*self))
            }
        }
    )+};
}

plain_addresses!(
    SocketAddr,
    SocketAddrV4,
    SocketAddrV6,
    (IpAddr, u16),
    (Ipv4Addr, u16),
    (Ipv6Addr, u16)
);

impl ToSocketAddrs for str {
    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
        match self.parse() {
            Ok(address) => one(address),
            Err(_) => look_up(self.to_owned()),
        }
    }
}

impl ToSocketAddrs for (&str, u16) {
    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
        let (host, port) = *self;
        match host.parse::<IpAddr>() {
            Ok(address) => one((address, port).into()),
            Err(_) => look_up((host.to_owned(), port)),
        }
    }
}

impl ToSocketAddrs for (String, u16) {
    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
        (self.0.as_str(), self.1).to_socket_addrs()
    }
}

impl ToSocketAddrs for String {
    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
        self.as_str().to_socket_addrs()
    }
}

impl ToSocketAddrs for [SocketAddr] {
    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
        Ok(Vec::from(self).into_iter())
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
        (**self).to_socket_addrs()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::ToSocketAddrs;
    use std::net::ToSocketAddrs as OfStd;

    /// Whatever std makes of an input, so do we.
    #[test]
    fn the_same_as_std() {
        let inputs = [
            "1.2.3.4:5",
            "[::1]:80",
            "localhost:80",
            "no port",
            ":",
            "1.2.3.4",
            "[::1%1]:3",
        ];
        for input in inputs {
            let ours = ToSocketAddrs::to_socket_addrs(input);
            let theirs = OfStd::to_socket_addrs(input);
            match (ours, theirs) {
                (Ok(ours), Ok(theirs)) => assert!(ours.eq(theirs), "{input}"),
                (Err(ours), Err(theirs)) => assert_eq!(ours.kind(), theirs.kind(), "{input}"),
                (ours, theirs) => panic!("{input}: {ours:?} and {theirs:?}"),
            }
        }
    }
}
