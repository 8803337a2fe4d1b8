//! What the examples share: reading the command line, and ending with a sentence instead of a backtrace.

pub mod http;
mod serve;

pub use serve::serve;

use std::fmt::Display;
use std::process::ExitCode;
use std::str::FromStr;

/// A command line of `--name value` pairs and plain words.
#[derive(Debug)]
pub struct Arguments {
    usage: &'static str,
    words: Vec<String>,
    options: Vec<(String, String)>,
}

impl Arguments {
    /// Reads the process's command line. `names` are the options that exist, without their dashes.
    ///
    /// # Errors
    ///
    /// An option that does not exist or has no value; the text contains the usage.
    pub fn read(usage: &'static str, names: &[&str]) -> Result<Self, String> {
        let mut given = std::env::args().skip(1);
        let (mut words, mut options) = (Vec::new(), Vec::new());
        while let Some(word) = given.next() {
            let Some(name) = word.strip_prefix("--") else {
                words.push(word);
                continue;
            };
            if !names.contains(&name) {
                return Err(format!("there is no option --{name}\nusage: {usage}"));
            }
            let value = given
                .next()
                .ok_or_else(|| format!("--{name} needs a value\nusage: {usage}"))?;
            options.push((name.to_owned(), value));
        }
        Ok(Self {
            usage,
            words,
            options,
        })
    }

    /// The value of an option, if it was given.
    ///
    /// # Errors
    ///
    /// A value of the wrong kind.
    pub fn option<T: FromStr>(&self, name: &str) -> Result<Option<T>, String>
    where
        T::Err: Display,
    {
        let Some((_, value)) = self.options.iter().rev().find(|(given, _)| given == name) else {
            return Ok(None);
        };
        let parsed = value.parse();
        parsed
            .map(Some)
            .map_err(|error| format!("--{name} {value}: {error}\nusage: {}", self.usage))
    }

    /// The plain words, which have to be as many as asked for.
    ///
    /// # Errors
    ///
    /// Another number of words.
    pub fn words<const N: usize>(&self) -> Result<[&str; N], String> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        words
            .try_into()
            .map_err(|_| format!("expected {N} argument(s)\nusage: {}", self.usage))
    }
}

/// Ends a program: an error is one sentence on stderr and exit code 1.
pub fn exit<E: Display>(outcome: Result<(), E>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
