//! The simulated kernel: does it behave like the real one, does it repeat itself, do its faults bite?

#![expect(unsafe_code, reason = "submits operations")]
#![expect(clippy::cast_possible_truncation, reason = "patterns of bytes")]

mod differential;
mod multishot;

use std::num::NonZeroUsize;

use super::*;
use crate::{OpId, Sqe, Token, Wait, op};

fn token(number: usize) -> Token {
    Token::from_number(NonZeroUsize::new(number + 1).unwrap())
}

/// Submits an operation on memory that the test keeps until the end.
fn submit(ring: &mut Ring<SimRing>, sqe: Sqe) -> OpId {
    // SAFETY: every test waits for its operations, or drains the ring, before its buffers go.
    unsafe { ring.submit(sqe, token(0)) }.expect("there is room")
}

/// Waits for one operation; its result.
fn finish(ring: &mut Ring<SimRing>, op: OpId) -> i32 {
    loop {
        if let Some(completion) = ring.take(op) {
            return completion.result;
        }
        ring.turn(Wait::Until(None), &mut |_| ()).unwrap();
    }
}

fn run(ring: &mut Ring<SimRing>, sqe: Sqe) -> i32 {
    let op = submit(ring, sqe);
    finish(ring, op)
}

fn recv(fd: RawFd, buffer: &mut [u8]) -> Sqe {
    op::net::recv(fd, buffer.as_mut_ptr(), buffer.len(), 0)
}

fn send(fd: RawFd, bytes: &[u8]) -> Sqe {
    op::net::send(fd, bytes.as_ptr(), bytes.len(), 0)
}

/// With everything short, so that it is met often: queues, and the receives of a turn.
fn ring_of(kernel: &SimKernel) -> Ring<SimRing> {
    let mut ring = kernel.ring(&SetupOptions {
        sq_entries: 8,
        cq_entries: 16,
        ..SetupOptions::default()
    });
    ring.set_receives_at_once(3);
    ring
}

/// Goal: under every benign fault, bytes arrive complete, in order, and once; and a second run with the same seed
/// does exactly the same.
/// Method: two rings echo to each other over a small TCP buffer; short counts are looped over, the other side's
/// progress is waited for.
#[test]
fn an_echo_is_whole_under_every_benign_fault_and_repeats_itself() {
    for seed in 0..200 {
        let traces = [echo(seed), echo(seed)];
        assert_eq!(traces[0], traces[1], "seed {seed} did not repeat itself");
    }
}

fn echo(seed: u64) -> u64 {
    let kernel = SimKernel::new(seed, Faults::benign(seed));
    kernel.set_stream_capacity(1 + usize::try_from(seed % 300).unwrap());
    let mut ring = ring_of(&kernel);
    let (client, server) = kernel.connection();
    let sent: Vec<u8> = (0..1000u64)
        .map(|n| (n.wrapping_mul(seed + 7) >> 3) as u8)
        .collect();
    let (mut got_by_server, mut got_by_client) = (Vec::new(), Vec::new());
    let (mut at_server, mut at_client) = ([0u8; 100], [0u8; 100]);
    let (mut from_client, mut from_server) = (0, 0);
    // One receive and one send in flight in each direction.
    let mut server_recv = submit(&mut ring, recv(server, &mut at_server));
    let mut client_recv = submit(&mut ring, recv(client, &mut at_client));
    let mut client_send = Some(submit(&mut ring, send(client, &sent)));
    let mut server_send: Option<(OpId, Vec<u8>)> = None;
    while got_by_client.len() < sent.len() {
        ring.turn(Wait::Until(None), &mut |_| ()).unwrap();
        let count = |result: i32| usize::try_from(result).expect("no fault here is an error");
        if let Some(completion) = ring.take(server_recv) {
            got_by_server.extend_from_slice(&at_server[..count(completion.result)]);
            at_server.fill(0);
            server_recv = submit(&mut ring, recv(server, &mut at_server));
        }
        if let Some(completion) = ring.take(client_recv) {
            got_by_client.extend_from_slice(&at_client[..count(completion.result)]);
            client_recv = submit(&mut ring, recv(client, &mut at_client));
        }
        if let Some(completion) = client_send.and_then(|op| ring.take(op)) {
            from_client += count(completion.result);
            let rest = &sent[from_client..];
            client_send = (!rest.is_empty()).then(|| submit(&mut ring, send(client, rest)));
        }
        if let Some(completion) = server_send.as_ref().and_then(|(op, _)| ring.take(*op)) {
            from_server += count(completion.result);
            server_send = None;
        }
        if server_send.is_none() && from_server < got_by_server.len() {
            let rest = got_by_server[from_server..].to_vec();
            server_send = Some((submit(&mut ring, send(server, &rest)), rest));
        }
    }
    assert_eq!(got_by_client, sent, "seed {seed}");
    ring.drain(u64::MAX, &mut |_| ()).unwrap();
    for fd in [client, server] {
        assert_eq!(run(&mut ring, op::fs::close(fd)), 0);
    }
    assert_eq!((kernel.open_descriptors(), ring.stats().stale), (0, 0));
    kernel.trace()
}

/// Goal: of a cancelled receive either the bytes are delivered or they are still there, never neither.
#[test]
fn a_cancel_has_all_its_outcomes_and_loses_nothing() {
    let (mut cancelled, mut late) = (0, 0);
    for seed in 0..300 {
        let kernel = SimKernel::new(
            seed,
            Faults {
                delay: 512,
                ..Faults::NONE
            },
        );
        let mut ring = ring_of(&kernel);
        let (a, b) = kernel.socketpair();
        let (mut first, mut second) = ([0u8; 4], [0u8; 4]);
        let op = submit(&mut ring, recv(a, &mut first));
        if seed % 2 == 0 {
            assert_eq!(run(&mut ring, send(b, b"data")), 4);
        }
        ring.cancel(op);
        match finish(&mut ring, op) {
            4 => {
                late += 1;
                assert_eq!(&first, b"data");
            }
            result => {
                assert_eq!(result, -libc::ECANCELED);
                cancelled += 1;
                assert_eq!(first, [0; 4], "the buffer is as it was");
                if seed % 2 != 0 {
                    assert_eq!(run(&mut ring, send(b, b"data")), 4);
                }
                assert_eq!(run(&mut ring, recv(a, &mut second)), 4);
                assert_eq!(&second, b"data");
            }
        }
    }
    assert!(
        cancelled > 50 && late > 50,
        "{cancelled} cancelled, {late} too late"
    );
}

/// A kernel that refuses nearly every enter.
fn without_room(seed: u64) -> SimKernel {
    let faults = Faults {
        busy: 1000,
        ..Faults::NONE
    };
    SimKernel::new(seed, faults)
}

/// Receives that find nothing, as far as there is room for them.
fn receive_all(kernel: &SimKernel, ring: &mut Ring<SimRing>, buffers: &mut [[u8; 4]]) -> Vec<OpId> {
    let (silent, _) = kernel.socketpair();
    let receive = |buffer: &mut [u8; 4]| {
        // SAFETY: every test waits for its operations, or drains the ring, before its buffers go. A refused one is not in flight.
        unsafe { ring.submit(recv(silent, buffer), token(0)) }.ok()
    };
    buffers.iter_mut().filter_map(receive).collect()
}

/// Goal: cancels and wake-ups survive a kernel that has room for nothing.
/// Method: nearly every enter is refused, so that flushing a full queue gives up; what was asked for then has to
/// happen all the same.
#[test]
fn a_kernel_without_room_loses_no_cancel_and_no_wake() {
    let mut kept = 0;
    for seed in 0..20 {
        let kernel = without_room(seed);
        let (mut ring, mut peer) = (ring_of(&kernel), ring_of(&kernel));
        let mut buffers = [[0u8; 4]; 30];
        let ops = receive_all(&kernel, &mut ring, &mut buffers);
        for op in &ops {
            ring.cancel(*op);
        }
        // SAFETY: no number of a simulated ring is given away again.
        unsafe { ring.ring_doorbell(&peer.doorbell()) };
        kept += ring.stats().cancels_kept;
        for op in ops {
            assert_eq!(finish(&mut ring, op), -libc::ECANCELED, "seed {seed}");
        }
        while peer.stats().wakes == 0 {
            ring.turn(Wait::Submit, &mut |_| ()).unwrap();
            peer.turn(Wait::Submit, &mut |_| ()).unwrap();
        }
    }
    assert!(
        kept > 10,
        "only {kept} cancels found no room: the test tests nothing"
    );
}

/// Goal: a cancel that found no room finds a receive that found none either. Method: as above, with one cancel, of the last of many
/// receives, whose end is waited for before the others are ended.
#[test]
fn a_kept_cancel_comes_after_the_receives_that_wait() {
    let mut kept = 0;
    for seed in 0..100 {
        let kernel = without_room(seed);
        let mut ring = ring_of(&kernel);
        let mut buffers = [[0u8; 4]; 30];
        let ops = receive_all(&kernel, &mut ring, &mut buffers);
        for op in ops.into_iter().rev() {
            ring.cancel(op);
            assert_eq!(finish(&mut ring, op), -libc::ECANCELED, "seed {seed}");
        }
        kept += ring.stats().cancels_kept;
    }
    assert!(kept > 10, "only {kept} cancels found no room");
}

/// Goal: what is handed over or drained reaches a kernel without room all the same: a cancel that was kept is on its way, and refusals
/// are no error. Method: as above; a simulated cancel ends its target at once.
#[test]
fn a_kernel_without_room_delays_a_hand_over_and_a_drain() {
    for seed in 0..100 {
        let kernel = without_room(seed);
        let mut ring = ring_of(&kernel);
        let mut buffers = [[0u8; 4]; 30];
        let mut ops = receive_all(&kernel, &mut ring, &mut buffers);
        let last = ops.pop().expect("the first found room");
        ring.cancel(last);
        ring.hand_over(&mut |_| ()).unwrap();
        assert!(!ring.is_in_flight(last), "seed {seed}");
        ring.drain(u64::MAX, &mut |_| ()).unwrap();
        assert_eq!(ring.in_flight(), 0);
    }
}

#[test]
fn a_buffer_is_poisoned_while_it_is_lent() {
    let kernel = SimKernel::new(3, Faults::NONE);
    let mut ring = ring_of(&kernel);
    let (a, _b) = kernel.socketpair();
    let mut buffer = *b"mine";
    let op = submit(&mut ring, recv(a, &mut buffer));
    ring.turn(Wait::Submit, &mut |_| ()).unwrap();
    assert_ne!(&buffer, b"mine", "the kernel has it");
    ring.cancel(op);
    assert_eq!(finish(&mut ring, op), -libc::ECANCELED);
    assert_eq!(&buffer, b"mine", "and gave it back");
}

#[test]
fn writing_to_a_lent_buffer_is_caught() {
    let kernel = SimKernel::new(3, Faults::NONE);
    let mut ring = ring_of(&kernel);
    let (a, b) = kernel.socketpair();
    let mut buffer = [0u8; 4];
    submit(&mut ring, recv(a, &mut buffer));
    ring.turn(Wait::Submit, &mut |_| ()).unwrap();
    std::hint::black_box(&mut buffer)[1] ^= 1;
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        run(&mut ring, send(b, b"data"))
    }));
    let message = *caught.unwrap_err().downcast::<String>().unwrap();
    assert!(
        message.contains("changed while an operation was in flight"),
        "{message}"
    );
    // The ring is beyond help, and dropping it would say so by aborting.
    let _never_dropped = std::mem::ManuallyDrop::new(ring);
}

#[test]
fn time_passes_as_timers_need_it() {
    let kernel = SimKernel::new(1, Faults::NONE);
    let mut ring = ring_of(&kernel);
    let hour = crate::types::Timespec::new().sec(3600);
    let start = kernel.now_ns();
    assert_eq!(
        run(&mut ring, op::time::timeout(&raw const hour, false)),
        -libc::ETIME
    );
    assert!(kernel.now_ns() - start >= 3_600_000_000_000);

    let deadline = kernel.now_ns() + 5000;
    ring.turn(Wait::Until(Some(deadline)), &mut |_| ()).unwrap();
    assert!(kernel.now_ns() >= deadline);
}

#[test]
#[should_panic(expected = "lost wake-up, or a deadlock")]
fn a_sleep_that_nothing_can_end_is_reported() {
    let kernel = SimKernel::new(1, Faults::NONE);
    ring_of(&kernel)
        .turn(Wait::Until(None), &mut |_| ())
        .unwrap();
}

#[test]
fn rings_wake_each_other_and_doorbells_wake_rings() {
    let kernel = SimKernel::new(1, Faults::NONE);
    kernel.step_by_hand();
    let (mut one, mut other) = (ring_of(&kernel), ring_of(&kernel));
    // SAFETY: no number of a simulated ring is given away again.
    unsafe { one.ring_doorbell(&other.doorbell()) };
    assert!(!other.has_events());
    one.turn(Wait::Submit, &mut |_| ()).unwrap();
    assert!(other.has_events());
    other.turn(Wait::Until(None), &mut |_| ()).unwrap();
    assert_eq!(other.stats().wakes, 1);

    let doorbell = one.doorbell();
    std::thread::spawn(move || doorbell.ring()).join().unwrap();
    assert!(one.has_events());
    one.turn(Wait::Until(None), &mut |_| ()).unwrap();
    assert_eq!(one.stats().wakes, 1);

    // The peer is gone between queueing and submission: counted.
    // SAFETY: no number of a simulated ring is given away again.
    unsafe { one.ring_doorbell(&other.doorbell()) };
    drop(other);
    one.turn(Wait::Submit, &mut |_| ()).unwrap();
    one.turn(Wait::Submit, &mut |_| ()).unwrap();
    assert_eq!(one.stats().doorbells_failed, 1);
}

#[test]
fn a_listener_accepts_refuses_and_runs_out_of_descriptors() {
    let kernel = SimKernel::new(1, Faults::NONE);
    let mut ring = ring_of(&kernel);
    let address = *b"an address";
    let connect = |fd| {
        op::net::connect(
            fd,
            address.as_ptr().cast(),
            u32::try_from(address.len()).unwrap(),
        )
    };
    let accept = |fd| op::net::accept(fd, std::ptr::null_mut(), std::ptr::null_mut(), 0);

    let client = kernel.socket();
    assert_eq!(run(&mut ring, connect(client)), -libc::ECONNREFUSED);
    let listener = kernel.listen(&address, 4).unwrap();
    assert_eq!(
        kernel.listen(&address, 4).unwrap_err().kind(),
        io::ErrorKind::AddrInUse
    );
    let waiting = submit(&mut ring, accept(listener));
    assert_eq!(run(&mut ring, connect(client)), 0);
    let server = finish(&mut ring, waiting);
    assert!(server > 0);

    // Without a descriptor the connection stays in the queue.
    let second = kernel.socket();
    assert_eq!(run(&mut ring, connect(second)), 0);
    kernel.set_descriptor_limit(kernel.open_descriptors());
    assert_eq!(run(&mut ring, accept(listener)), -libc::EMFILE);
    kernel.set_descriptor_limit(100);
    assert!(run(&mut ring, accept(listener)) > 0);

    // A pending accept ends when the listener is shut down, and holds the listener while it does not.
    let waiting = submit(&mut ring, accept(listener));
    assert_eq!(
        run(&mut ring, op::net::shutdown(listener, libc::SHUT_RDWR)),
        0
    );
    assert_eq!(finish(&mut ring, waiting), -libc::EINVAL);
    kernel.close(listener).unwrap();
    assert!(
        kernel.listen(&address, 4).is_ok(),
        "the address is free again"
    );
}

/// Goal: closing a descriptor does not end an operation on it, cancelling the descriptor first does.
#[test]
fn closing_under_a_receive_ends_nothing() {
    let kernel = SimKernel::new(1, Faults::NONE);
    let mut ring = ring_of(&kernel);
    let (a, b) = kernel.socketpair();
    let mut buffer = [0u8; 4];
    let op = submit(&mut ring, recv(a, &mut buffer));
    assert_eq!(run(&mut ring, op::fs::close(a)), 0);
    assert!(ring.is_in_flight(op));
    assert_eq!(run(&mut ring, send(b, b"late")), 4);
    assert_eq!((finish(&mut ring, op), &buffer), (4, b"late"));
    // Now the last user of the file is gone, and the peer learns it.
    assert_eq!(run(&mut ring, send(b, b"x")), -libc::EPIPE);
}

/// Goal: after a crash a file is what was made durable, plus parts of what was written since.
#[test]
fn a_crash_keeps_what_was_synced() {
    let mut survived = 0;
    for seed in 0..100 {
        let kernel = SimKernel::new(seed, Faults::NONE);
        let mut ring = ring_of(&kernel);
        let file = kernel.open("journal");
        assert_eq!(
            run(&mut ring, op::fs::write(file, [1; 2000].as_ptr(), 2000, 0)),
            2000
        );
        assert_eq!(run(&mut ring, op::fs::fsync(file)), 0);
        assert_eq!(
            run(
                &mut ring,
                op::fs::write(file, [2; 2000].as_ptr(), 2000, 2000)
            ),
            2000
        );
        kernel.crash_files();
        let contents = kernel.contents("journal").unwrap();
        assert_eq!(contents[..2000], [1; 2000], "seed {seed}");
        assert!(
            contents[2000..].iter().all(|byte| *byte == 2),
            "nothing that was never written"
        );
        survived += contents.len() - 2000;
    }
    assert!(
        survived > 20_000 && survived < 180_000,
        "chance decides: {survived} of 200,000"
    );
}

/// Goal: real errors come up as results, and once they stop, everything ends.
#[test]
fn errors_surface_and_recovery_is_complete() {
    let (mut failed, mut moved) = (0, 0);
    for seed in 0..200 {
        let kernel = SimKernel::new(seed, Faults::swarm(seed));
        let mut ring = ring_of(&kernel);
        let (a, b) = kernel.connection();
        let file = kernel.open("data");
        let mut buffer = [0u8; 32];
        for round in 0..50u64 {
            let results = [
                run(&mut ring, send(a, &[7; 32])),
                run(
                    &mut ring,
                    op::fs::write(file, [7; 32].as_ptr(), 32, round * 32),
                ),
                run(&mut ring, op::fs::fsync(file)),
                run(&mut ring, recv(b, &mut buffer)),
            ];
            if results.iter().any(|result| *result < 0) {
                failed += 1;
                break;
            }
            moved += 1;
        }
        kernel.set_faults(Faults::NONE);
        ring.drain(u64::MAX, &mut |_| ()).unwrap();
        for fd in [a, b, file] {
            assert_eq!(run(&mut ring, op::fs::close(fd)), 0, "seed {seed}");
        }
        assert_eq!(kernel.open_descriptors(), 0, "seed {seed}");
    }
    assert!(
        failed > 20 && moved > 200,
        "{failed} runs failed, {moved} rounds went well"
    );
}

#[test]
fn what_is_not_simulated_is_refused() {
    let kernel = SimKernel::new(1, Faults::NONE);
    let mut ring = ring_of(&kernel);
    let path = c"directory";
    assert_eq!(
        run(
            &mut ring,
            op::fs::mkdirat(libc::AT_FDCWD, path.as_ptr(), 0o755)
        ),
        -libc::EINVAL
    );
}
