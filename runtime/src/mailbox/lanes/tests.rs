//! Lanes that open while somebody looks.
#![expect(unsafe_code, reason = "the tests keep the promise of one receiver")]

use super::{Lanes, Round};

/// Goal: what lies in a lane that has opened since the last look is found by the very next look: it may be the last before a
/// park, or before "all senders have gone".
#[test]
fn a_lane_that_has_opened_is_looked_into_at_once() {
    for (old, new) in [(0, 1), (0, 2), (1, 2)] {
        let lanes = Lanes::new(2, 4);
        let (mut round, mut got) = (Round::default(), Vec::new());
        lanes.lane(old).push_locked(1).unwrap();
        // SAFETY: one thread.
        let taken = unsafe { lanes.pop_each(&mut round, None, 8, |n| got.push(n)) };
        assert_eq!(taken, 1);
        lanes.lane(new).push_locked(2).unwrap();
        // SAFETY: as above.
        let taken = unsafe { lanes.pop_each(&mut round, None, 8, |n| got.push(n)) };
        assert_eq!(taken, 1, "lane {new} after lane {old}");
    }
}

/// Goal: a lane that opens in the middle of a visit, before the others, hides none of them.
#[test]
fn a_lane_that_opens_during_a_visit_hides_no_other() {
    let lanes = Lanes::new(3, 4);
    lanes.lane(1);
    lanes.lane(2).push_locked(7).unwrap();
    let found = lanes.visit(&mut Round::default(), |lane, _| {
        lanes.lane(0);
        // SAFETY: one thread.
        unsafe { lane.ring.pop() }.map(|message| (message, 1))
    });
    assert_eq!(found, Some(7));
}
