//! What nobody receives: dropped when the receiver goes, all of it; and a call that takes all there is has an end.

use coring::{mailbox, spawn_on};
use coring_tests::conserve::Token;
use coring_tests::{check, rounds, runtime};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

#[test]
fn what_is_in_a_mailbox_goes_with_its_receiver() {
    // Goal: a message that nobody will receive is dropped when the receiver goes, not when the last sender does: it may hold the way
    // of an answer, or a sender of its own mailbox. So is one that slips in at that moment, by whatever call.
    // Method: an answer that is waited for; a cycle; a receiver that goes in the middle of streams from a core, in which no fence is
    // made, and from a thread. The senders are kept until all is counted.
    struct Cycle {
        _sender: coring::mailbox::Sender<Self>,
        _token: Token,
    }
    check(|| {
        runtime(2).run(|| {
            let (requests, receiver) = mailbox(4);
            let (answer, answered) = coring::sync::shared_oneshot::<u32>();
            requests.send(answer).unwrap();
            drop(receiver);
            let hour = Duration::from_secs(3600);
            assert!(matches!(answered.recv_timeout(hour), Ok(Err(_))));
            drop(requests);

            let drops = Arc::new(AtomicUsize::new(0));
            let (sender, receiver) = mailbox(4);
            let cycle = Cycle {
                _sender: sender.clone(),
                _token: Token(Arc::clone(&drops)),
            };
            assert!(sender.send(cycle).is_ok());
            drop((sender, receiver));
            assert_eq!(drops.load(Ordering::Relaxed), 1);

            for round in 0..rounds(300, 10_000) {
                let drops = Arc::new(AtomicUsize::new(0));
                let (sender, mut receiver) = mailbox(1 << (round % 9));
                let stream = |way| {
                    let (sender, drops) = (sender.clone(), Arc::clone(&drops));
                    move || {
                        let mut made = 0;
                        loop {
                            made += 1;
                            let token = Token(Arc::clone(&drops));
                            let sent = match way {
                                0 => sender.send(token).is_ok(),
                                1 => sender.send_all([token]).is_ok(),
                                _ => sender.send_many(&mut vec![token]).is_ok(),
                            };
                            if !sent {
                                return (sender, made);
                            }
                        }
                    }
                };
                let there = spawn_on(1, stream(round % 3));
                let thread = thread::spawn(stream(round / 3 % 3));
                for _ in 0..round * 7 % 3_000 {
                    drop(receiver.recv().unwrap());
                }
                drop(receiver);
                let (_kept, made) = there.join().unwrap();
                let (_kept, more) = coring::blocking(move || thread.join().unwrap()).unwrap();
                assert_eq!(drops.load(Ordering::Relaxed), made + more, "round {round}");
            }
        });
    });
}

#[test]
fn a_message_that_panics_when_dropped_takes_none_with_it() {
    // Goal: what lies behind a message whose destructor panics is dropped, too. Method: the first of three, all counted.
    struct Bad(u32, Arc<AtomicUsize>);
    impl Drop for Bad {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::Relaxed);
            assert!(self.0 > 0, "on purpose");
        }
    }
    check(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = mailbox(4);
        for number in 0..3 {
            assert!(sender.try_send(Bad(number, Arc::clone(&drops))).is_ok());
        }
        let both = std::panic::AssertUnwindSafe((sender, receiver));
        assert!(std::panic::catch_unwind(move || drop(both)).is_err());
        assert_eq!(drops.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn taking_all_has_an_end() {
    // Goal: a call that takes without a limit takes what may have waited when it began, though senders refill their lanes all the
    // while. Method: lanes of 64, two of them, and batches of any size.
    check(|| {
        runtime(2).run(|| {
            let (sender, mut receiver) = mailbox::<u64>(64);
            let refill = move || while sender.send_many(&mut (0..4096).collect()).is_ok() {};
            let there = spawn_on(1, refill.clone());
            let thread = thread::spawn(refill);
            let mut got = Vec::new();
            for _ in 0..rounds(20_000, 1_000_000) {
                got.clear();
                assert!((1..=128).contains(&receiver.recv_many(&mut got, usize::MAX).unwrap()));
            }
            drop(receiver);
            there.join().unwrap();
            coring::blocking(move || thread.join().unwrap()).unwrap();
        });
    });
}
