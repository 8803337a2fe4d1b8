//! The benchmark harness of coring: the runtime, the limits of the machine and the peers side by side.
//!
//! ```text
//! main -> cli -> harness --for each round, bench, subject--> child process -> subject
//!                   |                                            |
//!                   +-- suites/* take a sample <-- load (net) ---+
//!                   +-- slices: keeps servers alive and asks them in turn instead
//!                   +-- report: tables, JSON
//! ```
//!
//! `benches/README.md` says how it measures and what each number means. To add to it: a subject is one file in
//! `subjects/`, a suite one file in `suites/`, a new kind of work a variant of [`subject::Work`].

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use cli::{Command, JsonTo};
use harness::{Options, Results};
use machine::Cpus;
use suite::{Bench, Suite};

mod beside;
mod child;
mod cli;
mod distance;
mod effect;
mod files;
mod harness;
mod lines;
mod load;
mod machine;
mod report;
mod ring;
mod slices;
mod stats;
mod subject;
mod subjects;
mod suite;
mod suites;
mod sys;
mod work;

/// The exit code of a command line that cannot be understood.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|it| it == child::COMMAND) {
        return match child::run(&arguments[1..]) {
            Ok(()) => ExitCode::SUCCESS,
            Err(complaint) => failed(&complaint),
        };
    }
    match cli::parse(arguments) {
        Ok(Command::Help) => {
            println!("{}", cli::usage());
            ExitCode::SUCCESS
        }
        Ok(Command::Run {
            suite,
            options,
            json,
        }) => match harness::select(suite, &options) {
            Ok((benches, subjects)) => {
                let run = run_suite(suite, benches, &subjects, &options, json);
                run.unwrap_or_else(|error| failed(&error.to_string()))
            }
            Err(complaint) => misused(&complaint),
        },
        Err(complaint) => misused(&complaint),
    }
}

/// Runs and reports. The exit code says whether every subject did what it had not declined.
fn run_suite(
    suite: &'static dyn Suite,
    benches: Vec<Bench>,
    subjects: &[&'static dyn subject::Subject],
    options: &Options,
    json: Option<JsonTo>,
) -> io::Result<ExitCode> {
    let cpus = Cpus::choose()?;
    let (mut text, mut json): (Box<dyn Write>, Option<Box<dyn Write>>) = match json {
        None => (Box::new(io::stdout()), None),
        Some(JsonTo::Output) => (Box::new(io::stderr()), Some(Box::new(io::stdout()))),
        Some(JsonTo::File(path)) => {
            let file = File::create(&path).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?;
            let file = BufWriter::new(file);
            (Box::new(io::stdout()), Some(Box::new(file)))
        }
    };
    let results = harness::run(suite, benches, subjects, options, cpus)?;
    preamble(&results, options, cpus, &mut text)?;
    report::tables(&results, &mut text)?;
    if let Some(json) = &mut json {
        report::json(&results, json)?;
        json.flush()?;
    }
    let mut cells = results.tables.iter().flat_map(|(_, cells)| cells);
    let broken = cells.any(|cell| !cell.failures.is_empty());
    Ok(ExitCode::from(u8::from(broken)))
}

/// What was run where and how: without it the tables mean nothing.
fn preamble(
    results: &Results,
    options: &Options,
    cpus: Cpus,
    text: &mut dyn Write,
) -> io::Result<()> {
    let timing = results.timing;
    writeln!(
        text,
        "{} on {}, {}; subjects on CPU {}, harness on CPU {}",
        results.suite.name(),
        machine::processor(),
        machine::kernel(),
        cpus.subject,
        cpus.harness
    )?;
    if results.sliced {
        return writeln!(text, "servers asked in turn, seed {}\n", options.seed);
    }
    writeln!(
        text,
        "{} rounds, {} ms each after {} ms of warm-up, seed {}\n",
        results.runs,
        timing.measure.as_millis(),
        timing.warm_up.as_millis(),
        options.seed
    )
}

fn misused(complaint: &str) -> ExitCode {
    eprintln!("error: {complaint}\n\n{}", cli::usage());
    ExitCode::from(MISUSED)
}

fn failed(complaint: &str) -> ExitCode {
    eprintln!("error: {complaint}");
    ExitCode::FAILURE
}
