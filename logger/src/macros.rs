//! The macros: what a log statement expands to.
//!
//! ```text
//!   info!(user = id; "took {:.1} ms", ms)
//!
//!   static SITE: Callsite = Callsite::new(Level::Info, .., "took {:.1} ms", &["user"]);
//!   if const { Level::Info <= STATIC_MAX_LEVEL } && SITE.gate() != 0 {  // one load, one branch
//!       match (&ms,) { (a,) =>                                      // every argument evaluated once
//!           if FORMAT_CAN_WAIT && all arguments are Loggable {      // decided at compile time
//!               write(id, (view of a, (view of id, ())))            // raw bytes; the drain formats
//!           } else {
//!               write_text(id, format_args!("took {:.1} ms", a))    // formatted here
//!           }
//!       }
//!   }
//! ```
//!
//! Whether an argument is [`Loggable`](crate::Loggable) is asked by method lookup on [`Probe`](crate::__private::Probe): the
//! method of `Probe` itself (for loggable types) is found before that of `&Probe` (for all types).

/// Logs a line at a level given as the first argument; the other macros are this one with the level filled in.
///
/// `log!(level, [target: "...",] [key = value, ...;] "format", arguments...)`
///
/// - The format string is that of [`std::format!`], checked at compile time. Arguments of [`Loggable`](crate::Loggable) types are
///   copied raw and formatted later, by the drain. If any argument is of another type, or the string uses inline captures
///   (`{name}`), `{:#?}`, `{:p}` or a width or precision taken from an argument, the line is formatted at the call.
/// - `key = value` adds a field; the value must be `Loggable`. `key:% = value` takes its `Display` text, `key:? = value` its `Debug`.
/// - `target:` is a constant; without it the target is the module's path.
///
/// A line below the level set at compile time (the `max_level_*` features of the `log` crate) leaves nothing behind, neither code nor text, in any
/// profile; a line that the filter turns off costs one load and one branch.
///
/// # Panics
/// Only if a `Display` or `Debug` of the caller's panics.
///
/// # Examples
/// ```
/// use coring_logger::{Level, log};
/// log!(Level::Warn, target: "billing", account = 7, plan = "free"; "{} of {} requests left", 3, 100);
/// ```
#[macro_export]
macro_rules! log {
    ($level:expr, target: $target:expr, $($rest:tt)+) => {
        $crate::__fields!([$level, $target] [] $($rest)+)
    };
    ($level:expr, $($rest:tt)+) => {
        $crate::__fields!([$level, ::std::module_path!()] [] $($rest)+)
    };
}

/// Takes the fields off the front: `key = value, ...;`.
#[doc(hidden)]
#[macro_export]
macro_rules! __fields {
    // A message alone, or after the fields.
    ($site:tt [$($field:tt)*] $format:literal $(, $($args:tt)*)?) => {
        $crate::__args!($site [$($field)*] $format [] [] $($($args)*)?)
    };
    ($site:tt [$($field:tt)*] $name:ident ! $format:tt $(, $($args:tt)*)?) => {
        $crate::__args!($site [$($field)*] ($name ! $format) [] [] $($($args)*)?)
    };
    ($site:tt [$($field:tt)*] $key:ident :? = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__fields!($site [$($field)* ($key, $crate::__private::Text::new(::std::format_args!("{:?}", $value)))] $($($rest)*)?)
    };
    ($site:tt [$($field:tt)*] $key:ident :? = $value:expr ; $($rest:tt)*) => {
        $crate::__fields!($site [$($field)* ($key, $crate::__private::Text::new(::std::format_args!("{:?}", $value)))] $($rest)*)
    };
    ($site:tt [$($field:tt)*] $key:ident :% = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__fields!($site [$($field)* ($key, $crate::__private::Text::new(::std::format_args!("{}", $value)))] $($($rest)*)?)
    };
    ($site:tt [$($field:tt)*] $key:ident :% = $value:expr ; $($rest:tt)*) => {
        $crate::__fields!($site [$($field)* ($key, $crate::__private::Text::new(::std::format_args!("{}", $value)))] $($rest)*)
    };
    ($site:tt [$($field:tt)*] $key:ident = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__fields!($site [$($field)* ($key, $value)] $($($rest)*)?)
    };
    ($site:tt [$($field:tt)*] $key:ident = $value:expr ; $($rest:tt)*) => {
        $crate::__fields!($site [$($field)* ($key, $value)] $($rest)*)
    };
    // Fields and no message.
    ($site:tt [$($field:tt)*]) => {
        $crate::__args!($site [$($field)*] "" [] [])
    };
}

/// Gives every argument a name (a fresh one each round, by hygiene), so that it is evaluated once, then expands to the statement.
#[doc(hidden)]
#[macro_export]
macro_rules! __args {
    ($site:tt $fields:tt $format:tt [$($bound:tt)*] [$($pass:tt)*] $name:ident = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__args!($site $fields $format [$($bound)* (arg, $value, $crate::__private::Opaque)] [$($pass)*, $name = *arg] $($($rest)*)?)
    };
    ($site:tt $fields:tt $format:tt [$($bound:tt)*] [$($pass:tt)*] $value:expr $(, $($rest:tt)*)?) => {
        $crate::__args!($site $fields $format [$($bound)* (arg, $value, (&$crate::__private::Probe(arg)).view())] [$($pass)*, *arg] $($($rest)*)?)
    };
    ([$level:expr, $target:expr] [$(($key:ident, $field:expr))*] $format:tt [$(($arg:ident, $value:expr, $view:expr))*] [$($pass:tt)*]) => {{
        const FORMAT: &str = $crate::__format!($format);
        static SITE: $crate::__private::Callsite = $crate::__private::Callsite::new(
            $level,
            $target,
            ::std::module_path!(),
            (::std::file!(), ::std::line!()),
            FORMAT,
            &[$(::std::stringify!($key)),*],
        );
        if const { $crate::__private::is_compiled($level) } {
            let id = SITE.gate();
            if id != 0 {
                #[allow(unused_imports, reason = "one of the two answers each probe")]
                use $crate::__private::{ByText as _, ByValue as _};
                match ($(&$value,)*) {
                    ($($arg,)*) => match ($(&$field,)*) {
                        #[allow(non_snake_case, reason = "a field may be named as the user likes")]
                        ($($key,)*) => {
                            let views = $crate::__list!($($view),*);
                            let fields = $crate::__list!($($crate::Loggable::view($key)),*);
                            const CAN_WAIT: bool =
                                $crate::__private::deferrable(FORMAT, <[&str]>::len(&[$(::std::stringify!($arg)),*]));
                            if CAN_WAIT && $crate::__private::is_deferred(&views) {
                                $crate::__private::write(id, $level, views, fields);
                            } else {
                                $crate::__private::write_text(id, $level, $crate::__format_args!($format $($pass)*), fields);
                            }
                        }
                    },
                }
            }
        }
    }};
}

/// A literal, or a macro that makes one (`concat!`).
#[doc(hidden)]
#[macro_export]
macro_rules! __format {
    (($name:ident ! $format:tt)) => { $name! $format };
    ($format:literal) => { $format };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __format_args {
    (($name:ident ! $format:tt) $($pass:tt)*) => { ::std::format_args!($name! $format $($pass)*) };
    ($format:literal $($pass:tt)*) => { ::std::format_args!($format $($pass)*) };
}

/// `(a, (b, ()))`: a list of any length, where tuples end at some length.
#[doc(hidden)]
#[macro_export]
macro_rules! __list {
    () => { () };
    ($first:expr $(, $rest:expr)*) => { ($first, $crate::__list!($($rest),*)) };
}

/// Implements [`Loggable`](crate::Loggable) for a type of your own: an enum by the names of its variants, anything cheap by a value that stands for
/// it. Every variant must be listed, or it does not compile; what a variant holds is not logged.
///
/// In a message, as the argument of a `{}`, the type must have the `Display` that the format string asks for as well, though it does not run.
///
/// This is a macro by example, and no derive, so that the logger needs no procedural macro and none of what those are made of.
///
/// # Examples
/// ```
/// use coring_logger::{info, loggable};
///
/// enum Side { Buy, Sell }
/// loggable!(Side: Buy | Sell);
///
/// enum State { Idle, Open { id: u64 }, Failed(String) }
/// loggable!(State: Idle | Open | Failed);
///
/// struct OrderId(u64);
/// loggable!(OrderId as u64: |order| order.0);
///
/// struct Price { cents: i64, currency: &'static str }
/// loggable!(Price as (i64, &'static str): |price| (price.cents, price.currency));
///
/// info!(order = OrderId(7), side = Side::Buy, state = State::Open { id: 7 });
/// # let _ = (Side::Sell, State::Idle, State::Failed(String::new()), Price { cents: 1, currency: "EUR" });
/// ```
///
/// ```compile_fail
/// enum Side { Buy, Sell }
/// coring_logger::loggable!(Side: Buy);
/// ```
#[macro_export]
macro_rules! loggable {
    ($kind:ident : $($variant:ident)|+ $(|)?) => {
        impl $crate::Loggable for $kind {
            type View<'a> = $crate::Name<'static>;
            #[inline]
            fn view(&self) -> $crate::Name<'static> {
                $crate::Name(match self {
                    $($kind::$variant { .. } => ::std::stringify!($variant),)+
                })
            }
        }
    };
    ($kind:ty as $view:ty : |$this:ident| $value:expr) => {
        impl $crate::Loggable for $kind {
            type View<'a> = $view;
            #[inline]
            fn view(&self) -> $view {
                let $this = self;
                $value
            }
        }
    };
}

macro_rules! level_macros {
    ($d:tt $($name:ident $level:ident $what:literal),* $(,)?) => {$(
        #[doc = concat!("Logs ", $what, ". See [`log!`](crate::log) for what it takes.\n\n# Examples\n```\n")]
        #[doc = concat!("coring_logger::", stringify!($name), "!(id = 7; \"order of {} shares at {:.2}\", 100_u32, 17.25);\n```")]
        #[macro_export]
        macro_rules! $name {
            ($d($d rest:tt)+) => { $crate::log!($crate::Level::$level, $d($d rest)+) };
        }
    )*};
}
level_macros! {
    $
    error Error "an error: something failed; the line is written at once",
    warn Warn "a warning: something is wrong, and we go on",
    info Info "what an operator wants to see",
    debug Debug "what a developer wants to see",
    trace Trace "every step",
}

/// Runs the statement on the first, and then on every `n`th time it is reached.
///
/// # Examples
/// ```
/// use coring_logger::{every_n, info};
/// for packet in 0..1000 {
///     every_n!(100, info!("packet {}", packet)); // ten lines
/// }
/// ```
#[macro_export]
macro_rules! every_n {
    ($n:expr, $statement:expr) => {{
        static REACHED: $crate::__private::Sampler = $crate::__private::Sampler::new();
        if REACHED.every_n($n) {
            $statement;
        }
    }};
}

/// Runs the statement when it is reached, but at most once in each interval.
///
/// # Examples
/// ```
/// use coring_logger::{every, warn};
/// use std::time::Duration;
/// for _ in 0..1000 {
///     every!(Duration::from_secs(1), warn!("queue is long")); // one line
/// }
/// ```
#[macro_export]
macro_rules! every {
    ($interval:expr, $statement:expr) => {{
        static REACHED: $crate::__private::Sampler = $crate::__private::Sampler::new();
        if REACHED.every($interval) {
            $statement;
        }
    }};
}

/// Runs the statement the first time it is reached, and never again.
///
/// # Examples
/// ```
/// use coring_logger::{once, warn};
/// for _ in 0..1000 {
///     once!(warn!("the old protocol is deprecated")); // one line
/// }
/// ```
#[macro_export]
macro_rules! once {
    ($statement:expr) => {{
        static REACHED: $crate::__private::Sampler = $crate::__private::Sampler::new();
        if REACHED.once() {
            $statement;
        }
    }};
}
