//! The memory that timers need, touched in the order in which timers would, by loops that do nothing else.
//!
//! A timer is an entry of three words, wherever it is the next time that it is looked at, and a place of one word, which
//! does not move and says where its entry is and how many timers it has had. Less than that cannot recognise a timer that is
//! over.

use std::hint::black_box;

use fastrand::Rng;

use crate::subject::Job;
use crate::work::timers::{Costs, batch, draw, rounds, timed};

#[derive(Clone, Copy)]
struct Place {
    at: u32,
    generation: u32,
}

pub(super) fn timers(job: &Job, live: usize) {
    let mut meter = job.meter(1);
    let mut costs = Costs::default();
    let mut random = Rng::with_seed(live as u64);
    let nobody = Place {
        at: 0,
        generation: 0,
    };
    let mut places = vec![nobody; live];
    let mut entries = vec![[0; 3]; live];
    while costs.fire.is_empty() || meter.lap() {
        let mut keys: Vec<usize> = (0..live).collect();
        keys.iter().for_each(|key| entries[*key] = [*key; 3]);
        // Added entries follow each other, over those of whoever is there.
        let mut next = 0;
        for round in 0..2 * rounds(live) {
            let any = round >= rounds(live);
            if any {
                draw(&mut keys, batch(live), &mut random);
            }
            let removed: Vec<_> = keys.drain(..batch(live)).collect();
            let remove = timed(removed.len(), || {
                for key in &removed {
                    end(&mut places[*key]);
                }
            });
            costs.removed(any, remove);
            keys.reserve(removed.len());
            costs.add.push(timed(removed.len(), || {
                for key in removed {
                    entries[next] = [key; 3];
                    places[key].at = u32::try_from(next).expect("there are a million at the most");
                    keys.push(key);
                    next = if next + 1 == live { 0 } else { next + 1 };
                }
            }));
        }
        let mut fired = Vec::with_capacity(live);
        costs.fire.push(timed(live, || {
            for [key, .., index] in &entries {
                end(&mut places[*key]);
                fired.push(*index);
            }
        }));
        black_box((&fired, &places));
    }
    costs.finish();
}

fn end(place: &mut Place) {
    place.at = u32::MAX;
    place.generation = place.generation.wrapping_add(1);
}
