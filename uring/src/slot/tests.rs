//! The slots against a model that never forgets: a map from every `OpId` ever given out to what should be known
//! about it. The model has no generations, so it fails as soon as ours let one operation pass for another.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::*;

fn token(number: usize) -> Token {
    Token::from_number(NonZeroUsize::new(number).expect("tests number from one"))
}

fn cqe(op: OpId, result: i32, flags: u32) -> Cqe {
    Cqe {
        user_data: op.user_data(),
        result,
        flags,
    }
}

#[test]
fn an_operation_completes_once_and_is_taken_once() {
    let mut slots = Slots::with_limits(2, 8);
    let op = slots.insert(token(5)).unwrap();
    assert_eq!(slots.look(op), None, "still in flight");
    assert_eq!(slots.take(op), None, "still in flight");
    assert_eq!(slots.complete(cqe(op, 42, 0)), Completed::Wake(token(5)));
    assert_eq!(
        slots.complete(cqe(op, 43, 0)),
        Completed::Stale,
        "a duplicate"
    );
    let seen = slots.look(op);
    assert_eq!(slots.take(op), seen, "a look takes nothing");
    assert_eq!(seen.unwrap().into_result().unwrap(), 42);
    assert_eq!((slots.look(op), slots.take(op)), (None, None));
    assert_eq!(slots.complete(cqe(op, 44, 0)), Completed::Stale);
    assert_eq!((slots.in_flight(), slots.stale()), (0, 2));
}

#[test]
fn the_limit_is_an_error_and_a_freed_slot_is_reused() {
    let mut slots = Slots::with_limits(1, 8);
    let first = slots.insert(token(1)).unwrap();
    assert_eq!(slots.insert(token(2)), Err(SlotsFull { limit: 1 }));
    slots.complete(cqe(first, 0, 0));
    assert_eq!(
        slots.insert(token(2)),
        Err(SlotsFull { limit: 1 }),
        "done, but unclaimed"
    );
    slots.take(first);
    let second = slots.insert(token(2)).unwrap();
    assert_eq!(first.index(), second.index());
    assert_ne!(first, second);
}

#[test]
fn a_limit_beyond_the_memory_is_none() {
    // 51 GB, more than the kernel promises to who has less.
    let mut slots = Slots::with_limits(u32::MAX, 8);
    let ops: Vec<_> = (1..1000)
        .map(|number| slots.insert(token(number)).unwrap())
        .collect();
    for (op, number) in ops.into_iter().zip(1..) {
        assert_eq!(
            slots.complete(cqe(op, 0, 0)),
            Completed::Wake(token(number))
        );
    }
}

#[test]
fn a_zero_copy_send_is_one_completion() {
    let mut slots = Slots::with_limits(1, 8);
    let op = slots.insert(token(1)).unwrap();
    assert_eq!(slots.complete(cqe(op, 100, CQE_F_MORE)), Completed::Quiet);
    assert_eq!(slots.take(op), None, "the kernel may still read the buffer");
    assert_eq!(
        slots.complete(cqe(op, 0, CQE_F_NOTIF)),
        Completed::Wake(token(1))
    );
    assert_eq!(slots.take(op).unwrap().result, 100);
}

#[test]
fn an_error_result_is_an_io_error() {
    let completion = Completion {
        result: -libc::ECANCELED,
        flags: 0,
    };
    let error = completion.into_result().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert,
    /// Complete the n-th id ever given out, live or not.
    Complete(usize),
    Take(usize),
    /// A CQE for something that was never submitted.
    Garbage(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Insert),
        4 => any::<usize>().prop_map(Step::Complete),
        4 => any::<usize>().prop_map(Step::Take),
        1 => any::<u64>().prop_map(Step::Garbage),
    ];
    prop::collection::vec(step, 1..200)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    InFlight(Token),
    Done(i32),
    Gone,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn slots_behave_like_a_map(steps in steps(), limit in 1u32..8, first_generation in prop_oneof![Just(0), Just(u32::MAX - 3)]) {
        let mut slots = Slots { first_generation, ..Slots::with_limits(limit, 8) };
        let mut ids: Vec<OpId> = Vec::new();
        let mut model: HashMap<OpId, Known> = HashMap::new();
        let mut stale = 0;
        let mut counter = 0;
        for step in steps {
            counter += 1;
            let pick = |n: usize| ids.get(n % ids.len().max(1)).copied();
            match step {
                Step::Insert => {
                    let held = model.values().filter(|known| **known != Known::Gone).count();
                    let inserted = slots.insert(token(counter));
                    prop_assert_eq!(inserted.is_ok(), held < limit as usize);
                    if let Ok(op) = inserted {
                        let known = Known::InFlight(token(counter));
                        prop_assert_eq!(model.insert(op, known), None, "an id was given out twice");
                        ids.push(op);
                    }
                }
                Step::Complete(n) => if let Some(op) = pick(n) {
                    let result = i32::try_from(counter).unwrap();
                    let completed = slots.complete(cqe(op, result, 0));
                    let known = model.get_mut(&op).unwrap();
                    let expected = match *known {
                        Known::InFlight(token) => { *known = Known::Done(result); Completed::Wake(token) }
                        Known::Done(_) | Known::Gone => { stale += 1; Completed::Stale }
                    };
                    prop_assert_eq!(completed, expected);
                },
                Step::Take(n) => if let Some(op) = pick(n) {
                    let taken = slots.take(op).map(|completion| completion.result);
                    let known = model.get_mut(&op).unwrap();
                    let expected = match *known {
                        Known::Done(result) => { *known = Known::Gone; Some(result) }
                        _ => None,
                    };
                    prop_assert_eq!(taken, expected);
                },
                Step::Garbage(user_data) => if !model.contains_key(&OpId::from_user_data(user_data)) {
                    let own = is_own(user_data);
                    let expected = if own { Completed::Own } else { Completed::Stale };
                    prop_assert_eq!(slots.complete(Cqe { user_data, result: 0, flags: 0 }), expected);
                    stale += u64::from(!own);
                },
            }
            let in_flight = model.values().filter(|known| matches!(known, Known::InFlight(_))).count();
            prop_assert_eq!(slots.in_flight(), in_flight);
            prop_assert_eq!(slots.stale(), stale);
        }
    }
}
