//! The crate's behaviour through its public API, in virtual time: one module a subject.
//!
//! Most scenarios run in many orders of the ready coroutines ([`every_order`]): first in first out, and in the order
//! of some seeds. `CORING_SEEDS=1000 cargo test -p coring-coro --test it` runs them in a thousand.

mod allocation;
mod cancellation;
mod channels;
mod dump;
mod groups;
mod joins;
mod locals;
mod overflow;
mod panics;
mod schedulers;
mod scopes;
mod selects;
mod stacks;
mod sync;
mod sync_model;
mod time;
mod wait_model;

use coring_coro as coro;

/// Runs a scenario first in first out, then in shuffled orders.
fn every_order(scenario: fn()) {
    coro::testing::run(scenario);
    let seeds = std::env::var("CORING_SEEDS").map_or(20, |seeds| seeds.parse().expect("a number"));
    (0..seeds).for_each(|seed| coro::testing::run_seeded(seed, scenario));
}
