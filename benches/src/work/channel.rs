//! Two tasks and what goes between them: a number to and fro, or a stream of numbers one way.
//!
//! The task at the other end of a ping-pong adds one, so an answer shows that it was there. The receiver
//! of a stream compares each number with the one it expects: none is lost, doubled or overtaken.

use crate::subject::Job;

/// Values that the channel of a stream holds. Where a channel has no bound, its sender yields after as many.
pub(crate) const CAPACITY: usize = 128;

const ROUND_TRIPS_A_LAP: usize = 20_000;
const MESSAGES_A_LAP: usize = 100_000;

/// Sends a number and waits for its successor. Ends the other task by dropping what it sends with.
pub(crate) fn ping(job: &Job, send: impl Fn(u64), receive: impl Fn() -> u64) {
    let mut meter = job.meter(ROUND_TRIPS_A_LAP);
    let mut number = 0;
    while meter.lap() {
        for _ in 0..ROUND_TRIPS_A_LAP {
            send(number);
            let answer = receive();
            assert_eq!(answer, number + 1, "the other task has added one");
            number = answer;
        }
    }
    meter.finish();
}

/// Answers every number with its successor.
pub(crate) fn pong(send: impl Fn(u64), receive: impl Fn() -> Option<u64>) {
    while let Some(number) = receive() {
        send(number + 1);
    }
}

/// Receives numbers that count up from zero.
pub(crate) fn consume(job: &Job, receive: impl Fn() -> u64) {
    let mut meter = job.meter(MESSAGES_A_LAP);
    let mut expected = 0;
    while meter.lap() {
        for _ in 0..MESSAGES_A_LAP {
            assert_eq!(receive(), expected, "numbers come in order");
            expected += 1;
        }
    }
    meter.finish();
}

/// As [`ping`], for futures.
pub(crate) async fn ping_async(
    job: Job,
    send: impl AsyncFn(u64),
    mut receive: impl AsyncFnMut() -> u64,
) {
    let mut meter = job.meter(ROUND_TRIPS_A_LAP);
    let mut number = 0;
    while meter.lap() {
        for _ in 0..ROUND_TRIPS_A_LAP {
            send(number).await;
            let answer = receive().await;
            assert_eq!(answer, number + 1, "the other task has added one");
            number = answer;
        }
    }
    meter.finish();
}

/// As [`pong`], for futures.
pub(crate) async fn pong_async(
    send: impl AsyncFn(u64),
    mut receive: impl AsyncFnMut() -> Option<u64>,
) {
    while let Some(number) = receive().await {
        send(number + 1).await;
    }
}

/// As [`consume`], for futures.
pub(crate) async fn consume_async(job: Job, mut receive: impl AsyncFnMut() -> u64) {
    let mut meter = job.meter(MESSAGES_A_LAP);
    let mut expected = 0;
    while meter.lap() {
        for _ in 0..MESSAGES_A_LAP {
            assert_eq!(receive().await, expected, "numbers come in order");
            expected += 1;
        }
    }
    meter.finish();
}
