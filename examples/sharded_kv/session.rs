//! One connection: requests in, answers out, in their order.
//!
//! ```text
//!   read -> parser -> batch: all requests that have come -> finish (other cores, log) -> one write
//! ```
//!
//! What one connection can make us hold: its input, which grows to one request of the longest kind; the answers of one
//! batch; and, for a subscriber, what waits in its outbox (subscriber.rs). A client that does not read its answers is
//! not read from either, and is given up after a while.

use crate::commands::{self, Command, Keys};
use crate::info;
use crate::input::Input;
use crate::protocol::{Request, integer};
use crate::reply::Reply;
use crate::route::{Batch, owner};
use crate::shard::{Message, Shards, not_done};
use crate::subscriber::Subscriber;
use coring::coro::{self, Scope};
use coring::net::TcpStream;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

/// A batch is answered when it has so many requests, or so many bytes of answers.
const BATCH_REQUESTS: usize = 256;
const BATCH_BYTES: usize = 1 << 20;
/// A client that takes nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a client gets to read why it is hung up on.
const LINGER: Duration = Duration::from_secs(1);

/// Serves a connection to its end.
///
/// # Errors
///
/// The stream's; and when a request could not be logged.
pub(crate) fn serve(stream: &TcpStream, shards: &Shards) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let connections = &shards.local();
    connections
        .connections
        .set(connections.connections.get() + 1);
    let outcome = coro::scope(|tasks| {
        let mut session = Session {
            stream,
            shards,
            tasks,
            batch: Batch::new(shards),
            subscriber: None,
        };
        let outcome = session.run();
        if let Some(subscriber) = session.subscriber.take() {
            subscriber.close();
        }
        tasks.cancel();
        outcome
    });
    connections
        .connections
        .set(connections.connections.get() - 1);
    outcome
}

struct Session<'scope, 'env> {
    stream: &'env TcpStream,
    shards: &'env Shards,
    tasks: &'scope Scope<'scope, 'env>,
    batch: Batch,
    subscriber: Option<Subscriber<'scope, 'env>>,
}

/// Whether to go on with a connection.
#[derive(PartialEq, Eq)]
enum Then {
    GoOn,
    Close,
}

impl<'scope, 'env> Session<'scope, 'env> {
    fn run(&mut self) -> io::Result<()> {
        let mut input = Input::new();
        // Only the read is interrupted when the server ends: what has come is answered.
        while input.read(self.stream)? {
            if coro::shield(|| self.answer(&mut input))? == Then::Close {
                return self.hang_up();
            }
        }
        Ok(())
    }

    /// Answers all requests that are here.
    fn answer(&mut self, input: &mut Input) -> io::Result<Then> {
        self.batch.shard.tell_time();
        let mut then = Then::GoOn;
        while then == Then::GoOn {
            match input.next() {
                Ok(Some(request)) => then = self.dispatch(request)?,
                Ok(None) => break,
                Err(error) => {
                    // What came before is answered first.
                    self.batch.finish()?;
                    self.batch.reply().error(&format!("ERR {error}"));
                    then = Then::Close;
                }
            }
            if self.batch.requests >= BATCH_REQUESTS || self.batch.out.len() >= BATCH_BYTES {
                self.send()?;
            }
        }
        self.send()?;
        Ok(then)
    }

    #[inline]
    fn dispatch(&mut self, request: Request<'_>) -> io::Result<Then> {
        if request.len() == 0 {
            return Ok(Then::GoOn);
        }
        let found = commands::find(request.get(0));
        if let Some(command) = found
            && command.keys != Keys::Session
            && self.subscriber.is_none()
            && command.takes(request.len())
        {
            self.batch.add(command, request);
            return Ok(Then::GoOn);
        }
        self.dispatch_slowly(found, request)
    }

    /// Everything but a command on keys of a usual connection.
    fn dispatch_slowly(
        &mut self,
        found: Option<&Command>,
        request: Request<'_>,
    ) -> io::Result<Then> {
        if self.batch.is_away() {
            // The answer goes behind those that are still to come.
            self.batch.finish()?;
        }
        self.batch.requests += 1;
        let Some(command) = found else {
            if is_http(request.get(0)) {
                return Ok(Then::Close);
            }
            self.batch.reply().error(&commands::unknown(request));
            return Ok(Then::GoOn);
        };
        if !command.takes(request.len()) {
            let refusal = commands::wrong_arity(command.name);
            self.batch.reply().error(&refusal);
            return Ok(Then::GoOn);
        }
        if self.hears_only_messages() && !can_be_said_meanwhile(command.name) {
            let refusal = format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
                 this context",
                command.name
            );
            self.batch.reply().error(&refusal);
            return Ok(Then::GoOn);
        }
        if command.keys != Keys::Session {
            self.batch.add(command, request);
            return Ok(Then::GoOn);
        }
        match command.name {
            "subscribe" => self.subscribe(request)?,
            "unsubscribe" => self.unsubscribe(request),
            "publish" => self.publish(request)?,
            "ping" => self.ping(request),
            "info" => {
                let text = info::info(self.shards).map_err(not_done)?;
                self.batch.reply().bulk(text.as_bytes());
            }
            "config" => {
                let log = self.batch.shard.log.get().map(crate::log::Log::policy);
                info::config(request, log, &mut self.batch.reply());
            }
            "command" => info::command(request, &mut self.batch.reply()),
            "hello" => self.hello(request),
            "echo" => self.batch.reply().bulk(request.get(1)),
            "select" => match integer(request.get(1)) {
                Some(0) => self.batch.reply().ok(),
                Some(_) => self.batch.reply().error("ERR DB index is out of range"),
                None => self
                    .batch
                    .reply()
                    .error("ERR value is not an integer or out of range"),
            },
            "quit" => {
                self.batch.reply().ok();
                return Ok(Then::Close);
            }
            name => unreachable!("{name} is in the table, and must be here"),
        }
        Ok(Then::GoOn)
    }

    /// Finishes the batch and sends what is answered.
    fn send(&mut self) -> io::Result<()> {
        self.batch.finish()?;
        let out = &mut self.batch.out;
        if out.is_empty() {
            return Ok(());
        }
        match &self.subscriber {
            Some(subscriber) => subscriber.send(out),
            None => self.stream.write_all(out)?,
        }
        out.clear();
        out.shrink_to(BATCH_BYTES);
        Ok(())
    }

    /// Ends the connection so that the client can read the last answer: closed with bytes unread, it would be reset.
    fn hang_up(&mut self) -> io::Result<()> {
        if let Some(subscriber) = self.subscriber.take() {
            subscriber.close();
        }
        self.stream.shutdown(Shutdown::Write)?;
        let rest = coro::timeout(LINGER, || {
            let mut scrap = [0; 4096];
            while self.stream.read(&mut scrap).is_ok_and(|came| came > 0) {}
        });
        rest.map_err(io::Error::other)
    }

    fn hears_only_messages(&self) -> bool {
        !self.batch.resp3 && self.subscriber.as_ref().is_some_and(|it| it.channels() > 0)
    }

    fn ping(&mut self, request: Request<'_>) {
        let only_messages = self.hears_only_messages();
        let mut reply = self.batch.reply();
        match request.len() {
            3.. => reply.error(&commands::wrong_arity("ping")),
            words if only_messages => {
                reply.array(2);
                reply.bulk(b"pong");
                reply.bulk(if words == 2 { request.get(1) } else { b"" });
            }
            2 => reply.bulk(request.get(1)),
            _ => reply.simple("PONG"),
        }
    }

    fn subscribe(&mut self, request: Request<'_>) -> io::Result<()> {
        let cores = coring::cores();
        // What is answered goes out before messages can.
        self.send()?;
        if self.subscriber.is_none() {
            self.subscriber = Some(Subscriber::new(self.stream, self.tasks)?);
        }
        for channel in request.from(1) {
            let name = channel.to_vec();
            let subscriber = self.subscriber.as_mut().expect("made above");
            let subscription = if subscriber.has(channel) {
                None
            } else {
                let subscribed = self
                    .shards
                    .on(owner(channel, cores), move |shard| shard.subscribe(&name));
                Some(subscribed.map_err(not_done)?)
            };
            let (out, resp3) = (&mut self.batch.out, self.batch.resp3);
            subscriber.add(channel, subscription, &mut Reply { out, resp3 })?;
        }
        Ok(())
    }

    fn unsubscribe(&mut self, request: Request<'_>) {
        let (out, resp3) = (&mut self.batch.out, self.batch.resp3);
        let mut reply = Reply { out, resp3 };
        let mut channels: Vec<_> = request.from(1).map(<[u8]>::to_vec).collect();
        if let (Some(subscriber), true) = (&self.subscriber, channels.is_empty()) {
            channels = subscriber.names();
        }
        if channels.is_empty() {
            reply.push(3);
            reply.bulk(b"unsubscribe");
            reply.null();
            reply.integer(0);
        }
        for channel in channels {
            let left = self.subscriber.as_mut().map_or(0, |it| it.remove(&channel));
            reply.push(3);
            reply.bulk(b"unsubscribe");
            reply.bulk(&channel);
            reply.integer(left as i64);
        }
    }

    fn publish(&mut self, request: Request<'_>) -> io::Result<()> {
        let (channel, message) = (request.get(1).to_vec(), Message::from(request.get(2)));
        let core = owner(&channel, coring::cores());
        let reached = self
            .shards
            .on(core, move |shard| shard.publish(&channel, &message));
        let reached = reached.map_err(not_done)?;
        self.batch.reply().integer(reached as i64);
        Ok(())
    }

    fn hello(&mut self, request: Request<'_>) {
        let version = (request.len() > 1).then(|| integer(request.get(1)));
        let words = request.from(2).map(<[u8]>::to_ascii_lowercase);
        let options: Vec<_> = words.collect();
        let resp3 = match (version, &options[..]) {
            (None, _) => self.batch.resp3,
            (Some(Some(version @ 2..=3)), [] | [_, _]) => {
                if options.first().is_some_and(|option| option != b"setname") {
                    let option = String::from_utf8_lossy(request.get(2)).into_owned();
                    let refusal = format!("ERR Syntax error in HELLO option '{option}'");
                    return self.batch.reply().error(&refusal);
                }
                version == 3
            }
            (Some(Some(2..=3)), _) => {
                return self.batch.reply().error("ERR Syntax error in HELLO");
            }
            (Some(None), _) => {
                let refusal = "ERR Protocol version is not an integer or out of range";
                return self.batch.reply().error(refusal);
            }
            _ => {
                let refusal = "NOPROTO unsupported protocol version";
                return self.batch.reply().error(refusal);
            }
        };
        self.batch.resp3 = resp3;
        info::hello(&mut self.batch.reply());
    }
}

/// A page in somebody's browser can make it send us HTTP, whose body may look like commands: nothing of it is read.
fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

fn can_be_said_meanwhile(name: &str) -> bool {
    ["subscribe", "unsubscribe", "ping", "quit"].contains(&name)
}
