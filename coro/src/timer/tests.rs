//! The wheel against a sorted map, over every distance of time.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Step {
    Insert { distance: u64 },
    Cancel { which: usize },
    Advance { by: u64 },
}

/// Distances from one nanosecond to centuries: a random bit length, then a random value of that length.
fn distance() -> impl Strategy<Value = u64> {
    (0u32..64, any::<u64>()).prop_map(|(bits, value)| value >> (63 - bits))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => distance().prop_map(|distance| Step::Insert { distance }),
        1 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        3 => distance().prop_map(|by| Step::Advance { by: by >> 8 }),
    ]
}

proptest! {
    /// Goal: the wheel fires exactly what a sorted map says is due, at every step, and reports a deadline that
    /// is never later than the map's first. Method: random programs over both.
    #[test]
    fn agrees_with_a_sorted_map(start in any::<u64>(), steps in prop::collection::vec(step(), 1..200)) {
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
                Step::Advance { by } => {
                    now = now.saturating_add(by);
                    let mut fired = Vec::new();
                    wheel.advance(now, |name| fired.push(name));
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
            prop_assert_eq!(wheel.len(), model.len());
            match (wheel.next_deadline(), model.keys().next()) {
                (None, None) => {}
                (Some(reported), Some(&(first, _))) => prop_assert!(reported <= first),
                (reported, first) => prop_assert!(false, "{:?} against {:?}", reported, first),
            }
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

/// Goal: a million timers come out, each once, none early, with time moving in uneven jumps.
#[test]
fn a_million_timers_fire_once_and_never_early() {
    const COUNT: usize = 1_000_000;
    let mut wheel = Wheel::new(0);
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    for id in 0..COUNT {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        wheel.insert(random >> 34, (random >> 34, id));
    }
    let mut seen = vec![false; COUNT];
    let mut now = 0;
    while !wheel.is_empty() {
        now += 1_000_003;
        wheel.advance(now, |(deadline, id)| {
            assert!(deadline <= now, "timer {id} fired early");
            assert!(
                !std::mem::replace(&mut seen[id], true),
                "timer {id} fired twice"
            );
        });
    }
    assert!(seen.into_iter().all(|fired| fired));
}
