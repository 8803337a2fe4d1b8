//! The wheel against a sorted map, over every distance of time.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
enum Step {
    Insert { distance: u64 },
    Cancel { which: usize },
    Discard { which: usize },
    Advance { by: u64 },
    Shrink,
    Settle,
    Ask,
}

/// Distances from one nanosecond to centuries: a random bit length, then a random value of that length.
fn distance() -> impl Strategy<Value = u64> {
    (0u32..64, any::<u64>()).prop_map(|(bits, value)| value >> (63 - bits))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => distance().prop_map(|distance| Step::Insert { distance }),
        1 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        3 => any::<usize>().prop_map(|which| Step::Discard { which }),
        3 => distance().prop_map(|by| Step::Advance { by: by >> 8 }),
        1 => Just(Step::Shrink),
        1 => Just(Step::Settle),
        1 => Just(Step::Ask),
    ]
}

proptest! {
    /// Goal: the wheel fires exactly what a sorted map says is due, at every step, and reports a deadline that
    /// is never later than the map's first, whatever was discarded shortly before. Method: random programs over both.
    #[test]
    fn agrees_with_a_sorted_map(start in any::<u64>(), steps in prop::collection::vec(step(), 1..300)) {
        let mut now = start >> 1;
        let mut wheel = Wheel::new(now);
        let mut model: BTreeMap<(u64, u32), TimerKey> = BTreeMap::new();
        let mut serial = 0u32;
        for step in steps {
            match step {
                Step::Insert { distance } => {
                    let deadline = now.saturating_add(distance);
                    serial += 1;
                    let key = wheel.insert(deadline, (deadline, serial));
                    model.insert((deadline, serial), key);
                }
                Step::Cancel { which } => {
                    if let Some((&name, &key)) = model.iter().nth(which % model.len().max(1)) {
                        model.remove(&name);
                        prop_assert_eq!(wheel.cancel(key), Some(name));
                        prop_assert_eq!(wheel.cancel(key), None);
                    }
                }
                Step::Discard { which } => {
                    if let Some((&name, &key)) = model.iter().nth(which % model.len().max(1)) {
                        model.remove(&name);
                        wheel.discard(key);
                        prop_assert!(!wheel.is_live(key));
                        // Once more, which is nothing, often with a cancel or an advance to follow.
                        if which % 2 == 0 {
                            wheel.discard(key);
                        }
                        if which % 5 == 0 {
                            prop_assert_eq!(wheel.cancel(key), None);
                        }
                    }
                }
                Step::Settle => {
                    wheel.settle();
                    prop_assert_eq!(wheel.len(), model.len());
                    prop_assert!(model.values().all(|key| wheel.is_live(*key)));
                }
                Step::Ask => match (wheel.next_deadline(), model.keys().next()) {
                    (None, None) => {}
                    (Some(reported), Some(&(first, _))) => prop_assert!(reported <= first),
                    (reported, first) => prop_assert!(false, "{:?} against {:?}", reported, first),
                },
                Step::Shrink => {
                    wheel.compact();
                    wheel.places.shrink();
                }
                Step::Advance { by } => {
                    now = now.saturating_add(by);
                    let mut fired = Vec::new();
                    wheel.advance(now, |_, name| fired.push(name));
                    fired.sort_unstable();
                    let later = model.split_off(&(now.saturating_add(1), 0));
                    let mut due: Vec<_> = model.keys().copied().collect();
                    let mut rest = later;
                    if now == u64::MAX {
                        due.extend(rest.keys().copied());
                        rest.clear();
                    }
                    prop_assert_eq!(fired, due);
                    model = rest;
                }
            }
            prop_assert!(wheel.len() >= model.len());
        }
    }

    /// Goal: no place is given out twice, none is lost, and memory is given back behind the last one that is in use. Method: random
    /// programs over the set and a plain one; enough places for all three lines.
    #[test]
    fn free_places_agree_with_a_set(steps in prop::collection::vec((0u8..8, any::<usize>()), 1..100)) {
        let mut free = free::FreePlaces::default();
        let mut model: BTreeSet<usize> = BTreeSet::new();
        let (mut places, mut taken) = (0, Vec::new());
        for (what, which) in steps {
            match what {
                0 => {
                    let more = if which % 32 == 0 { 64 * 64 + 1 } else { 1 + which % 8 };
                    (0..more).for_each(|_| free.grow());
                    model.extend(places..places + more * free::WORD);
                    places += more * free::WORD;
                }
                1..4 => for _ in 0..which % 300 {
                    let place = free.take(|soon| assert!(soon + free::WORD <= places));
                    prop_assert_eq!(place.is_none(), model.is_empty());
                    if let Some(place) = place {
                        prop_assert!(model.remove(&place));
                        taken.push(place);
                    }
                }
                4..7 => for n in 0..which % 300 {
                    if !taken.is_empty() {
                        let place = taken.swap_remove(which.wrapping_mul(n + 1) % taken.len());
                        model.insert(place);
                        free.put(place);
                    }
                }
                _ => {
                    places = free.shrink();
                    let used = taken.iter().max().map_or(0, |last| last + 1);
                    prop_assert_eq!(places, used.next_multiple_of(free::WORD));
                    drop(model.split_off(&places));
                }
            }
            prop_assert_eq!(free.len(), model.len());
        }
    }

    /// Goal: without cancellations, the reported deadline is exact, so that a core sleeps once a timer.
    #[test]
    fn next_deadline_is_exact_without_cancellation(start in any::<u64>(), distances in prop::collection::vec(distance(), 1..50)) {
        let now = start >> 1;
        let mut wheel = Wheel::new(now);
        for &distance in &distances {
            wheel.insert(now.saturating_add(distance), ());
        }
        let first = distances.iter().map(|&d| now.saturating_add(d)).min();
        prop_assert_eq!(wheel.next_deadline(), first);
    }
}

/// Goal: a million live timers agree with a sorted map, while they are inserted, cancelled and fire. Method: a random
/// program that keeps a million live, and then lets all fire; the map says who is due, and no key works twice.
#[test]
fn a_million_timers_agree_with_a_sorted_map() {
    const LIVE: usize = 1_000_000;
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut wheel = Wheel::new(0);
    let mut model: BTreeMap<(u64, u32), TimerKey> = BTreeMap::new();
    let mut ended = Vec::new();
    let mut now = 0;
    let mut names = 0..u32::MAX;
    for round in 0..40 {
        let filling = round < 20;
        while filling && model.len() < LIVE {
            let name = names.next().expect("there are enough");
            // Within a second, and one in eight within some minutes.
            let distance = random.below(1 << (30 + 8 * u32::from(name % 8 == 0)));
            let key = wheel.insert(now + distance, (now + distance, name));
            model.insert((now + distance, name), key);
        }
        for _ in 0..10_000 {
            let from = (now + random.below(1 << 30), 0);
            let Some((&name, &key)) = model.range(from..).next() else {
                break;
            };
            model.remove(&name);
            match name.1 % 2 {
                0 => assert_eq!(wheel.cancel(key), Some(name)),
                _ => wheel.discard(key),
            }
            ended.push(key);
        }
        now += random.below(if filling { 1 << 27 } else { 1 << 36 });
        let mut fired = Vec::new();
        wheel.advance(now, |told, name: (u64, u32)| {
            assert_eq!(told, name.0);
            fired.push(name);
        });
        fired.sort_unstable();
        let later = model.split_off(&(now + 1, 0));
        let due = std::mem::replace(&mut model, later);
        assert!(fired.iter().eq(due.keys()), "in round {round}");
        ended.extend(due.values());
        assert_eq!(wheel.len(), model.len());
    }
    assert_eq!((wheel.len(), wheel.next_deadline()), (0, None));
    assert!(ended.iter().all(|key| wheel.cancel(*key).is_none()));
}

/// Goal: what a timer points to may go as soon as the timer is discarded, also while it waits for its end. Method: as many as
/// wait and more, due at once, before one that stays; then the same names come again and are not taken for them.
#[test]
fn a_discarded_timer_never_fires() {
    for count in 0..40 {
        let mut wheel = Wheel::new(0);
        let keys: Vec<_> = (0..count).map(|n| wheel.insert(n % 3, n)).collect();
        wheel.insert(5, 1_000);
        keys.iter().for_each(|key| wheel.discard(*key));
        assert!(keys.iter().all(|key| !wheel.is_live(*key)));
        let mut fired = Vec::new();
        wheel.advance(4, |_, name| fired.push(name));
        wheel.insert(6, 1_001);
        keys.iter().for_each(|key| wheel.discard(*key));
        assert_eq!(wheel.next_deadline(), Some(5));
        wheel.advance(7, |_, name| fired.push(name));
        fired.sort_unstable();
        assert_eq!(fired, [1_000, 1_001], "{count} discarded");
        assert_eq!((wheel.len(), wheel.next_deadline()), (0, None));
    }
}

/// Goal: cancelled timers give their memory back at once, whatever stays between them. Method: the timers that stay are few
/// and fill no block, the others come and go many times over; blocks and places must not become more.
#[test]
fn holes_do_not_pile_up() {
    let mut random = Random(1);
    let mut wheel = Wheel::new(0);
    let mut kept = Vec::new();
    for round in 0..200 {
        let keys: Vec<_> = (0..1_000)
            .map(|_| wheel.insert(random.below(1 << 40), ()))
            .collect();
        for (n, key) in keys.into_iter().enumerate() {
            match n {
                0 => kept.push(key),
                _ => assert_eq!(wheel.cancel(key), Some(())),
            }
        }
        assert_eq!(wheel.len(), round + 1);
        let in_use = wheel.blocks.len() - wheel.free_blocks.len();
        assert!(in_use <= wheel.len(), "{in_use} blocks");
    }
    assert!(wheel.blocks.len() <= 1_000 / BLOCK as usize + LEVELS * SLOTS + kept.len());
    kept.into_iter()
        .for_each(|key| assert_eq!(wheel.cancel(key), Some(())));
    assert_eq!(wheel.free_blocks.len(), wheel.blocks.len());
    assert_eq!(wheel.next_deadline(), None);
}

/// Goal: the memory of a crowd of timers is given back, while keys of timers that live go on, and those of timers that are
/// gone stay stale, also when their places come again. Method: a crowd of which one in a thousand stays.
#[test]
fn a_crowd_leaves_no_memory_behind() {
    let mut random = Random(3);
    let mut wheel = Wheel::new(0);
    let mut keys: Vec<_> = (0..100_000)
        .map(|n| (n, wheel.insert(1 + random.below(1 << 40), n)))
        .collect();
    wheel.shrink();
    let (kept, gone): (Vec<_>, Vec<_>) = keys
        .drain(..)
        .partition(|(n, _)| n % 500 == 1 && *n < 50_000);
    for (n, key) in &gone {
        assert_eq!(wheel.cancel(*key), Some(*n));
    }
    wheel.shrink();
    let room = (wheel.entries.capacity(), wheel.blocks.capacity());
    assert!(room.0 <= 2 * kept.len() * BLOCK as usize, "{room:?}");
    assert!(wheel.places.room() <= kept[kept.len() - 1].0 + 64);
    let again: Vec<_> = (0..100_000).map(|n| wheel.insert(u64::MAX, n)).collect();
    assert!(gone.iter().all(|(_, key)| wheel.cancel(*key).is_none()));
    assert_eq!(wheel.len(), kept.len() + again.len());
    for (n, key) in kept {
        assert_eq!(wheel.cancel(key), Some(n));
    }
}

/// A cheap generator (xorshift64): the order matters, not its quality.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
