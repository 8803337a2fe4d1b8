//! The command line. Anything not understood is said, with the usage, and ends with exit code 2.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::harness::Options;
use crate::suite::Suite;
use crate::suites;

/// What the user asked for.
pub(crate) enum Command {
    /// To be told how to use it.
    Help,
    /// To run a suite.
    Run {
        /// Which.
        suite: &'static dyn Suite,
        /// How.
        options: Options,
        /// Where JSON goes.
        json: Option<JsonTo>,
    },
}

/// Where JSON goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JsonTo {
    /// To standard output; the tables then go to standard error.
    Output,
    /// To a file, which is replaced.
    File(PathBuf),
}

/// How to use it.
pub(crate) fn usage() -> String {
    let suites: Vec<&str> = suites::ALL.iter().map(|suite| suite.name()).collect();
    format!(
        "usage: cargo run --release -p coring-bench -- SUITE [options]

suites: {}

options:
  --quick         finish in some minutes: fewer rounds, shorter samples
  --only NAMES    only these benches or subjects, separated by commas; may be repeated
  --runs N        rounds; each takes one sample of every bench and subject
  --slices        keep all servers alive and ask them in turn, briefly and often (benches of `net` with a load)
  --against PATH  also measure coring as another binary of this harness has it; may be repeated
  --json FILE     also write one JSON object a line for each figure; `-` for standard output
  --seed N        the seed of the order of subjects, to repeat an order
  --help          this text",
        suites.join(", ")
    )
}

/// Understands the arguments, or says what is wrong with them.
pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let mut arguments = arguments.into_iter();
    let (mut suite, mut json) = (None, None);
    let mut options = Options {
        quick: false,
        only: Vec::new(),
        runs: None,
        slices: false,
        against: Vec::new(),
        seed: seed_of_the_moment(),
    };
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let value = arguments.next();
            value.ok_or_else(|| format!("{argument} needs a value"))
        };
        match argument.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--quick" => options.quick = true,
            "--only" => options.only.extend(names(&value()?)),
            "--runs" => options.runs = Some(rounds(&value()?)?),
            "--slices" => options.slices = true,
            "--against" => options.against.push(value()?.into()),
            "--seed" => options.seed = number(&argument, &value()?)?,
            "--json" => json = Some(json_to(&value()?)),
            flag if flag.starts_with('-') => return Err(format!("unknown option {flag}")),
            name if suite.is_some() => return Err(format!("one suite at a time, not also {name}")),
            name => suite = Some(suites::find(name).ok_or(format!("unknown suite {name}"))?),
        }
    }
    let suite = suite.ok_or("name a suite")?;
    Ok(Command::Run {
        suite,
        options,
        json,
    })
}

/// Splits at the commas that are not inside a bench's parameters.
fn names(list: &str) -> Vec<String> {
    let mut depth = 0;
    let parts = list.split(|letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        letter == ',' && depth == 0
    });
    parts.map(str::to_owned).collect()
}

fn rounds(text: &str) -> Result<usize, String> {
    match number("--runs", text)? {
        0 => Err("--runs 0 would measure nothing".to_owned()),
        runs => usize::try_from(runs).map_err(|error| error.to_string()),
    }
}

fn number(flag: &str, text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("{flag} needs a whole number, not {text}"))
}

fn json_to(text: &str) -> JsonTo {
    match text {
        "-" => JsonTo::Output,
        path => JsonTo::File(path.into()),
    }
}

/// A different order each time, unless a seed is given.
fn seed_of_the_moment() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |it| u64::from(it.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Command, JsonTo, parse};

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn all_options_are_understood() {
        let line =
            "net --quick --only echo,echo_open(a=1,b=2) --only tokio --runs 7 --seed 9 --json -";
        let Ok(Command::Run {
            suite,
            options,
            json,
        }) = parsed(line)
        else {
            panic!("this is a valid line");
        };
        assert_eq!(suite.name(), "net");
        assert_eq!(options.only, ["echo", "echo_open(a=1,b=2)", "tokio"]);
        assert_eq!(
            (options.quick, options.runs, options.seed),
            (true, Some(7), 9)
        );
        assert_eq!(json, Some(JsonTo::Output));
    }

    #[test]
    fn a_comparison_in_slices_is_understood() {
        let line = "net --slices --against /tmp/before --against after";
        let Ok(Command::Run { options, .. }) = parsed(line) else {
            panic!("this is a valid line");
        };
        assert!(options.slices);
        assert_eq!(options.against, ["/tmp/before", "after"].map(PathBuf::from));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, complaint) in [
            ("", "name a suite"),
            ("nett", "unknown suite nett"),
            ("net micro", "one suite at a time"),
            ("net --fast", "unknown option --fast"),
            ("net --runs", "--runs needs a value"),
            ("net --against", "--against needs a value"),
            ("net --runs 0", "would measure nothing"),
            ("net --runs many", "needs a whole number"),
        ] {
            let error = parsed(line).err().expect("each of these is a mistake");
            assert!(error.contains(complaint), "{line}: {error}");
        }
    }
}
