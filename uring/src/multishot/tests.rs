//! Multishot operations in their slots, against a model that never forgets: for every operation ever begun, what it
//! was told, in order, and for every descriptor that came, where it went.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::*;
use crate::slot::Completed;
use crate::{CQE_F_MORE, Cqe, OpId, Slots};

fn token(number: usize) -> Token {
    Token::from_number(NonZeroUsize::new(number + 1).unwrap())
}

fn cqe(op: OpId, result: i32, flags: u32) -> Cqe {
    Cqe {
        user_data: op.user_data(),
        result,
        flags,
    }
}

fn results(slots: &mut Slots, op: OpId) -> Vec<(i32, bool)> {
    std::iter::from_fn(|| slots.next(op))
        .map(|event| (event.completion.result, event.more()))
        .collect()
}

#[test]
fn completions_wait_in_order_and_the_last_frees_the_slot() {
    let mut slots = Slots::with_limits(1, 8);
    let op = slots.insert_multishot(Carries::Nothing).unwrap();
    for result in 1..4 {
        assert_eq!(
            slots.complete(cqe(op, result, CQE_F_MORE)),
            Completed::Quiet
        );
    }
    assert_eq!(slots.take(op), None, "not a one-shot operation");
    assert_eq!(slots.complete(cqe(op, -125, 0)), Completed::Quiet);
    assert_eq!((slots.in_flight(), slots.is_in_flight(op)), (0, false));
    assert_eq!(
        slots.complete(cqe(op, 9, 0)),
        Completed::Stale,
        "it is over"
    );
    assert!(
        slots.insert_multishot(Carries::Nothing).is_err(),
        "unclaimed"
    );
    let expected = [(1, true), (2, true), (3, true), (-125, false)];
    assert_eq!(results(&mut slots, op), expected);
    assert!(slots.insert_multishot(Carries::Nothing).is_ok());
    assert!(slots.next(op).is_none());
}

#[test]
fn a_watcher_is_told_once() {
    let mut slots = Slots::with_limits(1, 8);
    let op = slots.insert_multishot(Carries::Nothing).unwrap();
    slots.watch(op, Some(token(1)));
    slots.watch(op, Some(token(2)));
    let told = slots.complete(cqe(op, 1, CQE_F_MORE));
    assert_eq!(told, Completed::Wake(token(2)), "the later one");
    assert_eq!(slots.complete(cqe(op, 2, CQE_F_MORE)), Completed::Quiet);
    assert_eq!(results(&mut slots, op).len(), 2);
    slots.watch(op, Some(token(3)));
    slots.watch(op, None);
    assert_eq!(slots.complete(cqe(op, 3, 0)), Completed::Quiet, "went away");
}

#[test]
fn a_full_window_is_reported_and_nothing_is_lost() {
    let mut slots = Slots::with_limits(1, 3);
    let op = slots.insert_multishot(Carries::Nothing).unwrap();
    let filed = [(); 5].map(|()| slots.complete(cqe(op, 0, CQE_F_MORE)));
    let (quiet, crowded) = (Completed::Quiet, Completed::Crowded(op));
    assert_eq!(filed, [quiet, quiet, crowded, quiet, quiet]);
    assert_eq!(results(&mut slots, op).len(), 5);
}

#[test]
fn lent_memory_is_kept_until_the_last_completion() {
    let mut slots = Slots::with_limits(2, 8);
    let memory = Rc::new([0u8; 8]);
    let carries = Carries::Lent(memory.clone());
    let (taken, abandoned) = (
        slots.insert_multishot(carries.clone()).unwrap(),
        slots.insert_multishot(carries).unwrap(),
    );
    slots.abandon(abandoned, |_| panic!("no descriptor"));
    slots.complete(cqe(taken, 8, CQE_F_MORE));
    slots.complete(cqe(abandoned, 8, CQE_F_MORE));
    assert_eq!(Rc::strong_count(&memory), 3);
    slots.complete(cqe(abandoned, 0, crate::CQE_F_NOTIF));
    assert_eq!(Rc::strong_count(&memory), 2);
    slots.complete(cqe(taken, 0, crate::CQE_F_NOTIF));
    assert_eq!(results(&mut slots, taken), [(8, true), (0, false)]);
    assert_eq!(Rc::strong_count(&memory), 1);
}

#[test]
fn nodes_and_streams_are_used_again() {
    let mut slots = Slots::with_limits(4, 8);
    for _ in 0..100 {
        let op = slots.insert_multishot(Carries::Nothing).unwrap();
        slots.complete(cqe(op, 1, CQE_F_MORE));
        slots.complete(cqe(op, 1, 0));
        assert_eq!(results(&mut slots, op).len(), 2);
    }
    let (streams, nodes) = slots.multishot_sizes();
    assert_eq!((streams, nodes), (1, 2));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert,
    InsertOneShot,
    /// To the n-th operation ever begun, dead or alive. The last one?
    Complete(usize, bool),
    Next(usize),
    Watch(usize),
    Unwatch(usize),
    Abandon(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::Insert),
        1 => Just(Step::InsertOneShot),
        6 => (any::<usize>(), prop::bool::weighted(0.2)).prop_map(|(n, last)| Step::Complete(n, last)),
        5 => any::<usize>().prop_map(Step::Next),
        2 => any::<usize>().prop_map(Step::Watch),
        1 => any::<usize>().prop_map(Step::Unwatch),
        1 => any::<usize>().prop_map(Step::Abandon),
    ];
    prop::collection::vec(step, 1..250)
}

#[derive(Debug, Default)]
struct Known {
    one_shot: bool,
    queue: VecDeque<(i32, bool)>,
    watcher: Option<Token>,
    ended: bool,
    abandoned: bool,
}

impl Known {
    /// Nothing of it is left in its slot.
    fn gone(&self) -> bool {
        self.ended && self.queue.is_empty()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every descriptor that ever came was taken, closed, or waits: in the order it came, and once.
    #[test]
    fn slots_behave_like_queues(steps in steps(), limit in 1u32..6, window in 2u32..5) {
        let mut slots = Slots::with_limits(limit, window);
        let mut ids: Vec<OpId> = Vec::new();
        let mut model: HashMap<OpId, Known> = HashMap::new();
        let mut fds = 0;
        for (count, step) in steps.into_iter().enumerate() {
            let pick = |n: usize| ids.get(n % ids.len().max(1)).copied();
            let mut closed = Vec::new();
            match step {
                Step::Insert | Step::InsertOneShot => {
                    let one_shot = matches!(step, Step::InsertOneShot);
                    let held = model.values().filter(|known| !known.gone()).count();
                    let inserted = if one_shot { slots.insert(token(count)) } else { slots.insert_multishot(Carries::Descriptors) };
                    prop_assert_eq!(inserted.is_ok(), held < limit as usize);
                    if let Ok(op) = inserted {
                        let watcher = one_shot.then(|| token(count));
                        let before = model.insert(op, Known { one_shot, watcher, ..Known::default() });
                        prop_assert!(before.is_none(), "an id was given out twice");
                        ids.push(op);
                    }
                }
                Step::Complete(n, last) => if let Some(op) = pick(n) {
                    let known = model.get_mut(&op).unwrap();
                    let last = last || known.one_shot;
                    fds += 1;
                    let got = slots.complete(cqe(op, fds, if last { 0 } else { CQE_F_MORE }));
                    let expected = if known.ended {
                        Completed::Stale
                    } else if known.abandoned {
                        known.ended = last;
                        Completed::Close(fds)
                    } else {
                        known.ended = last;
                        known.queue.push_back((fds, !last));
                        match known.watcher.take() {
                            Some(token) => Completed::Wake(token),
                            None if known.queue.len() == window as usize && !last => Completed::Crowded(op),
                            None => Completed::Quiet,
                        }
                    };
                    prop_assert_eq!(got, expected);
                },
                Step::Next(n) => if let Some(op) = pick(n) {
                    let known = model.get_mut(&op).unwrap();
                    let got = if known.one_shot {
                        prop_assert!(slots.next(op).is_none());
                        slots.take(op).map(|completion| (completion.result, false))
                    } else {
                        prop_assert!(slots.take(op).is_none());
                        slots.next(op).map(|event| (event.completion.result, event.more()))
                    };
                    prop_assert_eq!(got, known.queue.pop_front());
                },
                Step::Watch(n) => if let Some(op) = pick(n) {
                    let known = model.get_mut(&op).unwrap();
                    if !known.one_shot && known.queue.is_empty() && !known.abandoned {
                        slots.watch(op, Some(token(count)));
                        known.watcher = Some(token(count));
                    }
                },
                Step::Unwatch(n) => if let Some(op) = pick(n) {
                    slots.watch(op, None);
                    let known = model.get_mut(&op).unwrap();
                    if !known.one_shot {
                        known.watcher = None;
                    }
                },
                Step::Abandon(n) => if let Some(op) = pick(n) {
                    slots.abandon(op, |fd| closed.push(fd));
                    let known = model.get_mut(&op).unwrap();
                    if !known.one_shot {
                        let waiting: Vec<i32> = known.queue.drain(..).map(|(fd, _)| fd).collect();
                        prop_assert_eq!(closed, waiting);
                        (known.abandoned, known.watcher) = (true, None);
                    }
                },
            }
            let in_flight = model.values().filter(|known| !known.ended).count();
            prop_assert_eq!(slots.in_flight(), in_flight);
        }
        let mut closed = Vec::new();
        slots.abandon_all(|fd| closed.push(fd));
        let mut waiting: Vec<i32> = model.values().filter(|known| !known.one_shot)
            .flat_map(|known| known.queue.iter().map(|(fd, _)| *fd)).collect();
        waiting.sort_unstable();
        closed.sort_unstable();
        prop_assert_eq!(closed, waiting);
    }
}
