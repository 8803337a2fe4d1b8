//! The commands on keys: a table, and a function for each.
//!
//! A function sees one core's keys. Which core that is, and how a command with keys on several cores is taken apart, is
//! route.rs's business. What a command changes it records in the journal in a form that gives the same result whenever it
//! is replayed: points in time instead of durations, and nothing when nothing changed.

use crate::protocol::{Request, integer};
use crate::reply::Reply;
use crate::store::{Entry, NEVER, Store, Value};
use std::collections::VecDeque;

/// What a command is about, which says where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// None: it is about the connection, and session.rs answers it.
    Session,
    /// The first argument is a key, or a channel.
    First,
    /// Each argument is one.
    Each(Fold),
    /// Each second argument is one, with its value behind it.
    Pairs,
    /// All keys there are.
    All(Fold),
}

/// How the answers of several cores become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fold {
    /// They are numbers; it is their sum.
    Sum,
    /// They are arrays of one; it is the array of all.
    Array,
    /// They are all the same.
    Same,
}

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// How many words it has, the name included; negative: at least so many.
    pub(crate) arity: i8,
    pub(crate) keys: Keys,
    pub(crate) writes: bool,
    pub(crate) run: fn(&mut Store, Request<'_>, &mut Reply<'_>),
}

const fn reads(
    name: &'static str,
    arity: i8,
    keys: Keys,
    run: fn(&mut Store, Request<'_>, &mut Reply<'_>),
) -> Command {
    Command {
        name,
        arity,
        keys,
        writes: false,
        run,
    }
}

const fn writes(
    name: &'static str,
    arity: i8,
    keys: Keys,
    run: fn(&mut Store, Request<'_>, &mut Reply<'_>),
) -> Command {
    Command {
        name,
        arity,
        keys,
        writes: true,
        run,
    }
}

const fn session(name: &'static str, arity: i8) -> Command {
    reads(name, arity, Keys::Session, |_, _, _| {
        unreachable!("session.rs answers it")
    })
}

/// The most frequent first: who looks for a name goes from the top.
pub(crate) static COMMANDS: [Command; 35] = [
    reads("get", 2, Keys::First, get),
    writes("set", -3, Keys::First, set),
    writes("incr", 2, Keys::First, |store, request, reply| {
        add(store, request, reply, 1)
    }),
    writes("lpush", -3, Keys::First, |store, request, reply| {
        push(store, request, reply, VecDeque::push_front)
    }),
    writes("rpush", -3, Keys::First, |store, request, reply| {
        push(store, request, reply, VecDeque::push_back)
    }),
    writes("lpop", -2, Keys::First, |store, request, reply| {
        pop(store, request, reply, VecDeque::pop_front)
    }),
    writes("rpop", -2, Keys::First, |store, request, reply| {
        pop(store, request, reply, VecDeque::pop_back)
    }),
    session("ping", -1),
    writes("mset", -3, Keys::Pairs, mset),
    reads("mget", -2, Keys::Each(Fold::Array), mget),
    writes("del", -2, Keys::Each(Fold::Sum), del),
    reads("exists", -2, Keys::Each(Fold::Sum), exists),
    writes("incrby", 3, Keys::First, |store, request, reply| {
        add_argument(store, request, reply, 1)
    }),
    writes("decr", 2, Keys::First, |store, request, reply| {
        add(store, request, reply, -1)
    }),
    writes("decrby", 3, Keys::First, |store, request, reply| {
        add_argument(store, request, reply, -1)
    }),
    writes("expire", -3, Keys::First, |store, request, reply| {
        expire(store, request, reply, 1000, true)
    }),
    writes("pexpire", -3, Keys::First, |store, request, reply| {
        expire(store, request, reply, 1, true)
    }),
    writes("pexpireat", -3, Keys::First, |store, request, reply| {
        expire(store, request, reply, 1, false)
    }),
    writes("persist", 2, Keys::First, persist),
    reads("ttl", 2, Keys::First, |store, request, reply| {
        time_to_live(store, request, reply, 1000)
    }),
    reads("pttl", 2, Keys::First, |store, request, reply| {
        time_to_live(store, request, reply, 1)
    }),
    reads("llen", 2, Keys::First, llen),
    reads("lrange", 4, Keys::First, lrange),
    reads("dbsize", 1, Keys::All(Fold::Sum), |store, _, reply| {
        reply.integer(store.len() as i64)
    }),
    writes("flushall", -1, Keys::All(Fold::Same), flushall),
    session("publish", 3),
    session("subscribe", -2),
    session("unsubscribe", -1),
    session("echo", 2),
    session("hello", -1),
    session("info", -1),
    session("command", -1),
    session("config", -2),
    session("select", 2),
    session("quit", -1),
];

/// The line of a command.
#[inline]
pub(crate) fn find(name: &[u8]) -> Option<&'static Command> {
    COMMANDS
        .iter()
        .find(|command| command.name.as_bytes().eq_ignore_ascii_case(name))
}

impl Command {
    /// Whether a request has as many words as it has to.
    pub(crate) fn takes(&self, words: usize) -> bool {
        let needed = usize::from(self.arity.unsigned_abs());
        let paired = self.keys != Keys::Pairs || words % 2 == 1;
        paired && (words == needed || (self.arity < 0 && words > needed))
    }
}

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
const NO_INTEGER: &str = "ERR value is not an integer or out of range";
const SYNTAX: &str = "ERR syntax error";

fn get(store: &mut Store, request: Request<'_>, reply: &mut Reply<'_>) {
    match store.get(request.get(1)).map(|entry| &entry.value) {
        None => reply.null(),
        Some(Value::Text(text)) => reply.bulk(text),
        Some(Value::List(_)) => reply.error(WRONG_TYPE),
    }
}

/// The options of SET.
#[derive(Default)]
struct SetOptions {
    only_if_there: bool,
    only_if_new: bool,
    get: bool,
    keep_ttl: bool,
    expires_ms: Option<u64>,
}

impl SetOptions {
    fn read(request: Request<'_>, now_ms: u64) -> Result<Self, &'static str> {
        let mut options = Self::default();
        let mut end: Option<(Vec<u8>, &[u8])> = None;
        let mut words = request.from(3);
        while let Some(word) = words.next() {
            let word = word.to_ascii_uppercase();
            match &*word {
                b"NX" if !options.only_if_there => options.only_if_new = true,
                b"XX" if !options.only_if_new => options.only_if_there = true,
                b"GET" => options.get = true,
                b"KEEPTTL" if end.is_none() => options.keep_ttl = true,
                b"EX" | b"PX" | b"EXAT" | b"PXAT"
                    if !options.keep_ttl
                        && end.as_ref().is_none_or(|(before, _)| *before == word) =>
                {
                    end = Some((word, words.next().ok_or(SYNTAX)?));
                }
                _ => return Err(SYNTAX),
            }
        }
        if let Some((word, time)) = end {
            let unit_ms = if word.starts_with(b"EX") { 1000 } else { 1 };
            let from_ms = if word.ends_with(b"AT") { 0 } else { now_ms };
            let time = integer(time).ok_or(NO_INTEGER)?;
            let at_ms = point_in_time(time, unit_ms, from_ms).filter(|_| time > 0);
            options.expires_ms = Some(at_ms.ok_or("ERR invalid expire time in 'set' command")?);
        }
        Ok(options)
    }
}

/// Milliseconds since 1970; what is before is 0.
fn point_in_time(time: i64, unit_ms: i64, from_ms: u64) -> Option<u64> {
    let from_ms = i64::try_from(from_ms).ok()?;
    let at_ms = time.checked_mul(unit_ms)?.checked_add(from_ms)?;
    Some(u64::try_from(at_ms).unwrap_or(0))
}

fn set(store: &mut Store, request: Request<'_>, reply: &mut Reply<'_>) {
    let (key, text) = (request.get(1), request.get(2));
    if request.len() == 3 {
        store.put_text(key, text);
        store.journal.record(request.from(0));
        return reply.ok();
    }
    let options = match SetOptions::read(request, store.now_ms) {
        Ok(options) => options,
        Err(error) => return reply.error(error),
    };
    let there = store.get(key);
    let (is_there, before_ms) = (
        there.is_some(),
        there.as_ref().map_or(NEVER, |entry| entry.expires_ms),
    );
    if options.get {
        match there.map(|entry| &entry.value) {
            None => reply.null(),
            Some(Value::Text(text)) => reply.bulk(text),
            Some(Value::List(_)) => return reply.error(WRONG_TYPE),
        }
    }
    if (options.only_if_new && is_there) || (options.only_if_there && !is_there) {
        if !options.get {
            reply.null();
        }
        return;
    }
    store.put_text(key, text);
    let expires_ms = match options.expires_ms {
        Some(at_ms) => at_ms,
        None if options.keep_ttl => before_ms,
        None => NEVER,
    };
    if expires_ms == NEVER {
        store.journal.record([b"SET", key, text].into_iter());
    } else {
        store.expire_at(key, expires_ms);
        let at = expires_ms.to_string();
        store
            .journal
            .record([b"SET", key, text, b"PXAT", at.as_bytes()].into_iter());
    }
    if !options.get {
        reply.ok();
    }
}

fn mset(store: &mut Store, request: Request<'_>, reply: &mut Reply<'_>) {
    let mut words = request.from(1);
    while let (Some(key), Some(text)) = (words.next(), words.next()) {
        store.put_text(key, text);
        // In pieces: each record of the log is about one key.
        store.journal.record([b"SET", key, text].into_iter());
    }
    reply.ok();
}

fn mget(store: &mut Store, request: Request<'_>, reply: &mut Reply<'_>) {
    reply.array(request.len() - 1);
    for key in request.from(1) {
        match store.get(key).map(|entry| &entry.value) {
            Some(Value::Text(text)) => reply.bulk(text),
            _ => reply.null(),
        }
    }
}

fn del(store: &mut Store, request: Request<'_>, reply: &mut Reply<'_>) {
    let mut removed = 0;
    for key in request.from(1) {
        if store.get(key).is_some() {
            store.remove(key);
            store.journal.record([b"DEL", key].into_iter());
            removed += 1;
        }
    }
    reply.integer(removed);
}

fn exists(store: &mut Store, request: Request<'_>, reply: &mut Reply<'_>) {
    let there = request.from(1).filter(|key| store.get(key).is_some());
    let there = there.count();
    reply.integer(there as i64);
}

fn add(store: &mut Store, request: Request<'_>, reply: &mut Reply<'_>, by: i64) {
    let key = request.get(1);
    let mut first = Vec::new();
    let (value, text) = match store.get(key).map(|entry| &mut entry.value) {
        None => (0, &mut first),
        Some(Value::List(_)) => return reply.error(WRONG_TYPE),
        Some(Value::Text(text)) => match integer(text) {
            Some(value) => (value, text),
            None => return reply.error(NO_INTEGER),
        },
    };
    let Some(sum) = value.checked_add(by) else {
        return reply.error("ERR increment or decrement would overflow");
    };
    text.clear();
    crate::protocol::decimal(sum, text);
    if !first.is_empty() {
        store.put(key, Value::Text(first));
    }
    let by = by.to_string();
    store
        .journal
        .record([b"INCRBY", key, by.as_bytes()].into_iter());
    reply.integer(sum);
}

fn add_argument(store: &mut Store, request: Request<'_>, reply: &mut Reply<'_>, sign: i64) {
    match integer(request.get(2)).map(|by| by.checked_mul(sign)) {
        Some(Some(by)) => add(store, request, reply, by),
        Some(None) => reply.error("ERR decrement would overflow"),
        None => reply.error(NO_INTEGER),
    }
}

fn expire(
    store: &mut Store,
    request: Request<'_>,
    reply: &mut Reply<'_>,
    unit_ms: i64,
    from_now: bool,
) {
    let key = request.get(1);
    if request.len() > 3 {
        let option = String::from_utf8_lossy(request.get(3));
        return reply.error(&format!("ERR Unsupported option {option}"));
    }
    let Some(time) = integer(request.get(2)) else {
        return reply.error(NO_INTEGER);
    };
    let from_ms = if from_now { store.now_ms } else { 0 };
    let Some(at_ms) = point_in_time(time, unit_ms, from_ms) else {
        let name = String::from_utf8_lossy(request.get(0)).to_lowercase();
        return reply.error(&format!("ERR invalid expire time in '{name}' command"));
    };
    if store.get(key).is_none() {
        return reply.integer(0);
    }
    if at_ms <= store.now_ms {
        store.remove(key);
        store.journal.record([b"DEL", key].into_iter());
    } else {
        store.expire_at(key, at_ms);
        let at = at_ms.to_string();
        store
            .journal
            .record([b"PEXPIREAT", key, at.as_bytes()].into_iter());
    }
    reply.integer(1);
}

fn persist(store: &mut Store, request: Request<'_>, reply: &mut Reply<'_>) {
    let key = request.get(1);
    let ends = store
        .get(key)
        .is_some_and(|entry| entry.expires_ms != NEVER);
    if ends {
        store.expire_at(key, NEVER);
        store.journal.record(request.from(0));
    }
    reply.integer(i64::from(ends));
}

fn time_to_live(store: &mut Store, request: Request<'_>, reply: &mut Reply<'_>, unit_ms: u64) {
    let now_ms = store.now_ms;
    reply.integer(match store.get(request.get(1)) {
        None => -2,
        Some(Entry {
            expires_ms: NEVER, ..
        }) => -1,
        Some(entry) => ((entry.expires_ms - now_ms + unit_ms / 2) / unit_ms).cast_signed(),
    });
}

type List = VecDeque<Box<[u8]>>;

fn push(
    store: &mut Store,
    request: Request<'_>,
    reply: &mut Reply<'_>,
    end: fn(&mut List, Box<[u8]>),
) {
    let key = request.get(1);
    let elements = request.from(2).map(Box::from);
    let length = match store.get(key).map(|entry| &mut entry.value) {
        Some(Value::Text(_)) => return reply.error(WRONG_TYPE),
        Some(Value::List(list)) => {
            elements.for_each(|element| end(list, element));
            list.len()
        }
        None => {
            let mut list = List::new();
            elements.for_each(|element| end(&mut list, element));
            let length = list.len();
            store.put(key, Value::List(list));
            length
        }
    };
    store.journal.record(request.from(0));
    reply.integer(length as i64);
}

fn pop(
    store: &mut Store,
    request: Request<'_>,
    reply: &mut Reply<'_>,
    end: fn(&mut List) -> Option<Box<[u8]>>,
) {
    if request.len() > 3 {
        let name = String::from_utf8_lossy(request.get(0)).to_lowercase();
        return reply.error(&wrong_arity(&name));
    }
    let counted = request.len() == 3;
    let count = if counted {
        match integer(request.get(2)).map(usize::try_from) {
            Some(Ok(count)) => count,
            _ => return reply.error("ERR value is out of range, must be positive"),
        }
    } else {
        1
    };
    let key = request.get(1);
    let list = match store.get(key).map(|entry| &mut entry.value) {
        None if counted => return reply.null_array(),
        None => return reply.null(),
        Some(Value::Text(_)) => return reply.error(WRONG_TYPE),
        Some(Value::List(list)) => list,
    };
    let count = count.min(list.len());
    if counted {
        reply.array(count);
    }
    for _ in 0..count {
        reply.bulk(&end(list).expect("there are as many"));
    }
    if list.is_empty() {
        store.remove(key);
    }
    if count > 0 {
        store.journal.record(request.from(0));
    }
}

fn llen(store: &mut Store, request: Request<'_>, reply: &mut Reply<'_>) {
    match store.get(request.get(1)).map(|entry| &entry.value) {
        None => reply.integer(0),
        Some(Value::Text(_)) => reply.error(WRONG_TYPE),
        Some(Value::List(list)) => reply.integer(list.len() as i64),
    }
}

fn lrange(store: &mut Store, request: Request<'_>, reply: &mut Reply<'_>) {
    let (Some(start), Some(end)) = (integer(request.get(2)), integer(request.get(3))) else {
        return reply.error(NO_INTEGER);
    };
    let list = match store.get(request.get(1)).map(|entry| &entry.value) {
        None => return reply.array(0),
        Some(Value::Text(_)) => return reply.error(WRONG_TYPE),
        Some(Value::List(list)) => list,
    };
    let length = list.len() as i64;
    // Negative: from the end. The end is included.
    let place = |number: i64| if number < 0 { number + length } else { number };
    let start = place(start).clamp(0, length);
    let end = place(end).saturating_add(1).clamp(start, length);
    let [start, end] = [start, end].map(|at| usize::try_from(at).expect("clamped to the list"));
    reply.array(end - start);
    list.range(start..end)
        .for_each(|element| reply.bulk(element));
}

fn flushall(store: &mut Store, request: Request<'_>, reply: &mut Reply<'_>) {
    let mut words = request.from(1);
    let known =
        |word: &[u8]| word.eq_ignore_ascii_case(b"async") || word.eq_ignore_ascii_case(b"sync");
    if words.len() > 1 || !words.all(known) {
        return reply.error(SYNTAX);
    }
    store.clear();
    reply.ok();
}

/// The answer to a command with too few or too many words.
pub(crate) fn wrong_arity(name: &str) -> String {
    format!("ERR wrong number of arguments for '{name}' command")
}

/// The answer to a command that there is not.
pub(crate) fn unknown(request: Request<'_>) -> String {
    // As Redis does: 128 characters of the name, and of all arguments together.
    let text = |word: &[u8], most: usize| {
        String::from_utf8_lossy(&word[..word.len().min(most)]).into_owned()
    };
    let mut arguments = String::new();
    for word in request.from(1) {
        if arguments.len() >= 128 {
            break;
        }
        arguments += &format!("'{}' ", text(word, 128 - arguments.len()));
    }
    let name = text(request.get(0), 128);
    format!("ERR unknown command '{name}', with args beginning with: {arguments}")
}
