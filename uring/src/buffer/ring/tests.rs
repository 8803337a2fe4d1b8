//! The pool against a queue of ids, with a kernel that reads the shared ring as the real one does.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::sim::Provided;

fn completion(result: i32, flags: u32) -> Completion {
    Completion { result, flags }
}

#[test]
fn sizes_that_no_pool_can_have_are_refused() {
    for (count, bytes) in [(0, 64), (MOST_BUFFERS + 1, 64), (4, 0), (4, 1 << 31)] {
        let refused = BufferRing::unprovided(count, bytes).unwrap_err();
        assert!(matches!(refused, BufferError::Size { .. }), "{refused}");
    }
    let odd = BufferRing::unprovided(5, 100).unwrap();
    assert_eq!((odd.stats().count, odd.buffer_bytes()), (8, 100));
}

#[test]
fn a_leased_buffer_is_ours_until_it_is_dropped() {
    let pool = BufferRing::unprovided(2, 100).unwrap();
    let (mut one, other) = (pool.lease().unwrap(), pool.lease().unwrap());
    assert!(pool.lease().is_none());
    assert_eq!((one.len(), one.capacity()), (100, 100));
    one.fill(7);
    one.set_length(3);
    assert_eq!((&one[..], &other[..]), (&[7; 3][..], &[0; 100][..]));
    drop(one);
    let again = pool.lease().unwrap();
    assert_eq!(again[0], 7, "the same memory");
    drop(pool);
    drop((other, again)); // A guard keeps its pool.
}

#[test]
#[should_panic(expected = "given out a second time")]
fn a_buffer_that_is_out_is_not_given_out_again() {
    let pool = BufferRing::unprovided(2, 100).unwrap();
    pool.file(completion(1, 1 | 1 << 16));
    pool.file(completion(1, 1 | 1 << 16));
}

#[test]
#[should_panic(expected = "never existed")]
fn a_buffer_of_another_pool_is_not_given_out() {
    let pool = BufferRing::unprovided(2, 100).unwrap();
    pool.file(completion(1, 1 | 2 << 16));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The kernel fills a buffer, and its completion is filed.
    Arrive(u8),
    /// The first filed completion is taken, or thrown away.
    Next,
    Discard,
    /// The n-th guard goes.
    Drop(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..=50u8).prop_map(Step::Arrive),
        3 => Just(Step::Next),
        1 => Just(Step::Discard),
        3 => any::<usize>().prop_map(Step::Drop),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ids_are_conserved(steps in steps(), count in 1u16..9) {
        let pool = BufferRing::unprovided(count, 50).unwrap();
        let count = pool.stats().count;
        // Positions wrap around after 65,536: start close to that.
        pool.pool.tail.set(u16::MAX - 20);
        pool.pool.out.iter().for_each(|out| out.set(true));
        pool.pool.available.set(0);
        (0..count).for_each(|id| pool.pool.put_back(id));
        let mut kernel = Provided::starting_at(pool.entries_address(), count, u16::MAX - 20);
        pool.set_provided(0);
        let mut inside: VecDeque<u16> = (0..count).collect();
        let mut filed: VecDeque<(Completion, u8)> = VecDeque::new();
        let mut guards: Vec<(PooledBuffer, u8)> = Vec::new();
        let mut exhausted = 0;
        for step in steps {
            match step {
                Step::Arrive(byte) => match kernel.first() {
                    None => {
                        prop_assert!(inside.is_empty());
                        pool.file(completion(-libc::ENOBUFS, 0));
                        exhausted += 1;
                    }
                    Some(picked) => {
                        kernel.take();
                        let id = inside.pop_front().unwrap();
                        prop_assert_eq!(picked.flags() >> 16, u32::from(id));
                        prop_assert_eq!(picked.length, 50);
                        picked.fill(&vec![byte; usize::from(byte)]);
                        let completion = completion(i32::from(byte), picked.flags());
                        pool.file(completion);
                        filed.push_back((completion, byte));
                    }
                },
                Step::Next => if let Some((completion, byte)) = filed.pop_front() {
                    guards.push((pool.guard_of(completion).unwrap(), byte));
                },
                Step::Discard => if let Some((completion, _)) = filed.pop_front() {
                    pool.discard(completion);
                    inside.push_back(completion.buffer_id().unwrap());
                },
                Step::Drop(n) => if !guards.is_empty() {
                    let (guard, _) = guards.swap_remove(n % guards.len());
                    inside.push_back(guard.id);
                },
            }
            for (guard, byte) in &guards {
                prop_assert_eq!(&guard[..], &vec![*byte; usize::from(*byte)]);
            }
            let stats = pool.stats();
            prop_assert_eq!(usize::from(stats.available), inside.len());
            prop_assert_eq!(inside.len() + filed.len() + guards.len(), usize::from(count));
            prop_assert_eq!(stats.exhausted, exhausted);
        }
    }
}
