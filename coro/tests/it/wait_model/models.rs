//! The models, each beside the real thing: who waits in line, and what an act does to them.

use super::End::{Closed, Done, Special, TimedOut};
use super::{End, Ends, Model, Real, all, end_of, end_of_receive};
use coring_coro as coro;
use coro::channel::{oneshot, watch};
use coro::sync::{Barrier, Condvar, Event, Gate, GateGuard, Mutex, Notify, Semaphore, WaitGroup};
use std::cell::{Cell, RefCell};
use std::time::Duration;

/// A model whose waiters are in a field.
macro_rules! waiting_in_line {
    () => {
        fn waiting(&mut self) -> &mut Vec<usize> {
            &mut self.waiting
        }
    };
}

#[derive(Default)]
pub(super) struct EventModel {
    pub(super) set: bool,
    pub(super) waiting: Vec<usize>,
}

impl Model for EventModel {
    waiting_in_line!();
    fn begin(&mut self, id: usize) -> Ends {
        self.waiting.push(id);
        if self.set {
            all(&mut self.waiting, Done)
        } else {
            Vec::new()
        }
    }
    fn act(&mut self, act: u8) -> Ends {
        self.set = act == 0;
        if self.set {
            all(&mut self.waiting, Done)
        } else {
            Vec::new()
        }
    }
}

impl Real for Event {
    fn wait(&self, _: usize, patience: Option<Duration>) -> End {
        match patience {
            None => {
                self.wait();
                Done
            }
            Some(limit) => end_of(self.wait_timeout(limit)),
        }
    }
    fn act(&self, act: u8) {
        if act == 0 { self.set() } else { self.reset() }
    }
}

#[derive(Default)]
pub(super) struct NotifyModel {
    pub(super) permit: bool,
    pub(super) waiting: Vec<usize>,
}

impl Model for NotifyModel {
    waiting_in_line!();
    fn begin(&mut self, id: usize) -> Ends {
        if std::mem::take(&mut self.permit) {
            return vec![(id, Done)];
        }
        self.waiting.push(id);
        Vec::new()
    }
    fn act(&mut self, act: u8) -> Ends {
        if act == 1 {
            return all(&mut self.waiting, Done);
        }
        if self.waiting.is_empty() {
            self.permit = true;
            return Vec::new();
        }
        vec![(self.waiting.remove(0), Done)]
    }
}

impl Real for Notify {
    fn wait(&self, _: usize, patience: Option<Duration>) -> End {
        match patience {
            None => {
                self.notified();
                Done
            }
            Some(limit) => end_of(self.notified_timeout(limit)),
        }
    }
    fn act(&self, act: u8) {
        if act == 1 {
            self.notify_waiters()
        } else {
            self.notify_one()
        }
    }
}

/// A mutex with its condition variable. Each waiter finds the mutex its own when it goes on.
#[derive(Default)]
pub(super) struct Condition {
    pub(super) mutex: Mutex<u32>,
    pub(super) changed: Condvar,
}

/// As a [`Notify`] that remembers nothing.
#[derive(Default)]
pub(super) struct CondvarModel {
    pub(super) waiting: Vec<usize>,
}

impl Model for CondvarModel {
    waiting_in_line!();
    fn begin(&mut self, id: usize) -> Ends {
        self.waiting.push(id);
        Vec::new()
    }
    fn act(&mut self, act: u8) -> Ends {
        let woken = if act == 1 {
            self.waiting.len()
        } else {
            self.waiting.len().min(1)
        };
        self.waiting.drain(..woken).map(|id| (id, Done)).collect()
    }
}

impl Real for Condition {
    fn wait(&self, _: usize, patience: Option<Duration>) -> End {
        let guard = self.mutex.lock();
        let (mut guard, timed_out) = match patience {
            None => (self.changed.wait(guard), false),
            Some(limit) => {
                let (guard, result) = self.changed.wait_timeout(guard, limit);
                (guard, result.timed_out())
            }
        };
        *guard += 1;
        assert!(self.mutex.try_lock().is_none(), "the mutex is locked again");
        if timed_out { TimedOut } else { Done }
    }
    fn act(&self, act: u8) {
        // Who was woken takes the mutex only after this; notifying is allowed with and without it.
        let _guard = if act == 2 {
            self.mutex.try_lock()
        } else {
            None
        };
        if act == 1 {
            self.changed.notify_all()
        } else {
            self.changed.notify_one()
        }
    }
}

pub(super) struct BarrierModel {
    pub(super) size: usize,
    pub(super) waiting: Vec<usize>,
}

impl Model for BarrierModel {
    waiting_in_line!();
    fn begin(&mut self, id: usize) -> Ends {
        if self.waiting.len() + 1 < self.size {
            self.waiting.push(id);
            return Vec::new();
        }
        let mut ends = all(&mut self.waiting, Done);
        ends.push((id, Special));
        ends
    }
    fn act(&mut self, _: u8) -> Ends {
        Vec::new()
    }
}

impl Real for Barrier {
    fn wait(&self, _: usize, patience: Option<Duration>) -> End {
        let passed = match patience {
            None => Ok(self.wait()),
            Some(limit) => self.wait_timeout(limit),
        };
        if passed.is_ok_and(|passed| passed.is_leader()) {
            return Special;
        }
        end_of(passed.map(|_| ()))
    }
    fn act(&self, _: u8) {}
}

#[derive(Default)]
pub(super) struct GroupModel {
    pub(super) count: usize,
    /// A gate lets nobody in once somebody has waited for it to be empty.
    pub(super) is_gate: bool,
    pub(super) closed: bool,
    pub(super) waiting: Vec<usize>,
}

impl Model for GroupModel {
    waiting_in_line!();
    fn begin(&mut self, id: usize) -> Ends {
        self.closed = self.is_gate;
        self.waiting.push(id);
        if self.count == 0 {
            all(&mut self.waiting, Done)
        } else {
            Vec::new()
        }
    }
    fn act(&mut self, act: u8) -> Ends {
        match act {
            0 if !self.closed => self.count += 1,
            1 if self.count > 0 => self.count -= 1,
            _ => return Vec::new(),
        }
        if self.count == 0 {
            all(&mut self.waiting, Done)
        } else {
            Vec::new()
        }
    }
}

impl Real for WaitGroup {
    fn wait(&self, _: usize, patience: Option<Duration>) -> End {
        match patience {
            None => {
                self.wait();
                Done
            }
            Some(limit) => end_of(self.wait_timeout(limit)),
        }
    }
    fn act(&self, act: u8) {
        match act {
            0 => self.add(1),
            1 if self.count() > 0 => self.done(),
            _ => {}
        }
    }
}

/// A gate with those inside it. The guards borrow from a gate that is never freed.
pub(super) struct Entered {
    pub(super) gate: &'static Gate,
    pub(super) inside: RefCell<Vec<GateGuard<'static>>>,
}

impl Real for Entered {
    fn wait(&self, _: usize, patience: Option<Duration>) -> End {
        match patience {
            None => {
                self.gate.close();
                Done
            }
            Some(limit) => end_of(self.gate.close_timeout(limit)),
        }
    }
    fn act(&self, act: u8) {
        match act {
            0 => self.inside.borrow_mut().extend(self.gate.enter()),
            1 => drop(self.inside.borrow_mut().pop()),
            _ => {}
        }
    }
}

#[derive(Default)]
pub(super) struct SemaphoreModel {
    pub(super) permits: usize,
    pub(super) waiting: Vec<usize>,
}

/// Permits that a waiter takes and keeps.
fn want(id: usize) -> usize {
    1 + id % 3
}

impl Model for SemaphoreModel {
    waiting_in_line!();
    fn begin(&mut self, id: usize) -> Ends {
        self.waiting.push(id);
        self.settle()
    }
    fn act(&mut self, act: u8) -> Ends {
        self.permits += usize::from(act);
        self.settle()
    }
    fn settle(&mut self) -> Ends {
        let mut ends = Vec::new();
        while let Some(first) = self.waiting.first().filter(|id| want(**id) <= self.permits) {
            self.permits -= want(*first);
            ends.push((self.waiting.remove(0), Done));
        }
        ends
    }
}

impl Real for Semaphore {
    fn wait(&self, id: usize, patience: Option<Duration>) -> End {
        let permit = match patience {
            None => Ok(self.acquire_many(want(id))),
            Some(limit) => self.acquire_many_timeout(want(id), limit),
        };
        end_of(permit.map(coro::sync::SemaphorePermit::forget))
    }
    fn act(&self, act: u8) {
        self.add_permits(usize::from(act));
    }
}

/// A oneshot whose receiver is shared: one gets the value, all others learn that there is none.
pub(super) struct Reply {
    pub(super) sender: Cell<Option<oneshot::Sender<u8>>>,
    pub(super) receiver: oneshot::Receiver<u8>,
}

#[derive(Default)]
pub(super) struct OneshotModel {
    pub(super) sent: bool,
    pub(super) closed: bool,
    pub(super) waiting: Vec<usize>,
}

impl OneshotModel {
    fn ends(&mut self) -> Ends {
        if !self.closed {
            return Vec::new();
        }
        let mut ends = all(&mut self.waiting, Closed);
        if let Some(first) = ends.first_mut().filter(|_| self.sent) {
            first.1 = Special;
            self.sent = false;
        }
        ends
    }
}

impl Model for OneshotModel {
    waiting_in_line!();
    fn begin(&mut self, id: usize) -> Ends {
        self.waiting.push(id);
        self.ends()
    }
    fn act(&mut self, act: u8) -> Ends {
        self.sent |= act == 0 && !self.closed;
        self.closed |= act < 2;
        self.ends()
    }
}

impl Real for Reply {
    fn wait(&self, _: usize, patience: Option<Duration>) -> End {
        let received = match patience {
            None => self.receiver.recv(),
            Some(limit) => self.receiver.recv_timeout(limit),
        };
        if received == Ok(7) {
            Special
        } else {
            end_of_receive(received.map(|_| ()))
        }
    }
    fn act(&self, act: u8) {
        if act == 2 {
            return;
        }
        let sender = self.sender.take();
        if act == 0 {
            sender
                .into_iter()
                .for_each(|sender| sender.send(7).unwrap());
        }
    }
}

/// A watch whose receiver is shared: a change counts for all who wait for one.
pub(super) struct Watched {
    pub(super) sender: RefCell<Option<watch::Sender<u64>>>,
    pub(super) receiver: watch::Receiver<u64>,
}

#[derive(Default)]
pub(super) struct WatchModel {
    pub(super) version: u64,
    pub(super) seen: u64,
    pub(super) closed: bool,
    pub(super) has_woken: bool,
    pub(super) waiting: Vec<usize>,
}

impl Model for WatchModel {
    waiting_in_line!();
    fn begin(&mut self, id: usize) -> Ends {
        if self.version == self.seen && !self.closed {
            self.waiting.push(id);
            return Vec::new();
        }
        let end = if self.version == self.seen {
            Closed
        } else {
            Done
        };
        self.seen = self.version;
        vec![(id, end)]
    }
    fn act(&mut self, act: u8) -> Ends {
        match act {
            0 if !self.closed => {
                self.version += 1;
                self.has_woken |= !self.waiting.is_empty();
                all(&mut self.waiting, Done)
            }
            1 => {
                self.closed = true;
                all(&mut self.waiting, Closed)
            }
            2 => {
                self.seen = self.version;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
    fn settle(&mut self) -> Ends {
        if std::mem::take(&mut self.has_woken) {
            self.seen = self.version;
        }
        Vec::new()
    }
}

impl Real for Watched {
    fn wait(&self, _: usize, patience: Option<Duration>) -> End {
        end_of_receive(match patience {
            None => self.receiver.changed(),
            Some(limit) => self.receiver.changed_timeout(limit),
        })
    }
    fn act(&self, act: u8) {
        match act {
            0 => {
                if let Some(sender) = &*self.sender.borrow() {
                    let next = *sender.borrow() + 1;
                    sender.send(next).unwrap();
                }
            }
            1 => drop(self.sender.take()),
            _ => drop(self.receiver.borrow()),
        }
    }
}
