//! Addresses that only the kernel can make.
#![expect(unsafe_code, reason = "binds a path that std would not")]

use super::{path_of, with_scratch};
use coring::net::{UnixDatagram, UnixListener, UnixStream};
use coring_tests::check;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// A socket on a path that fills the address, so that no NUL follows it.
fn bound(kind: socket2::Type, path: &Path) -> OwnedFd {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, kind, None).unwrap();
    let bytes = path.as_os_str().as_encoded_bytes();
    // SAFETY: all zeroes is a valid value: numbers only.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).unwrap();
    assert_eq!(bytes.len(), address.sun_path.len());
    for (place, byte) in address.sun_path.iter_mut().zip(bytes) {
        *place = byte.cast_signed();
    }
    let length = libc::socklen_t::try_from(size_of_val(&address)).unwrap();
    // SAFETY: the address is readable, and as long as it is said to be.
    let outcome = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
    socket.into()
}

#[test]
fn a_path_of_108_bytes() {
    // Goal: who has bound such a path can connect and send: neither the connection nor the message is lost for its address, and
    // where std can tell it, it is told.
    // Method: such a client on a stream, and a datagram.
    check(|| {
        with_scratch(|scratch| {
            let [stream, datagram] = ["s", "d"].map(|letter| path_of(108, scratch, letter));
            let listener = UnixListener::bind(scratch.join("l")).unwrap();
            let client = socket2::Socket::from(bound(socket2::Type::STREAM, &stream));
            let to = socket2::SockAddr::unix(scratch.join("l")).unwrap();
            client.connect(&to).unwrap();
            let mut client = UnixStream::from(OwnedFd::from(client));
            let (mut accepted, from) = listener.accept().unwrap();
            assert_eq!(from.as_pathname(), Some(&*stream));
            let peer = accepted.peer_addr().unwrap();
            assert_eq!(peer.as_pathname(), Some(&*stream));
            let local = client.local_addr().unwrap();
            assert_eq!(local.as_pathname(), Some(&*stream));
            client.write_all(b"x").unwrap();
            accepted.read_exact(&mut [0]).unwrap();

            let receiver = UnixDatagram::bind(scratch.join("r")).unwrap();
            let sender = UnixDatagram::from(bound(socket2::Type::DGRAM, &datagram));
            sender.send_to(b"x", scratch.join("r")).unwrap();
            let (bytes, from) = receiver.recv_from(&mut [0; 2]).unwrap();
            assert_eq!((bytes, from.is_unnamed()), (1, true));
        });
    });
}
