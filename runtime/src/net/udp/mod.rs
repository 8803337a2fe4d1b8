//! UDP sockets: one datagram a call ([`UdpSocket`]), many of them ([`DatagramBatch`]), or many in one (segments.rs).

mod batch;
mod segments;
mod socket;

pub use batch::DatagramBatch;
pub use socket::UdpSocket;
