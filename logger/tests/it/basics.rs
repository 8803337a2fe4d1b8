//! Goal: what a line says is what `format!` would have said; filters, fields and the `log` facade work.

use coring_logger::{
    Filter, Level, Logger, Name, debug, error, every_n, info, log, loggable, once, trace, warn,
};
use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;

use crate::exclusive;

/// Runs `body` with a logger and returns what it logged.
pub(crate) fn logged(pattern: &str, filter: &str, body: impl FnOnce(&Logger)) -> String {
    let _turn = exclusive();
    let (builder, lines) = Logger::builder()
        .filter(filter.parse::<Filter>().expect("valid filter"))
        .pattern(pattern)
        .memory();
    let logger = builder.start().expect("starts");
    body(&logger);
    logger.shutdown();
    lines.text()
}

#[derive(Debug)]
struct Opaque(u32);

impl fmt::Display for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.0)
    }
}

#[test]
fn every_way_to_give_arguments() {
    let text = logged("{message}", "trace", |_| {
        let (name, number) = ("ann", 7_u64);
        let address: SocketAddr = "[::1]:80".parse().expect("an address");
        info!("plain");
        info!("braces {{}}");
        info!("{} {:?} {}", name, name, number);
        info!("{1} {0} {1}", name, number);
        info!("{name} {number:>5}");
        info!("{a} {b:?}", a = number, b = name);
        info!("{} and {}", Opaque(1), number);
        info!("{:?} {:>8.2}|", Opaque(2), 1.0 / 3.0);
        info!("{:#x} {:08.3} {:e}", 255_u8, -1.5, 1234.5);
        info!("{:?} {:?} {:?}", Some(1), None::<u8>, [1_u8, 2]);
        info!("{} {} {}", address, true, 'x');
        info!("{:width$}|{:.*}", 5, 2, 1.239, width = 4);
        info!("{}", String::from("owned"));
        info!("{:?}", std::time::Duration::from_micros(1500));
        info!(concat!("a", "b {}"), 1);
        info!("trailing comma {}", 1,);
    });
    assert_eq!(
        text,
        "plain\nbraces {}\nann \"ann\" 7\n7 ann 7\nann     7\n7 \"ann\"\n<1> and 7\nOpaque(2)     0.33|\n\
         0xff -001.500 1.2345e3\nSome(1) None [1, 2]\n[::1]:80 true x\n   5|1.24\nowned\n1.5ms\nab 1\ntrailing comma 1\n"
    );
}

#[test]
fn fields_keep_their_types_and_cannot_be_forged() {
    let text = logged("{message}{fields}", "info", |_| {
        let err = Opaque(3);
        info!(id = 7, name = "ann", ratio = 0.5; "with {} fields", 3);
        info!(cause:% = err, seen:? = Some("x"); "texts");
        info!(only = 1);
        info!(evil = "x user=root"; "quoted");
        info!(kind = Name("Buy"), none = None::<u8>; "names");
    });
    assert_eq!(
        text,
        "with 3 fields id=7 name=ann ratio=0.5\ntexts cause=<3> seen=\"Some(\\\"x\\\")\"\n only=1\n\
         quoted evil=\"x user=root\"\nnames kind=Buy none=None\n"
    );
}

#[test]
fn arguments_are_evaluated_once_and_not_at_all_when_off() {
    let calls = Cell::new(0);
    let count = || {
        calls.set(calls.get() + 1);
        calls.get()
    };
    let text = logged("{message}", "info", |_| {
        info!("{}", count());
        info!("{} {:?}", count(), Opaque(0));
        debug!("{}", count());
        info!(n = count(); "field");
    });
    assert_eq!(text, "1\n2 Opaque(0)\nfield\n");
    assert_eq!(calls.get(), 3);
}

#[test]
fn filters_by_target_change_while_running() {
    let text = logged("{level} {target}", "warn,net=debug", |logger| {
        let all = || {
            for target in [0, 1] {
                match target {
                    0 => log!(Level::Debug, target: "net::tcp", "x"),
                    _ => log!(Level::Debug, target: "netting", "x"),
                }
            }
            warn!(target: "other", "x");
            trace!(target: "net", "x");
        };
        all();
        logger.flush().expect("flushes");
        logger.set_filter("off,netting=trace".parse::<Filter>().expect("valid"));
        all();
    });
    assert_eq!(text, "DEBUG net::tcp\nWARN  other\nDEBUG netting\n");
}

#[test]
fn the_log_facade_comes_through_with_key_values() {
    let text = logged(
        "{level} {target} {message}{fields}",
        "info,quiet=error",
        |_| {
            ::log::info!(target: "lib", count = 3, name = "ann"; "hello {}", 1);
            ::log::warn!(target: "quiet", "not this");
            ::log::debug!("nor this");
            ::log::error!("static");
        },
    );
    assert_eq!(
        text,
        "INFO  lib hello 1 count=3 name=ann\nERROR it::basics static\n"
    );
}

#[test]
fn samplers() {
    let text = logged("{message}", "info", |_| {
        for turn in 0..10 {
            every_n!(4, info!("every {}", turn));
            once!(info!("once {}", turn));
            coring_logger::every!(
                std::time::Duration::from_secs(3600),
                info!("hourly {}", turn)
            );
        }
        // An interval that is over each time.
        for turn in 0..3 {
            coring_logger::every!(std::time::Duration::ZERO, info!("always {}", turn));
        }
    });
    assert_eq!(
        text,
        "every 0\nonce 0\nhourly 0\nevery 4\nevery 8\nalways 0\nalways 1\nalways 2\n"
    );
}

#[test]
fn generic_code_logs_each_type_as_it_is() {
    fn show<T: coring_logger::Loggable + fmt::Display>(value: T) {
        info!("{}", value);
    }
    let text = logged("{message}", "info", |_| {
        show(1_u8);
        show("text");
        show(-2.5);
        show(1_u8);
    });
    assert_eq!(text, "1\ntext\n-2.5\n1\n");
}

#[test]
fn own_types_are_logged_as_what_stands_for_them() {
    // Goal: `loggable!` gives names of variants and values, deferred: nothing of the type's own formatting runs.
    #[expect(dead_code, reason = "what a variant holds is not logged")]
    enum State {
        Idle,
        Open { id: u64 },
        Failed(String),
    }
    loggable!(State: Idle | Open | Failed);
    struct Price(i64, &'static str);
    loggable!(Price as (i64, &'static str): |price| (price.0, price.1));
    struct Never(u64);
    loggable!(Never as u64: |it| it.0);
    impl fmt::Display for Never {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("formatted at the call")
        }
    }
    let text = logged("{message}{fields}", "info", |_| {
        info!(price = Price(150, "EUR"), state = State::Idle; "{}", Never(7));
        info!(
            state = State::Open { id: 1 },
            then = State::Failed("x".to_owned())
        );
    });
    assert_eq!(
        text,
        "7 price=(150, EUR) state=Idle\n state=Open then=Failed\n"
    );
}

#[test]
fn control_characters_cannot_forge_a_line() {
    let text = logged("{message}{fields}", "info", |_| {
        let evil = "a\n2026 ERROR forged\r\x1b[31m\0\u{9b}\u{2028}b";
        info!("{} {}", evil, 1);
        info!("{} {}", Opaque(1), evil);
        info!(field = evil; "x");
        ::log::info!("{evil}");
    });
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(
        text.chars()
            .all(|c| c == '\n' || !c.is_control() && c != '\u{2028}'),
        "{text:?}"
    );
    assert!(
        text.starts_with("a\\n2026 ERROR forged\\r\\x1b[31m\\x00\\u{9b}\\u{2028}b 1\n"),
        "{text}"
    );
}

#[test]
fn a_display_that_panics_logs_or_fails() {
    struct Panics;
    impl fmt::Display for Panics {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("in Display")
        }
    }
    struct Logs(u32);
    impl fmt::Display for Logs {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            info!("inner {}", self.0);
            write!(f, "logs")
        }
    }
    struct Recurses;
    impl fmt::Display for Recurses {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            info!("{}", Recurses);
            write!(f, "r")
        }
    }
    struct Fails;
    impl fmt::Display for Fails {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("half")?;
            Err(fmt::Error)
        }
    }
    let text = logged("{message}", "info", |logger| {
        let caught = std::panic::catch_unwind(|| info!("{}", Panics));
        assert!(caught.is_err());
        info!("outer {}", Logs(1));
        info!("{}", Fails);
        let refused = logger.stats().refused;
        info!("{}", Recurses);
        assert_eq!(logger.stats().refused, refused + 1);
    });
    let expected = format!(
        "inner 1\nouter logs\nhalf[a Display or Debug returned an error]\n{}",
        "r\n".repeat(32)
    );
    assert_eq!(text, expected);
}

#[test]
fn long_texts_are_cut_and_said_to_be() {
    let text = logged("{message}", "info", |_| {
        let long = "x".repeat(100_000);
        info!("{}|", long);
        info!("{} {}", Opaque(1), long);
        error!("after");
    });
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].ends_with("x…[cut]|") && lines[0].len() < 17_000,
        "{}",
        lines[0].len()
    );
    assert!(lines[1].ends_with("x…[cut]") && lines[1].starts_with("<1> xxx"));
    assert_eq!(lines[2], "after");
}
