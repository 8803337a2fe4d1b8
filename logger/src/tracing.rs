//! A layer for `tracing`: its events become lines, its spans become fields that follow the coroutine.
//!
//! ```text
//!   span request{id=7}          entered by coroutine 3        stack of 3: [request]
//!     event "accepted"          on coroutine 3                accepted id=7
//!     (coroutine 4 runs)        its stack is another          no fields of request
//!     event "done"              on coroutine 3 again          done id=7
//! ```
//!
//! `tracing`'s own idea of the current span is per thread, which coroutines that take turns on a thread would mix up. So the layer keeps
//! a stack per coroutine, by [`Hooks::context_id`](crate::Hooks), in a thread-local. Fields keep their types; `Debug` values are formatted
//! at the call.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

use ::tracing::field::{Field, Visit};
use ::tracing::span::{Attributes, Id, Record};
use ::tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::callsite::Interest;
use crate::encode::push;
use crate::facade::{self, Place};
use crate::state;

/// Sends the events of `tracing` to this logger. Each line has the fields of the spans that its coroutine has entered, or of the span that
/// is named as its `parent`, and of those that these were made in.
///
/// # Examples
/// ```
/// use coring_logger::{Logger, TracingLayer};
/// use tracing_subscriber::prelude::*;
///
/// let (builder, lines) = Logger::builder().pattern("{level} {message}{fields}").memory();
/// let logger = builder.start()?;
/// let subscriber = tracing_subscriber::registry().with(TracingLayer::new());
/// tracing::subscriber::with_default(subscriber, || {
///     let span = tracing::info_span!("request", id = 7);
///     let _entered = span.enter();
///     tracing::warn!(bytes = 512, "too large");
/// });
/// logger.shutdown();
/// assert_eq!(lines.text(), "WARN  too large id=7 bytes=512\n");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default, Clone, Copy)]
pub struct TracingLayer;

impl TracingLayer {
    /// A layer.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

/// Encoded fields of a span, kept in the registry's extensions.
struct SpanFields {
    values: Vec<u8>,
    /// The span that it was made in: the one that was named, or else the innermost of its coroutine. The registry would say that
    /// of whichever coroutine the thread has run last.
    parent: Option<Id>,
}

thread_local! {
    /// Spans that each coroutine of this thread has entered, innermost last.
    static ENTERED: RefCell<HashMap<u64, Vec<Id>>> = RefCell::new(HashMap::new());
}

/// The calling coroutine's stack of spans.
fn with_stack<T>(body: impl FnOnce(&mut Vec<Id>) -> T) -> Option<T> {
    let coroutine = state::hooks().context_id.ask();
    ENTERED
        .try_with(|entered| {
            let mut entered = entered.borrow_mut();
            let result = body(entered.entry(coroutine).or_default());
            if entered.get(&coroutine).is_some_and(Vec::is_empty) {
                entered.remove(&coroutine);
            }
            result
        })
        .ok()
}

fn level(metadata: &Metadata<'_>) -> log::Level {
    match *metadata.level() {
        ::tracing::Level::ERROR => log::Level::Error,
        ::tracing::Level::WARN => log::Level::Warn,
        ::tracing::Level::INFO => log::Level::Info,
        ::tracing::Level::DEBUG => log::Level::Debug,
        ::tracing::Level::TRACE => log::Level::Trace,
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for TracingLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let innermost = || with_stack(|stack| stack.last().cloned()).flatten();
        let parent = match attributes.is_contextual() {
            true => innermost(),
            false => attributes.parent().cloned(),
        };
        if let Some(span) = context.span(id) {
            let values = fields.values;
            span.extensions_mut().insert(SpanFields { values, parent });
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(span) = context.span(id)
            && let Some(known) = span.extensions_mut().get_mut::<SpanFields>()
        {
            known.values.extend_from_slice(&fields.values);
        }
    }

    fn on_enter(&self, id: &Id, _: Context<'_, S>) {
        with_stack(|stack| stack.push(id.clone()));
    }

    fn on_exit(&self, id: &Id, _: Context<'_, S>) {
        with_stack(|stack| {
            if let Some(index) = stack.iter().rposition(|entered| entered == id) {
                stack.remove(index);
            }
        });
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let level = level(metadata);
        let interest = state::interest_of(metadata.target(), level);
        if !state::is_running() || interest == Interest::Off {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let place = Place {
            target: metadata.target(),
            module: metadata.module_path().unwrap_or(""),
            file: metadata.file().unwrap_or(""),
            line: metadata.line().unwrap_or(0),
        };
        let mut values = place.encode(&fields.message);
        // Copied first: the registry is not to be asked while the stack is borrowed.
        let begin = match event.is_contextual() {
            true => with_stack(|stack| stack.clone()).unwrap_or_default(),
            false => event.parent().cloned().into_iter().collect(),
        };
        for id in with_parents(begin, &context) {
            if let Some(span) = context.span(&id)
                && let Some(known) = span.extensions().get::<SpanFields>()
            {
                values.extend_from_slice(&known.values);
            }
        }
        values.extend_from_slice(&fields.values);
        facade::emit(level, interest, &values);
    }
}

/// These spans and those they were made in, each once and behind its parent.
fn with_parents<S>(begin: Vec<Id>, context: &Context<'_, S>) -> Vec<Id>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let mut all = Vec::with_capacity(begin.len());
    for id in begin {
        let (behind, mut next) = (all.len(), Some(id));
        while let Some(id) = next.filter(|id| !all.contains(id)) {
            next = context.span(&id).and_then(|span| {
                let extensions = span.extensions();
                extensions.get::<SpanFields>()?.parent.clone()
            });
            all.insert(behind, id);
        }
    }
    all
}

/// Encodes fields by their types; the one called `message` becomes the line's message.
#[derive(Default)]
struct Fields {
    message: String,
    values: Vec<u8>,
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        push(&mut self.values, field.name());
        push(&mut self.values, value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        push(&mut self.values, field.name());
        push(&mut self.values, value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        push(&mut self.values, field.name());
        push(&mut self.values, value);
    }
    fn record_i128(&mut self, field: &Field, value: i128) {
        push(&mut self.values, field.name());
        push(&mut self.values, value);
    }
    fn record_u128(&mut self, field: &Field, value: u128) {
        push(&mut self.values, field.name());
        push(&mut self.values, value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        push(&mut self.values, field.name());
        push(&mut self.values, value);
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            push(&mut self.values, field.name());
            push(&mut self.values, value);
        }
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.record_str(field, &text);
    }
}
