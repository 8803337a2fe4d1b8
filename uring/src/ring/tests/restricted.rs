//! A ring refuses what is not on its list.

use super::*;
use crate::opcode;
use io_uring::squeue::Flags;

/// The result of one operation on a ring of its own.
fn result(features: Features, sqe: Sqe) -> i32 {
    let mut ring = open(8, 16, features);
    let restricted = features.has(Feature::Restrictions);
    assert_eq!(ring.capabilities().has(Feature::Restrictions), restricted);
    let op = submit(&mut ring, sqe, 0);
    assert_eq!(wait(&mut ring, 1), [0]);
    ring.take(op).unwrap().result
}

#[test]
fn a_foreign_operation_is_refused() {
    // Goal: an operation that nothing here builds, and a flag that nothing here sets, are answered with EACCES; what is
    // on the list works; with the feature off the kernel does all of them.
    // Method: buffers of the old kind, which need no descriptor, and a NOP that waits for all before it.
    let mut memory = [0u8; 64];
    let mut provide = || opcode::ProvideBuffers::new(memory.as_mut_ptr(), 64, 1, 7, 0).build();
    let draining = || op::msg::nop().flags(Flags::IO_DRAIN);
    let open = Features::ALL.without(Feature::Restrictions);
    assert_eq!(result(Features::ALL, provide()), -libc::EACCES);
    assert_eq!(result(Features::ALL, draining()), -libc::EACCES);
    assert_eq!(result(Features::ALL, op::msg::nop()), 0);
    assert_eq!(result(open, provide()), 0);
    assert_eq!(result(open, draining()), 0);
}

#[test]
fn a_foreign_registration_is_refused() {
    // Goal: the list cannot be changed or got around by registering: neither a new list nor an eventfd.
    // Method: the raw calls.
    let register = |features, code: u32| {
        let ring = open(8, 16, features);
        let eventfd = crate::sys::eventfd().unwrap();
        let fd = eventfd.as_raw_fd();
        // SAFETY: the argument is one readable descriptor number; a list of restrictions is refused unread.
        let outcome = unsafe {
            libc::syscall(
                libc::SYS_io_uring_register,
                ring.backend().ring_fd(),
                code,
                &raw const fd,
                1u32,
            )
        };
        (outcome < 0).then(|| io::Error::last_os_error().raw_os_error().unwrap())
    };
    let (eventfd, restrictions) = (4, 11);
    assert_eq!(register(Features::ALL, eventfd), Some(libc::EACCES));
    assert_eq!(register(Features::ALL, restrictions), Some(libc::EACCES));
    let open = Features::ALL.without(Feature::Restrictions);
    assert_eq!(register(open, eventfd), None);
}
