//! Descriptors that travel with bytes: `SCM_RIGHTS`, unix(7).
//!
//! The control buffer has room for as many descriptors as the kernel lets one message carry, so a message is never
//! cut for lack of it. Every descriptor that the kernel has handed over becomes an [`OwnedFd`] before anything
//! else is looked at: none leaks, whatever the message looks like.
#![expect(
    unsafe_code,
    reason = "walks the control data of a message as cmsg(3) says"
)]

use super::{UnixDatagram, UnixStream};
use crate::io::net::Received;
use crate::net::socket::Socket;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// The most descriptors that one message carries, unix(7).
pub const MAX_DESCRIPTORS: usize = 253;

/// A descriptor of the sender's process, for sockets with `SO_PASSPIDFD`, Linux 6.5. Nobody has asked us for it: it is closed.
const SCM_PIDFD: libc::c_int = 4;

const FD_BYTES: usize = size_of::<RawFd>();
/// What else the kernel may put before them, where somebody has asked for it on the socket: credentials, a time, a label.
const OTHER_BYTES: usize = 512;
/// `CMSG_SPACE` of as many descriptors: the header, and the data rounded up to a word.
const CONTROL_WORDS: usize =
    (OTHER_BYTES + size_of::<libc::cmsghdr>() + MAX_DESCRIPTORS * FD_BYTES)
        .div_ceil(size_of::<u64>());

/// A control buffer, aligned as its headers want it.
struct Control([u64; CONTROL_WORDS]);

impl Control {
    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: words are made of bytes, and every pattern is valid for both.
        unsafe { self.0.align_to_mut::<u8>() }.1
    }
}

/// What a receive brought.
#[derive(Debug)]
#[non_exhaustive]
pub struct ReceivedWithFds {
    /// Bytes in the buffer; 0 at the end of a stream.
    pub bytes: usize,
    /// The descriptors that came with them, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
    /// Whether some were lost because this process may not have more (`MSG_CTRUNC`).
    pub truncated: bool,
}

/// The control data that hands over `descriptors`; its length in bytes.
fn write_rights(control: &mut Control, descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if descriptors.is_empty() {
        return Ok(0);
    }
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a message carries at most 253 descriptors",
        ));
    }
    let data_bytes = u32::try_from(descriptors.len() * FD_BYTES).expect("at most 1,012");
    // SAFETY: plain arithmetic.
    let length = unsafe { libc::CMSG_LEN(data_bytes) } as usize;
    let header: *mut libc::cmsghdr = control.0.as_mut_ptr().cast();
    let value = libc::cmsghdr {
        cmsg_len: length,
        cmsg_level: libc::SOL_SOCKET,
        cmsg_type: libc::SCM_RIGHTS,
    };
    // SAFETY: the buffer is aligned to 8 bytes and longer than a header.
    unsafe { header.write(value) };
    // SAFETY: as above; the data follow the header.
    let data: *mut RawFd = unsafe { libc::CMSG_DATA(header) }.cast();
    for (index, descriptor) in descriptors.iter().enumerate() {
        // SAFETY: the buffer has room for MAX_DESCRIPTORS.
        let place = unsafe { data.add(index) };
        // SAFETY: inside the buffer, see above.
        unsafe { place.write_unaligned(descriptor.as_raw_fd()) };
    }
    Ok(length)
}

/// Takes the descriptors out of control data that the kernel has just filled.
///
/// # Safety
///
/// Nobody has taken them before.
unsafe fn read_rights(control: &mut Control, length: usize) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    // SAFETY: a zeroed msghdr is a valid one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = length;
    // SAFETY: the message describes the control buffer, as far as the kernel has filled it.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: the macros return headers inside the filled part only.
        let current = unsafe { header.read() };
        let rights = current.cmsg_type == libc::SCM_RIGHTS;
        if current.cmsg_level == libc::SOL_SOCKET && (rights || current.cmsg_type == SCM_PIDFD) {
            // SAFETY: as above.
            let data: *const RawFd = unsafe { libc::CMSG_DATA(header) }.cast();
            // SAFETY: plain arithmetic.
            let empty = unsafe { libc::CMSG_LEN(0) } as usize;
            for index in 0..current.cmsg_len.saturating_sub(empty) / FD_BYTES {
                // SAFETY: inside the data of this header.
                let place = unsafe { data.add(index) };
                // SAFETY: as above.
                let fd = unsafe { ptr::read_unaligned(place) };
                // The kernel may also say here that it could not tell the process.
                if fd < 0 {
                    continue;
                }
                // SAFETY: the kernel has just made this descriptor for us, by the caller's promise not taken yet.
                let owned = unsafe { OwnedFd::from_raw_fd(fd) };
                if rights {
                    descriptors.push(owned);
                }
            }
        }
        // SAFETY: `header` is one of this message.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    descriptors
}

type SendBoth = fn(&Socket, &[IoSlice<'_>], &[u8]) -> io::Result<usize>;

fn send(
    socket: &Socket,
    buffer: &[u8],
    descriptors: &[BorrowedFd<'_>],
    send_both: SendBoth,
) -> io::Result<usize> {
    let mut control = Control([0; CONTROL_WORDS]);
    let length = write_rights(&mut control, descriptors)?;
    send_both(socket, &[IoSlice::new(buffer)], &control.bytes()[..length])
}

type RecvBoth = fn(&Socket, &mut [IoSliceMut<'_>], &mut [u8], i32) -> io::Result<Received>;

fn recv(socket: &Socket, buffer: &mut [u8], recv_both: RecvBoth) -> io::Result<ReceivedWithFds> {
    let mut control = Control([0; CONTROL_WORDS]);
    let mut buffers = [IoSliceMut::new(buffer)];
    let flags = libc::MSG_CMSG_CLOEXEC;
    let received = recv_both(socket, &mut buffers, control.bytes(), flags)?;
    // SAFETY: the message has just been received into this buffer.
    let descriptors = unsafe { read_rights(&mut control, received.control_bytes) };
    Ok(ReceivedWithFds {
        bytes: received.bytes,
        descriptors,
        truncated: received.flags & libc::MSG_CTRUNC != 0,
    })
}

macro_rules! carries_descriptors {
    ($type:ident, $send_both:expr, $recv_both:expr) => {
        /// Sending and receiving descriptors.
        impl $type {
            /// Sends bytes, and with the first of them duplicates of `descriptors`. A stream needs at least one byte
            /// to carry them.
            ///
            /// # Parks
            ///
            /// While there is no room.
            ///
            /// # Errors
            ///
            /// `InvalidInput` for more than [`MAX_DESCRIPTORS`], else as sendmsg(2).
            ///
            /// # Source
            ///
            /// `IORING_OP_SENDMSG`, Linux 5.3; unix(7).
            pub fn send_with_fds(
                &self,
                buffer: &[u8],
                descriptors: &[BorrowedFd<'_>],
            ) -> io::Result<usize> {
                send(&self.socket, buffer, descriptors, $send_both)
            }

            /// Receives bytes and the descriptors that came with them.
            ///
            /// # Parks
            ///
            /// Until there are bytes, or the peer has ended its side.
            ///
            /// # Cancellation
            ///
            /// Returns an error for which [`is_cancelled`](crate::io::is_cancelled) holds, or what was received at that
            /// very moment: no descriptor is lost.
            ///
            /// # Errors
            ///
            /// As recvmsg(2).
            ///
            /// # Source
            ///
            /// `IORING_OP_RECVMSG`, Linux 5.3; unix(7).
            pub fn recv_with_fds(&self, buffer: &mut [u8]) -> io::Result<ReceivedWithFds> {
                recv(&self.socket, buffer, $recv_both)
            }
        }
    };
}

carries_descriptors!(UnixStream, Socket::send_whole_message, Socket::recv_message);
carries_descriptors!(
    UnixDatagram,
    |socket, buffers, control| socket.send_datagram_message(buffers, None, control),
    Socket::recv_datagram_message
);
