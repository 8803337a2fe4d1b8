//! What a ring may be asked for: the operations that [`op`](crate::op) builds, and nothing else.
//!
//! ```text
//!    setup with R_DISABLED -> probe -> register the list -> enable -> the ring as everybody knows it
//! ```
//!
//! From then on the kernel answers `EACCES` to any other operation, SQE flag or registration, and the list cannot be
//! changed: not by whoever corrupts the queue, and not by a process that the ring's descriptor was given to. It is no
//! sandbox for the process, which may open another ring; that takes a seccomp filter.
//!
//! The enabling thread becomes the owner of the ring (`SINGLE_ISSUER`), so all of this happens on its own thread.
//!
//! Source: io_uring_register_restrictions(3), Linux 5.10.

use std::io;

use io_uring::IoUring;
use io_uring::register::Restriction;
use io_uring::squeue::Flags;

use crate::{Capabilities, opcode};

/// Every operation that something in [`op`](crate::op) builds.
pub(crate) const OPERATIONS: [u8; 33] = [
    opcode::Accept::CODE,
    opcode::AsyncCancel2::CODE,
    opcode::Close::CODE,
    opcode::Connect::CODE,
    opcode::Fadvise::CODE,
    opcode::Fallocate::CODE,
    opcode::Fsync::CODE,
    opcode::Ftruncate::CODE,
    opcode::LinkAt::CODE,
    opcode::MkDirAt::CODE,
    opcode::MsgRingData::CODE,
    opcode::Nop::CODE,
    opcode::OpenAt::CODE,
    opcode::PollAdd::CODE,
    opcode::Read::CODE,
    opcode::ReadFixed::CODE,
    opcode::Readv::CODE,
    opcode::Recv::CODE,
    opcode::RecvMsg::CODE,
    opcode::RenameAt::CODE,
    opcode::Send::CODE,
    opcode::SendMsg::CODE,
    opcode::SendZc::CODE,
    opcode::Shutdown::CODE,
    opcode::Socket::CODE,
    opcode::Statx::CODE,
    opcode::SymlinkAt::CODE,
    opcode::Timeout::CODE,
    opcode::UnlinkAt::CODE,
    opcode::WaitId::CODE,
    opcode::Write::CODE,
    opcode::WriteFixed::CODE,
    opcode::Writev::CODE,
];

/// `IORING_REGISTER_*` and `IORING_UNREGISTER_*` that are made after the ring was enabled: fixed buffers, the limits and
/// CPUs of workers, the ring's own descriptor, rings of buffers. All of them are as old as the floor.
const REGISTRATIONS: [u8; 9] = [0, 1, 17, 18, 19, 20, 21, 22, 23];

/// Tells the kernel the list. An operation that it does not know is left out: it would refuse the whole list.
pub(crate) fn restrict(ring: &IoUring, capabilities: &Capabilities) -> io::Result<()> {
    let known = |code: &&u8| capabilities.has_opcode(**code);
    let operations = OPERATIONS.iter().filter(known);
    let flags = Flags::SKIP_SUCCESS | Flags::BUFFER_SELECT | Flags::ASYNC;
    let mut list: Vec<_> = operations
        .map(|code| Restriction::sqe_op(*code))
        .chain(REGISTRATIONS.map(Restriction::register_op))
        .chain([Restriction::sqe_flags_allowed(flags.bits())])
        .collect();
    ring.submitter().register_restrictions(&mut list)
}

#[cfg(test)]
mod tests {
    /// A function that is added to `op` and forgotten here would fail on a restricted ring only.
    #[test]
    fn the_list_is_what_the_functions_build() {
        let sources = [
            include_str!("op/cancel.rs"),
            include_str!("op/fs.rs"),
            include_str!("op/msg.rs"),
            include_str!("op/net.rs"),
            include_str!("op/process.rs"),
            include_str!("op/time.rs"),
            include_str!("buffer/registered.rs"),
        ];
        // Multishot and plain receives are one operation, and so on.
        let synonym = |name: &str| match name {
            "AcceptMulti" => "Accept".to_owned(),
            "RecvMulti" | "RecvMultiBundle" => "Recv".to_owned(),
            "RecvMsgMulti" => "RecvMsg".to_owned(),
            name => name.to_owned(),
        };
        let names = |text: &str| -> Vec<String> {
            text.split("opcode::")
                .skip(1)
                .map(|rest| rest.split(|letter: char| !letter.is_alphanumeric()).next())
                .map(|name| synonym(name.unwrap_or_default()))
                .filter(|name| name.starts_with(char::is_uppercase))
                .collect()
        };
        let listed = names(include_str!("restrict.rs"));
        for name in sources.iter().flat_map(|source| names(source)) {
            assert!(listed.contains(&name), "{name} is missing from OPERATIONS");
        }
    }
}
