//! A connection that subscribes: messages come whenever they come, and so do answers.
//!
//! ```text
//!   topic, on the core that owns the channel's name
//!      | mailbox
//!      v
//!   pump: a coroutine a channel --+
//!                                 +--> outbox --> writer: a coroutine, one write for all that is there
//!   answers to requests ----------+
//! ```
//!
//! A subscriber that is too slow is cut off, as Redis does: when its outbox is full, or when its core could not keep up
//! with a channel. It never holds up a publisher.

use crate::reply::Reply;
use crate::shard::Message;
use coring::coro::sync::Notify;
use coring::coro::{Builder, Scope, ScopedJoinHandle};
use coring::mailbox::Subscription;
use coring::net::TcpStream;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::Shutdown;
use std::rc::Rc;

/// What may wait for a subscriber to read.
const OUTBOX_BYTES: usize = 32 << 20;

struct Outbox<'env> {
    stream: &'env TcpStream,
    waiting: RefCell<Vec<u8>>,
    news: Notify,
    closing: Cell<bool>,
}

impl Outbox<'_> {
    fn push(&self, append: impl FnOnce(&mut Vec<u8>)) {
        let mut waiting = self.waiting.borrow_mut();
        append(&mut waiting);
        if waiting.len() > OUTBOX_BYTES {
            waiting.clear();
            self.cut_off();
        }
        self.news.notify_one();
    }

    /// Ends the connection: its session reads the end, or fails to write.
    fn cut_off(&self) {
        // One that has ended already needs no end.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn write_all(&self) {
        let mut sending = Vec::new();
        loop {
            std::mem::swap(&mut sending, &mut self.waiting.borrow_mut());
            if !sending.is_empty() {
                let mut stream = self.stream;
                if stream.write_all(&sending).is_err() {
                    return self.cut_off();
                }
                sending.clear();
            } else if self.closing.get() {
                return;
            } else {
                self.news.notified();
            }
        }
    }
}

/// The subscriptions of a connection.
pub(crate) struct Subscriber<'scope, 'env> {
    tasks: &'scope Scope<'scope, 'env>,
    outbox: Rc<Outbox<'env>>,
    writer: ScopedJoinHandle<'scope, ()>,
    pumps: HashMap<Box<[u8]>, ScopedJoinHandle<'scope, ()>>,
}

impl<'scope, 'env> Subscriber<'scope, 'env> {
    /// From here on everything is sent through the outbox.
    ///
    /// # Errors
    ///
    /// When there is no room for a coroutine.
    pub(crate) fn new(
        stream: &'env TcpStream,
        tasks: &'scope Scope<'scope, 'env>,
    ) -> io::Result<Self> {
        let outbox = Rc::new(Outbox {
            stream,
            waiting: RefCell::default(),
            news: Notify::new(),
            closing: Cell::new(false),
        });
        let writer = Rc::clone(&outbox);
        let writer = tasks.spawn_with(Builder::new().name("outbox"), move || writer.write_all());
        Ok(Self {
            tasks,
            outbox,
            writer: writer.map_err(io::Error::other)?,
            pumps: HashMap::new(),
        })
    }

    pub(crate) fn send(&self, answers: &[u8]) {
        self.outbox
            .push(|waiting| waiting.extend_from_slice(answers));
    }

    pub(crate) fn channels(&self) -> usize {
        self.pumps.len()
    }

    pub(crate) fn names(&self) -> Vec<Vec<u8>> {
        self.pumps.keys().map(|name| name.to_vec()).collect()
    }

    pub(crate) fn has(&self, channel: &[u8]) -> bool {
        self.pumps.contains_key(channel)
    }

    /// Says that the channel is subscribed to, and from here on passes its messages on. Takes no subscription for one
    /// that it has.
    ///
    /// # Errors
    ///
    /// When there is no room for a coroutine.
    pub(crate) fn add(
        &mut self,
        channel: &[u8],
        subscription: Option<Subscription<Message>>,
        reply: &mut Reply<'_>,
    ) -> io::Result<()> {
        let count = self.channels() + usize::from(subscription.is_some());
        reply.push(3);
        reply.bulk(b"subscribe");
        reply.bulk(channel);
        reply.integer(count as i64);
        // In the outbox before the first message.
        self.send(reply.out);
        reply.out.clear();
        if let Some(subscription) = subscription {
            let (outbox, resp3) = (Rc::clone(&self.outbox), reply.resp3);
            let name: Box<[u8]> = channel.into();
            let pump = Builder::new().name("subscription");
            let pump = self
                .tasks
                .spawn_with(pump, move || pass_on(&name, subscription, &outbox, resp3))
                .map_err(io::Error::other)?;
            self.pumps.insert(channel.into(), pump);
        }
        Ok(())
    }

    /// Ends the subscription; how many are left.
    pub(crate) fn remove(&mut self, channel: &[u8]) -> usize {
        if let Some(pump) = self.pumps.remove(channel) {
            pump.cancel();
        }
        self.channels()
    }

    /// Sends what waits, and ends.
    pub(crate) fn close(self) {
        self.outbox.closing.set(true);
        self.outbox.news.notify_one();
        // The writer's only way to fail is the connection, which has ended then.
        let _ = self.writer.join();
    }
}

fn pass_on(
    channel: &[u8],
    mut subscription: Subscription<Message>,
    outbox: &Outbox<'_>,
    resp3: bool,
) {
    while let Ok(message) = subscription.recv() {
        outbox.push(|out| {
            let mut reply = Reply { out, resp3 };
            reply.push(3);
            reply.bulk(b"message");
            reply.bulk(channel);
            reply.bulk(&message);
        });
        if subscription.missed() > 0 {
            return outbox.cut_off();
        }
    }
}
