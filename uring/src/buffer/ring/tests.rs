//! The pool against a queue of ids, with a kernel that reads the shared ring as the real one does.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::sim::Provided;

/// Files a completion: what it becomes, and where the bytes of each begin.
fn file(pool: &BufferRing, completion: Completion) -> Vec<(Completion, u32)> {
    let mut pieces = Vec::new();
    pool.file(completion, |piece, offset| pieces.push((piece, offset)));
    pieces
}

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
    file(&pool, completion(1, 1 | 1 << 16));
    file(&pool, completion(1, 1 | 1 << 16));
}

#[test]
#[should_panic(expected = "never existed")]
fn a_buffer_of_another_pool_is_not_given_out() {
    let pool = BufferRing::unprovided(2, 100).unwrap();
    file(&pool, completion(1, 1 | 2 << 16));
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
        pool.pool.places.iter().for_each(|place| place.out.set(true));
        (0..count).for_each(|id| pool.pool.enter(id));
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
                        file(&pool, completion(-libc::ENOBUFS, 0));
                        exhausted += 1;
                    }
                    Some(picked) => {
                        kernel.take();
                        let id = inside.pop_front().unwrap();
                        prop_assert_eq!(picked.flags() >> 16, u32::from(id));
                        prop_assert_eq!(picked.length, 50);
                        picked.fill(&vec![byte; usize::from(byte)]);
                        let completion = completion(i32::from(byte), picked.flags());
                        prop_assert_eq!(file(&pool, completion), [(completion, 0)]);
                        filed.push_back((completion, byte));
                    }
                },
                Step::Next => if let Some((completion, byte)) = filed.pop_front() {
                    guards.push((pool.guard_of(completion, 0).unwrap(), byte));
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

#[derive(Clone, Copy, Debug)]
enum Arrival {
    /// So many bytes arrive, all of one value.
    Bytes(usize),
    /// The first piece that was filed is taken, or thrown away.
    Next,
    Discard,
    /// The n-th guard goes.
    Drop(usize),
}

fn arrivals(most: usize) -> impl Strategy<Value = Vec<Arrival>> {
    let step = prop_oneof![
        4 => (0..=most).prop_map(Arrival::Bytes),
        4 => Just(Arrival::Next),
        1 => Just(Arrival::Discard),
        4 => any::<usize>().prop_map(Arrival::Drop),
    ];
    prop::collection::vec(step, 1..400)
}

/// Takes, throws away and drops pieces as `step` says.
fn go_on(
    step: Arrival,
    pool: &BufferRing,
    filed: &mut VecDeque<(Completion, u32, u8)>,
    guards: &mut Vec<(PooledBuffer, usize, u8)>,
) {
    match step {
        Arrival::Bytes(_) => {}
        Arrival::Next => {
            if let Some((piece, offset, byte)) = filed.pop_front() {
                let length = usize::try_from(piece.result).unwrap();
                guards.push((pool.guard_of(piece, offset).unwrap(), length, byte));
            }
        }
        Arrival::Discard => {
            if let Some((piece, ..)) = filed.pop_front() {
                pool.discard(piece);
            }
        }
        Arrival::Drop(n) if !guards.is_empty() => {
            guards.swap_remove(n % guards.len());
        }
        Arrival::Drop(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// A kernel that uses buffers up bit by bit, and forgets to say that more follows, as some do at the end of a
    /// stream: every guard keeps its bytes, and a buffer is in the ring exactly when it is not full or nobody has any of it.
    #[test]
    fn pieces_of_a_buffer_are_disjoint_and_conserved(steps in arrivals(20), count in 1u16..5) {
        let pool = BufferRing::unprovided(count, 50).unwrap();
        let count = pool.stats().count;
        let mut kernel = Provided::new(pool.entries_address(), count);
        pool.set_provided(0);
        pool.set_incremental();
        let (mut filed, mut guards) = (VecDeque::new(), Vec::new());
        for (number, step) in steps.into_iter().enumerate() {
            let byte = u8::try_from(number % 251).unwrap();
            if let Arrival::Bytes(bytes) = step {
                match kernel.first() {
                    None => {
                        prop_assert_eq!(pool.available(), 0);
                        file(&pool, completion(-libc::ENOBUFS, 0));
                    }
                    Some(picked) => {
                        let bytes = bytes.min(picked.length);
                        picked.fill(&vec![byte; bytes]);
                        kernel.use_up(&picked, bytes);
                        let told = completion(i32::try_from(bytes).unwrap(), picked.flags());
                        let pieces = file(&pool, told);
                        prop_assert_eq!(pieces.len(), 1);
                        prop_assert_eq!(pieces[0].0, told);
                        filed.push_back((pieces[0].0, pieces[0].1, byte));
                    }
                }
            }
            go_on(step, &pool, &mut filed, &mut guards);
            for (guard, length, byte) in &guards {
                prop_assert_eq!(&guard[..], &vec![*byte; *length]);
                prop_assert_eq!(guard.capacity(), *length);
            }
        }
        filed.iter().for_each(|(piece, ..)| pool.discard(*piece));
        guards.clear();
        prop_assert_eq!(pool.available(), count);
        // What the kernel believes to be there is what is there.
        let full = |kernel: &Provided| kernel.first().map_or(0, |picked| picked.length);
        let mut left = 0;
        while full(&kernel) != 0 {
            left += full(&kernel);
            kernel.take();
        }
        prop_assert!(left > 50 * (usize::from(count) - 1), "all but one are whole: {left}");
    }

    /// A kernel that fills as many buffers at once as there are bytes for.
    #[test]
    fn a_bundle_is_a_completion_for_each_buffer(steps in arrivals(170), count in 1u16..9) {
        let pool = BufferRing::unprovided(count, 50).unwrap();
        let count = pool.stats().count;
        let mut kernel = Provided::new(pool.entries_address(), count);
        pool.set_provided(0);
        let (mut filed, mut guards) = (VecDeque::new(), Vec::new());
        for (number, step) in steps.into_iter().enumerate() {
            let byte = u8::try_from(number % 251).unwrap();
            if let Arrival::Bytes(asked) = step {
                let asked = asked.max(1);
                let (mut bytes, mut first, mut lengths) = (0, None, Vec::new());
                while bytes < asked && let Some(picked) = kernel.first() {
                    let length = (asked - bytes).min(picked.length);
                    picked.fill(&vec![byte; length]);
                    kernel.take();
                    first.get_or_insert(picked);
                    lengths.push(length);
                    bytes += length;
                }
                let Some(first) = first else {
                    prop_assert_eq!(pool.available(), 0);
                    continue;
                };
                let told = completion(i32::try_from(bytes).unwrap(), first.flags());
                let pieces = file(&pool, told);
                let results: Vec<usize> = pieces.iter().map(|(piece, _)| usize::try_from(piece.result).unwrap()).collect();
                prop_assert_eq!(results, lengths);
                let (last, before) = pieces.split_last().unwrap();
                prop_assert!(!last.0.more() && before.iter().all(|(piece, _)| piece.more()));
                filed.extend(pieces.into_iter().map(|(piece, offset)| (piece, offset, byte)));
            }
            go_on(step, &pool, &mut filed, &mut guards);
            for (guard, length, byte) in &guards {
                prop_assert_eq!(&guard[..], &vec![*byte; *length]);
            }
            prop_assert_eq!(usize::from(pool.available()) + filed.len() + guards.len(), usize::from(count));
        }
    }
}

#[test]
#[should_panic(expected = "for multishot operations")]
fn a_piece_is_not_claimed_out_of_order() {
    let pool = BufferRing::unprovided(2, 100).unwrap();
    pool.set_provided(0);
    pool.set_incremental();
    // SAFETY: refused.
    let _ = unsafe { pool.claim(completion(1, 1)) };
}

/// Goal: what is never needed is never used, and a burst that finds no buffer ends only when all are out. Method: a kernel that
/// takes and gives back one at a time, round the ring; then one that tells of what it took when it finds no more.
#[test]
fn buffers_enter_the_ring_as_they_are_needed() {
    const COUNT: u16 = 256;
    let pool = BufferRing::unprovided(COUNT, 64).unwrap();
    let mut kernel = Provided::new(pool.entries_address(), COUNT);
    pool.set_provided(0);
    let take = |kernel: &mut Provided| {
        let picked = kernel.first()?;
        kernel.take();
        Some(completion(1, picked.flags()))
    };
    for _ in 0..1000 {
        let told = take(&mut kernel).expect("all are in the ring");
        file(&pool, told);
        assert_eq!(pool.available(), COUNT - 1);
        pool.discard(told);
    }
    assert_eq!((pool.used(), pool.available()), (FIRST_BUFFERS, COUNT));
    let (mut out, mut bursts) = (Vec::new(), Vec::new());
    loop {
        let burst: Vec<_> = std::iter::from_fn(|| take(&mut kernel)).collect();
        if burst.is_empty() {
            break;
        }
        file(&pool, completion(-libc::ENOBUFS, 0));
        burst.iter().for_each(|told| drop(file(&pool, *told)));
        bursts.push(burst.len());
        out.extend(burst);
    }
    assert_eq!(bursts[0], usize::from(FIRST_BUFFERS));
    assert_eq!((out.len(), pool.available()), (usize::from(COUNT), 0));
    assert_eq!(
        pool.stats().exhausted,
        1,
        "but for the last time there were more"
    );
    out.iter().for_each(|told| pool.discard(*told));
    assert_eq!((pool.used(), pool.available()), (COUNT, COUNT));
}

/// Goal: who gives back late but takes one at a time never finds the ring empty before all are out.
#[test]
fn more_enter_before_the_ring_is_empty() {
    let pool = BufferRing::unprovided(100, 64).unwrap();
    let count = pool.stats().count;
    let mut kernel = Provided::new(pool.entries_address(), count);
    pool.set_provided(0);
    for out in 0..count {
        let picked = kernel.first().unwrap_or_else(|| panic!("{out} are out"));
        kernel.take();
        file(&pool, completion(1, picked.flags()));
    }
    assert!(kernel.first().is_none());
}

#[derive(Clone, Copy, Debug)]
enum Change {
    /// The kernel fills a buffer, whose guard is taken at once.
    Arrive(u8),
    /// The n-th guard goes, back into the ring or out of use.
    Drop(usize),
    Retire(usize),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Goal: with buffers that come into use and out of it none is lost, doubled, or loses its contents while somebody has it.
    #[test]
    fn ids_are_conserved_when_some_are_retired(
        changes in prop::collection::vec(prop_oneof![
            4 => any::<u8>().prop_map(Change::Arrive),
            1 => any::<usize>().prop_map(Change::Drop),
            2 => any::<usize>().prop_map(Change::Retire),
        ], 1..800)
    ) {
        const COUNT: u16 = 128;
        let pool = BufferRing::unprovided(COUNT, PAGE).unwrap();
        let mut kernel = Provided::new(pool.entries_address(), COUNT);
        pool.set_provided(0);
        let mut taken = 0_u16;
        let mut guards: Vec<(PooledBuffer, u8)> = Vec::new();
        for change in changes {
            match change {
                Change::Arrive(byte) => match kernel.first() {
                    None => {
                        prop_assert_eq!(guards.len(), usize::from(COUNT), "scarce long before it is empty");
                    }
                    Some(picked) => {
                        kernel.take();
                        taken = taken.wrapping_add(1);
                        picked.fill(&[byte; PAGE]);
                        let told = completion(i32::try_from(PAGE).unwrap(), picked.flags());
                        file(&pool, told);
                        guards.push((pool.guard_of(told, 0).unwrap(), byte));
                    }
                },
                Change::Drop(n) => if !guards.is_empty() {
                    guards.swap_remove(n % guards.len());
                },
                Change::Retire(n) => if !guards.is_empty() {
                    let (guard, _) = guards.swap_remove(n % guards.len());
                    pool.retire(guard);
                },
            }
            for (guard, byte) in &guards {
                prop_assert!(guard.iter().all(|is| is == byte));
            }
            let inside = pool.pool.tail.get().wrapping_sub(taken);
            prop_assert_eq!(usize::from(pool.used()), usize::from(inside) + guards.len());
            prop_assert_eq!(usize::from(pool.available()), usize::from(COUNT) - guards.len());
        }
        drop(guards);
        prop_assert_eq!(pool.available(), COUNT);
        prop_assert_eq!(Rc::strong_count(&pool.pool), 1);
    }
}

/// Goal: what a burst brought into use is a surplus once fewer have been out for a while, and can be taken out of use and be used
/// again. Method: a burst, a few at a time, another burst.
#[test]
fn what_a_burst_needed_is_retired() {
    const COUNT: u16 = 256;
    let pool = BufferRing::unprovided(COUNT, PAGE).unwrap();
    let mut kernel = Provided::new(pool.entries_address(), COUNT);
    pool.set_provided(0);
    let mut take = || {
        let picked = kernel.first().expect("there are enough");
        kernel.take();
        picked.fill(&[7; 2]);
        let told = completion(1, picked.flags());
        file(&pool, told);
        pool.guard_of(told, 0).unwrap()
    };
    assert!(!pool.has_grown());
    let burst: Vec<_> = (0..200).map(|_| take()).collect();
    assert_eq!((pool.used(), pool.surplus()), (COUNT, 0));
    drop(burst);
    assert_eq!(pool.surplus(), 0, "they were out a moment ago");
    for _ in 0..100 {
        let few: Vec<_> = (0..20).map(|_| take()).collect();
        assert_eq!(few.len(), 20);
    }
    let surplus = pool.surplus();
    assert_eq!(surplus, COUNT - 64, "twenty at a time, and as many again");
    for _ in 0..surplus {
        pool.retire(take());
    }
    assert_eq!((pool.used(), pool.available()), (64, COUNT));
    assert!(pool.has_grown());
    assert_eq!(pool.surplus(), 32, "one at a time since then");
    let again: Vec<_> = (0..COUNT).map(|_| take()).collect();
    assert_eq!((again.len(), pool.available()), (COUNT.into(), 0));
    assert_eq!(pool.used(), COUNT);
}

/// Goal: a retired buffer has no memory. Method: what was written into it is not there when it comes into use again.
#[test]
fn a_retired_buffer_comes_back_empty() {
    let pool = BufferRing::unprovided(64, PAGE).unwrap();
    let mut held: Vec<_> = (0..32).map(|_| pool.lease().unwrap()).collect();
    for buffer in &mut held {
        buffer.fill(9);
    }
    held.into_iter().for_each(|buffer| pool.retire(buffer));
    let again: Vec<_> = (0..64).map(|_| pool.lease().unwrap()).collect();
    assert!(
        again
            .iter()
            .all(|buffer| buffer.iter().all(|byte| *byte == 0))
    );
}

#[test]
#[should_panic(expected = "of this pool")]
fn a_buffer_of_another_pool_is_not_retired() {
    let (pool, other) = (
        BufferRing::unprovided(2, 100).unwrap(),
        BufferRing::unprovided(2, 100).unwrap(),
    );
    pool.retire(other.lease().unwrap());
}

/// Goal: a pool that is taken out of use as a whole comes back. Method: pools so small that nothing is left in the ring meanwhile.
#[test]
fn the_last_buffer_can_be_retired() {
    for count in [1, 2, 4] {
        let pool = BufferRing::unprovided(count, PAGE).unwrap();
        for _ in 0..3 {
            let all: Vec<_> = (0..count).map(|_| pool.lease().unwrap()).collect();
            assert!(pool.lease().is_none());
            all.into_iter().for_each(|buffer| pool.retire(buffer));
            assert_eq!(pool.available(), count);
        }
    }
}
