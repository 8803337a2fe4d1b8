//! Completions that fill several buffers, and buffers that are filled by several completions.

use super::multishot::{next, submit_multishot};
use super::*;
use crate::{BufferRing, Carries, PooledBuffer};

/// Receives all of `sent` through `receive`, submitted again whenever it has ended, while up to `hold` guards are kept.
/// How many completions ended for want of buffers.
fn receive_all(
    ring: &mut Ring,
    buffers: &BufferRing,
    sent: &[u8],
    hold: usize,
    receive: fn(i32, u16, i32) -> Sqe,
) -> u32 {
    let (reader, mut writer) = UnixStream::pair().unwrap();
    let bytes = sent.to_vec();
    let sender = thread::spawn(move || {
        for (number, chunk) in bytes.chunks(700).enumerate() {
            writer.write_all(chunk).unwrap();
            if number % 5 == 0 {
                thread::yield_now();
            }
        }
    });
    let group = buffers.group().unwrap();
    let begin = |ring: &mut Ring| {
        let sqe = receive(reader.as_raw_fd(), group, 0);
        submit_multishot(ring, sqe, Carries::Buffers(buffers.clone()))
    };
    let (mut received, mut held, mut exhausted) = (Vec::new(), Vec::<PooledBuffer>::new(), 0);
    let mut op = begin(ring);
    loop {
        let event = next(ring, op);
        match event.completion.result {
            0 => break,
            result if result == -libc::ENOBUFS => {
                exhausted += 1;
                held.clear();
                assert!(buffers.available() > 0);
            }
            result => {
                let buffer = event.buffer.as_ref().expect("bytes come in a buffer");
                assert_eq!(buffer.len(), usize::try_from(result).unwrap());
                received.extend_from_slice(buffer);
            }
        }
        if !event.more() {
            op = begin(ring);
        }
        held.extend(event.buffer);
        if held.len() > hold {
            // From the middle: buffers come back in any order.
            held.remove(hold / 2);
        }
    }
    sender.join().unwrap();
    assert!(received == sent, "the stream as it was sent");
    drop(held);
    assert_eq!(buffers.available(), buffers.stats().count);
    exhausted
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 13 & 0xff).unwrap())
        .collect()
}

#[test]
fn a_bundle_is_given_out_buffer_by_buffer() {
    let mut ring = ring();
    if !ring.capabilities().has(Feature::RecvBundle) {
        println!("skipped: the kernel has no bundles");
        return;
    }
    let buffers = ring.provide_buffers(16, 64).unwrap();
    let sent = pattern(300_000);
    let exhausted = receive_all(
        &mut ring,
        &buffers,
        &sent,
        9,
        op::net::recv_multishot_bundle,
    );
    println!("{exhausted} times without a buffer");
    // A bundle is one completion of the kernel: fewer than there are buffers full.
    let reaped = ring.stats().reaped;
    assert!(
        reaped < 300_000 / 64,
        "{reaped} completions: none was a bundle"
    );
}

#[test]
fn an_incremental_buffer_is_filled_by_many_completions() {
    let mut ring = ring();
    if !ring.capabilities().has(Feature::IncrementalBuffers) {
        println!("skipped: the kernel has no incremental buffers");
        return;
    }
    let buffers = ring.provide_incremental_buffers(4, 4096).unwrap();
    assert!(buffers.is_incremental());
    // Twice: the end of the first stream leaves a buffer in the middle, and says nothing about that.
    for _ in 0..2 {
        let sent = pattern(300_000);
        receive_all(&mut ring, &buffers, &sent, 7, op::net::recv_multishot);
    }
    // Messages much shorter than a buffer share it.
    let (reader, mut writer) = UnixStream::pair().unwrap();
    let sqe = op::net::recv_multishot(reader.as_raw_fd(), buffers.group().unwrap(), 0);
    let op = submit_multishot(&mut ring, sqe, Carries::Buffers(buffers.clone()));
    let mut messages = Vec::new();
    for number in 0..32u32 {
        writer.write_all(&number.to_ne_bytes()).unwrap();
        messages.push(next(&mut ring, op).buffer.unwrap());
    }
    assert!(buffers.available() >= 3, "32 messages lie in two buffers");
    for (number, message) in messages.iter().enumerate() {
        assert_eq!(&message[..], u32::try_from(number).unwrap().to_ne_bytes());
    }
    // What comes for nobody goes back, too.
    writer.write_all(&[7; 5000]).unwrap();
    ring.abandon(op);
    drain(&mut ring);
    drop(messages);
    assert_eq!(buffers.available(), 4);
}

#[test]
fn many_streams_share_incremental_buffers() {
    // Goal: the order of completions is the order of the bytes in a buffer, whoever they are for.
    let mut ring = ring();
    if !ring.capabilities().has(Feature::IncrementalBuffers) {
        println!("skipped: the kernel has no incremental buffers");
        return;
    }
    let buffers = ring.provide_incremental_buffers(8, 1000).unwrap();
    let mut streams: Vec<_> = (0..16u8)
        .map(|_| {
            let (reader, writer) = UnixStream::pair().unwrap();
            let sqe = op::net::recv_multishot(reader.as_raw_fd(), buffers.group().unwrap(), 0);
            let op = submit_multishot(&mut ring, sqe, Carries::Buffers(buffers.clone()));
            (reader, writer, op, 0u32)
        })
        .collect();
    for round in 0..2_000usize {
        let count = 1 + round % streams.len();
        for (place, (_, writer, ..)) in streams[..count].iter_mut().enumerate() {
            let message = vec![u8::try_from(place).unwrap(); 1 + (round + place) % 37];
            writer.write_all(&message).unwrap();
        }
        for (place, (reader, _, op, _)) in streams[..count].iter_mut().enumerate() {
            let mut bytes = 1 + (round + place) % 37;
            while bytes > 0 {
                let event = next(&mut ring, *op);
                if !event.more() {
                    let group = buffers.group().unwrap();
                    let sqe = op::net::recv_multishot(reader.as_raw_fd(), group, 0);
                    *op = submit_multishot(&mut ring, sqe, Carries::Buffers(buffers.clone()));
                }
                let buffer = event
                    .buffer
                    .unwrap_or_else(|| panic!("{:?}", event.completion));
                assert!(buffer.iter().all(|byte| usize::from(*byte) == place));
                bytes -= buffer.len();
            }
        }
    }
    for (_, _, op, _) in &streams {
        ring.abandon(*op);
    }
    drain(&mut ring);
    assert_eq!(buffers.available(), 8);
}

#[test]
fn without_the_feature_incremental_buffers_are_refused() {
    let mut ring = open(8, 16, Features::ALL.without(Feature::IncrementalBuffers));
    let refused = ring.provide_incremental_buffers(2, 64).unwrap_err();
    assert!(refused.to_string().contains("incremental-buffers"));
}
