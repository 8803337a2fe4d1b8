//! What comes from outside and goes there: signals, the standard streams, children.

use coring::coro;
use coring::process::Command;
use coring::signal::{Signals, ctrl_c};
use coring_tests::runtime;
use std::cell::Cell;
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::rc::Rc;
use std::time::Duration;

type Outcome = Result<(), Box<dyn Error>>;

/// A coroutine that counts, for as long as it is not cancelled.
fn others() -> Rc<Cell<u64>> {
    let count = Rc::new(Cell::new(0));
    let turns = Rc::clone(&count);
    coro::spawn(move || {
        loop {
            turns.set(turns.get() + 1);
            coro::sleep(Duration::from_micros(100));
        }
    });
    count
}

/// Says so once the others have run, while this coroutine is not the one that lets them.
fn when_others_have_run(count: &Rc<Cell<u64>>, mut say: impl FnMut() + 'static) {
    let (count, before) = (Rc::clone(count), count.get());
    coro::spawn(move || {
        while count.get() < before + 5 {
            coro::sleep(Duration::from_micros(100));
        }
        say();
    });
}

/// Three times Ctrl-C, each waited for.
pub(crate) fn on_ctrl_c() -> Outcome {
    runtime(1).run(|| {
        let count = others();
        // Caught before the first is told of: `ctrl_c` hears what comes while it waits.
        let _caught = Signals::new([libc::SIGINT])?;
        for time in 1..=3 {
            let waiting = coro::spawn(ctrl_c);
            coring_tests::until_in_flight(1);
            let before = count.get();
            coring_tests::until("others", || count.get() > before + 2);
            println!("waiting");
            waiting.join()??;
            println!("ctrl-c {time}, others ran");
        }
        println!("done");
        Ok(())
    })
}

/// Prints the number of each signal, to SIGTERM.
pub(crate) fn on_signals() -> Outcome {
    runtime(1).run(|| {
        let all = [libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2, libc::SIGTERM];
        let mut signals = Signals::new(all)?;
        println!("waiting");
        loop {
            let signal = signals.recv()?;
            println!("{signal}");
            if signal == libc::SIGTERM {
                return Ok(());
            }
        }
    })
}

/// Prints the lines of the standard input, and between them that others run.
pub(crate) fn lines() -> Outcome {
    runtime(1).run(|| {
        let count = others();
        let mut input = BufReader::new(coring::io::stdin());
        let mut line = String::new();
        loop {
            when_others_have_run(&count, || println!("others run"));
            line.clear();
            if input.read_line(&mut line)? == 0 {
                println!("the end");
                return Ok(());
            }
            print!("{line}");
        }
    })
}

/// More to the standard output than a pipe holds.
pub(crate) fn full_output() -> Outcome {
    runtime(1).run(|| {
        let count = others();
        let mut told = false;
        when_others_have_run(&count, move || {
            if !std::mem::replace(&mut told, true) {
                eprintln!("others run");
            }
        });
        coring::io::stdout().write_all(&vec![b'x'; 1 << 20])?;
        Ok(())
    })
}

/// The standard input to the standard output.
pub(crate) fn copy_input() -> Outcome {
    runtime(1).run(|| {
        let mut text = String::new();
        coring::io::stdin().read_to_string(&mut text)?;
        for line in text.lines() {
            writeln!(coring::io::stdout(), "{line}")?;
        }
        Ok(())
    })
}

/// Lines with numbers from two cores, a child and std, all at once.
pub(crate) fn shared_output() -> Outcome {
    const LINES: usize = 5000;
    runtime(2).run(|| {
        let child = format!(
            "for i in $(seq 0 {}); do echo \"child: $i\"; done",
            LINES - 1
        );
        let mut child = Command::new("sh").args(["-c", &child]).spawn()?;
        let std = std::thread::spawn(|| (0..LINES).for_each(|i| println!("std: {i}")));
        let cores: Vec<_> = (0..2)
            .map(|core| {
                coring::spawn_on(core, move || {
                    (0..LINES).try_for_each(|i| {
                        let line = format!("core {core}: {i}\n");
                        coring::io::stdout().write_all(line.as_bytes())
                    })
                })
            })
            .collect();
        for core in cores {
            core.join().unwrap()?;
        }
        coring::blocking(|| std.join().unwrap()).unwrap();
        assert!(child.wait()?.success());
        Ok(())
    })
}

/// The length of the standard input, which two cores read.
pub(crate) fn shared_input() -> Outcome {
    runtime(2).run(|| {
        let bytes = coring::call_all(|_| {
            let mut bytes = 0;
            while let read @ 1.. = coring::io::stdin().read(&mut [0; 64]).unwrap() {
                bytes += read;
            }
            bytes
        });
        println!("{} bytes", bytes.unwrap().iter().sum::<usize>());
        Ok(())
    })
}

/// One command, its output taken first and inherited then.
pub(crate) fn output_then_status() -> Outcome {
    runtime(1).run(|| {
        let mut command = Command::new("sh");
        command.args(["-c", "echo inherited"]);
        let collected = command.output()?.stdout == b"inherited\n";
        if collected {
            println!("collected");
        }
        command.status()?;
        Ok(())
    })
}
