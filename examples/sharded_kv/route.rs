//! From requests to the cores that own their keys, and from their answers to one reply in the order of the requests.
//!
//! ```text
//!   requests of one connection      here (core 0)                        core 1
//!   GET a        (core 0) --------> run at once
//!   SET b 1      (core 1) --------> into the parcel for core 1 --+
//!   MGET a b     (both)   --------> MGET a: run; MGET b ---------+-----> run in this order
//!                                   plan: [here] [1] [fold 2: [here] [1]]      |
//!   reply <------ the plan, filled with what is here and what came <-----------+
//! ```
//!
//! A parcel is one message to a core, however many requests are in it, and holds them as a client would send them. All
//! cores work on theirs at the same time. What one connection asks about one key happens in its order; between keys of
//! different cores there is no order, and a command that was taken apart is not atomic.

use crate::commands::{Command, Fold, Keys};
use crate::protocol::{Request, decimal, encode, integer};
use crate::reply::Reply;
use crate::shard::{Answers, Shard, Shards, not_done};
use std::io;
use std::rc::Rc;

/// The core that a key belongs to: always the same for a number of cores.
#[inline]
pub(crate) fn owner(key: &[u8], cores: usize) -> usize {
    if cores == 1 {
        return 0;
    }
    // FNV-1a, folded: short keys, no attacker who would gain more than an uneven load.
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let core = (hash ^ (hash >> 32)) % cores as u64;
    usize::try_from(core).expect("less than the number of cores")
}

/// Where the next answer of the reply comes from.
#[derive(Debug)]
enum Step {
    /// What was answered here, up to this place.
    Here(usize),
    /// The next answer of a core.
    There(usize),
    /// So many of the next steps, made one answer.
    Fold(Fold, usize),
}

/// Requests on their way to their cores.
#[derive(Debug)]
pub(crate) struct Batch {
    shards: Shards,
    pub(crate) shard: Rc<Shard>,
    core: usize,
    /// What is answered already; all of the reply, while the plan is empty.
    pub(crate) out: Vec<u8>,
    pub(crate) resp3: bool,
    plan: Vec<Step>,
    parcels: Vec<Vec<u8>>,
    /// Requests since the last [`finish`](Self::finish).
    pub(crate) requests: usize,
}

impl Batch {
    pub(crate) fn new(shards: &Shards) -> Self {
        Self {
            shard: shards.local(),
            shards: shards.clone(),
            core: coring::current_core().expect("connections are served on a core"),
            out: Vec::new(),
            resp3: false,
            plan: Vec::new(),
            parcels: vec![Vec::new(); coring::cores()],
            requests: 0,
        }
    }

    /// What is appended here is answered next. Only while nothing is [away](Self::is_away).
    pub(crate) fn reply(&mut self) -> Reply<'_> {
        Reply {
            out: &mut self.out,
            resp3: self.resp3,
        }
    }

    /// Whether requests have still to be sent to other cores.
    pub(crate) fn is_away(&self) -> bool {
        !self.plan.is_empty()
    }

    /// Takes a request with as many words as it has to have.
    #[inline]
    pub(crate) fn add(&mut self, command: &Command, request: Request<'_>) {
        self.requests += 1;
        let cores = self.parcels.len();
        let first = owner(request.get(1.min(request.len() - 1)), cores);
        let whole = match command.keys {
            Keys::First => true,
            _ if cores == 1 => true,
            Keys::Each(_) => request.from(1).all(|key| owner(key, cores) == first),
            Keys::Pairs => request
                .from(1)
                .step_by(2)
                .all(|key| owner(key, cores) == first),
            Keys::All(_) | Keys::Session => false,
        };
        if !whole {
            self.add_parts(command, request);
        } else if first == self.core {
            self.run(command, request);
        } else {
            self.mark();
            encode(request.from(0), &mut self.parcels[first]);
            self.plan.push(Step::There(first));
        }
    }

    #[inline]
    fn run(&mut self, command: &Command, request: Request<'_>) {
        let mut store = self.shard.store.borrow_mut();
        let (out, resp3) = (&mut self.out, self.resp3);
        (command.run)(&mut store, request, &mut Reply { out, resp3 });
    }

    /// Notes in the plan what was answered here since the last step.
    fn mark(&mut self) {
        self.plan.push(Step::Here(self.out.len()));
    }

    /// A command about keys of several cores: the same command for each key alone, or for each core.
    fn add_parts(&mut self, command: &Command, request: Request<'_>) {
        let cores = self.parcels.len();
        let (name, words) = (request.get(0), request.len());
        self.mark();
        match command.keys {
            Keys::All(fold) => {
                self.plan.push(Step::Fold(fold, cores));
                for core in 0..cores {
                    let all: Vec<&[u8]> = request.from(0).collect();
                    self.add_part(command, core, &all);
                }
            }
            Keys::Each(fold) => {
                self.plan.push(Step::Fold(fold, words - 1));
                for key in request.from(1) {
                    self.add_part(command, owner(key, cores), &[name, key]);
                }
            }
            Keys::Pairs => {
                self.plan.push(Step::Fold(Fold::Same, (words - 1) / 2));
                for number in (1..words).step_by(2) {
                    let (key, value) = (request.get(number), request.get(number + 1));
                    self.add_part(command, owner(key, cores), &[name, key, value]);
                }
            }
            Keys::First | Keys::Session => unreachable!("they are never taken apart"),
        }
    }

    fn add_part(&mut self, command: &Command, core: usize, words: &[&[u8]]) {
        if core == self.core {
            let mut text = Vec::new();
            let places: Vec<_> = words
                .iter()
                .map(|word| {
                    text.extend_from_slice(word);
                    (text.len() - word.len(), text.len())
                })
                .collect();
            self.run(command, Request::new(&text, &places));
            self.plan.push(Step::Here(self.out.len()));
        } else {
            encode(words.iter().copied(), &mut self.parcels[core]);
            self.plan.push(Step::There(core));
        }
    }

    /// Sends the parcels, waits for the answers and for the log, and leaves the reply in `out`.
    ///
    /// # Errors
    ///
    /// When a log cannot be written, or a core has stopped: nothing may be said to the client then.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        let requests = std::mem::take(&mut self.requests);
        if self.plan.is_empty() {
            self.shard.count(requests);
            return self.shard.commit();
        }
        self.mark();
        let resp3 = self.resp3;
        let mut away: Vec<_> = (0..)
            .zip(&mut self.parcels)
            .map(|(core, parcel)| {
                if parcel.is_empty() {
                    return None;
                }
                let (shards, parcel) = (self.shards.clone(), std::mem::take(parcel));
                let there = move || shards.local().serve(&parcel, resp3);
                Some(coring::spawn_on(core, there))
            })
            .collect();
        let committed = self.shard.commit();
        let mut answers = Vec::with_capacity(away.len());
        for handle in away.drain(..) {
            let came = handle.map(|handle| handle.join().map_err(not_done));
            answers.push(came.transpose()?.transpose()?.unwrap_or_default());
        }
        committed?;
        let sent: usize = answers.iter().map(|from| from.ends.len()).sum();
        self.shard.count(requests.saturating_sub(sent));
        self.fill(&answers);
        Ok(())
    }

    /// Makes the reply: the plan, step by step.
    fn fill(&mut self, answers: &[Answers]) {
        let here = std::mem::take(&mut self.out);
        let (mut used, mut used_of) = (0, vec![0; answers.len()]);
        let mut next = |step| match step {
            Step::Here(end) => &here[std::mem::replace(&mut used, end)..end],
            Step::There(core) => {
                used_of[core] += 1;
                answers[core].get(used_of[core] - 1)
            }
            Step::Fold(..) => unreachable!("what is folded is not folded again"),
        };
        let mut steps = self.plan.drain(..);
        while let Some(step) = steps.next() {
            match step {
                Step::Fold(fold, parts) => {
                    let parts = steps.by_ref().take(parts).map(&mut next);
                    fold_into(fold, parts, &mut self.out);
                }
                step => self.out.extend_from_slice(next(step)),
            }
        }
    }
}

fn fold_into<'a>(fold: Fold, parts: impl ExactSizeIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    match fold {
        Fold::Same => out.extend_from_slice(parts.last().unwrap_or_default()),
        Fold::Sum => {
            let numbers =
                parts.filter_map(|part| integer(part.strip_prefix(b":")?.strip_suffix(b"\r\n")?));
            let sum = numbers.sum();
            out.push(b':');
            decimal(sum, out);
            out.extend_from_slice(b"\r\n");
        }
        Fold::Array => {
            out.push(b'*');
            decimal(parts.len() as i64, out);
            out.extend_from_slice(b"\r\n");
            for part in parts {
                out.extend_from_slice(part.strip_prefix(b"*1\r\n").unwrap_or(part));
            }
        }
    }
}
