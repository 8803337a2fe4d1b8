//! What one core has: its keys, its part of the log, and the channels whose names belong to it.

use crate::commands;
use crate::log::Log;
use crate::protocol::Parser;
use crate::reply::Reply;
use crate::store::Store;
use coring::RemoteError;
use coring::coro;
use coring::mailbox::{Lagging, Subscription, Topic, topic};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// All of them. A number, in effect: each core finds its own by it.
pub(crate) type Shards = coring::Sharded<Shard>;

/// A published message, as many subscribers share it.
pub(crate) type Message = Arc<[u8]>;

/// So many messages of one channel wait for a subscriber's core; a burst of more cuts the subscriber off.
const MESSAGES_WAITING: usize = 2048;
/// How often what has expired is looked for, and how much of it is removed before others have their turn.
const CLEAN_EVERY: Duration = Duration::from_millis(100);
const CLEAN_AT_ONCE: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Shard {
    pub(crate) store: RefCell<Store>,
    /// Set when what is in the log has been loaded.
    pub(crate) log: OnceCell<Log>,
    topics: RefCell<HashMap<Box<[u8]>, Topic<Message>>>,
    /// Whether the log is being replayed, during which nothing expires.
    pub(crate) loading: Cell<bool>,
    pub(crate) connections: Cell<usize>,
    pub(crate) commands: Cell<u64>,
}

/// Answers of a core that was sent requests.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) bytes: Vec<u8>,
    /// Where each of them ends.
    pub(crate) ends: Vec<usize>,
}

/// Another core could not do what it was asked to.
pub(crate) fn not_done(error: RemoteError) -> io::Error {
    io::Error::other(error.to_string())
}

impl Answers {
    pub(crate) fn get(&self, number: usize) -> &[u8] {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[number]]
    }
}

impl Shard {
    /// Looks at the clock: what is run from here on happens now.
    pub(crate) fn tell_time(&self) {
        if !self.loading.get() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now_ms = now.map_or(0, |now| now.as_millis().try_into().unwrap_or(u64::MAX));
            self.store.borrow_mut().now_ms = now_ms;
        }
    }

    /// Runs requests that another core has sent, all of them known there to be good.
    ///
    /// # Errors
    ///
    /// When the log cannot be written.
    pub(crate) fn serve(&self, requests: &[u8], resp3: bool) -> io::Result<Answers> {
        self.tell_time();
        let mut answers = Answers::default();
        {
            let mut store = self.store.borrow_mut();
            let (mut parser, mut rest) = (Parser::trusting(), requests);
            while let Some(length) = parser.parse(rest).map_err(io::Error::other)? {
                let request = parser.request(rest);
                let command = commands::find(request.get(0)).expect("the sender has found it");
                let out = &mut answers.bytes;
                (command.run)(&mut store, request, &mut Reply { out, resp3 });
                answers.ends.push(answers.bytes.len());
                rest = &rest[length..];
                parser.next();
            }
        }
        self.count(answers.ends.len());
        self.commit()?;
        Ok(answers)
    }

    pub(crate) fn count(&self, commands: usize) {
        self.commands.set(self.commands.get() + commands as u64);
    }

    /// Waits until everything that an answer may tell of is in the log, as safe as the policy promises.
    ///
    /// # Errors
    ///
    /// When the log cannot be written: then nothing may be answered.
    #[inline]
    pub(crate) fn commit(&self) -> io::Result<()> {
        match self.log.get() {
            None => Ok(()),
            Some(log) => {
                let appended = self.store.borrow().journal.appended;
                log.wait_for(appended)
            }
        }
    }

    /// Syncs what is still on its way to the log.
    ///
    /// # Errors
    ///
    /// When the log cannot be written.
    pub(crate) fn close(&self) -> io::Result<()> {
        let appended = self.store.borrow().journal.appended;
        self.log.get().map_or(Ok(()), |log| log.close(appended))
    }

    /// Sends a message to who subscribes to a channel of this core; to how many.
    pub(crate) fn publish(&self, channel: &[u8], message: &Message) -> usize {
        let topic = self.topics.borrow().get(channel).cloned();
        let published = topic.map(|topic| topic.publish(Arc::clone(message)));
        // It does not wait, so it cannot be refused.
        published.and_then(Result::ok).unwrap_or(0)
    }

    /// Subscribes to a channel of this core. The subscription may go to another.
    pub(crate) fn subscribe(&self, channel: &[u8]) -> Subscription<Message> {
        let mut topics = self.topics.borrow_mut();
        let topic = topics.entry(channel.into()).or_insert_with(topic);
        topic.subscribe(MESSAGES_WAITING, Lagging::Misses)
    }

    /// Removes what has expired, and channels that nobody listens to, until it is cancelled.
    pub(crate) fn clean(self: &Rc<Self>) {
        let mut ticks = coro::interval(CLEAN_EVERY);
        loop {
            ticks.tick();
            self.tell_time();
            while self.store.borrow_mut().expire_some(CLEAN_AT_ONCE) {
                coro::yield_now();
            }
            if let Some(log) = self.log.get() {
                log.wake();
            }
            let mut topics = self.topics.borrow_mut();
            topics.retain(|_, topic| topic.subscriber_count() > 0);
        }
    }
}
