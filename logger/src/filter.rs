//! Which targets log at which level: `info,my_server::net=debug,hyper=off`.
//!
//! A directive's target matches itself and everything below it, separated by `::`; the longest match decides. The filter is
//! asked once per call site and change, not per line, so it is written for reading, not for speed. Lines that come through the
//! `log` facade have no site and ask each time.

use std::fmt;
use std::str::FromStr;

use log::{Level, LevelFilter};

/// Levels by target.
///
/// # Examples
/// ```
/// use coring_logger::{Filter, Level, LevelFilter};
///
/// let filter: Filter = "info,server::net=debug,hyper=off".parse()?;
/// assert!(filter.allows("server::net::tcp", Level::Debug));
/// assert!(!filter.allows("server::network", Level::Debug));
/// assert!(!filter.allows("hyper", Level::Error));
/// assert_eq!(filter.to_string(), "info,server::net=debug,hyper=off");
///
/// let same = Filter::new(LevelFilter::Info).with("server::net", LevelFilter::Debug).with("hyper", LevelFilter::Off);
/// assert_eq!(filter, same);
/// # Ok::<(), coring_logger::ParseFilterError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    default: LevelFilter,
    /// Longest target first.
    targets: Vec<(String, LevelFilter)>,
}

impl Filter {
    /// One level for every target.
    #[must_use]
    pub fn new(default: LevelFilter) -> Self {
        Self {
            default,
            targets: Vec::new(),
        }
    }

    /// Sets the level of `target` and everything below it.
    #[must_use]
    pub fn with(mut self, target: impl Into<String>, level: LevelFilter) -> Self {
        let target = target.into();
        self.targets.retain(|(existing, _)| *existing != target);
        self.targets.push((target, level));
        self.targets
            .sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
        self
    }

    /// The level at which `target` logs.
    #[must_use]
    pub fn level(&self, target: &str) -> LevelFilter {
        let covers = |directive: &str| {
            target
                .strip_prefix(directive)
                .is_some_and(|below| below.is_empty() || below.starts_with("::"))
        };
        self.targets
            .iter()
            .find(|(directive, _)| covers(directive))
            .map_or(self.default, |(_, level)| *level)
    }

    /// Whether a line of `target` at `level` passes.
    #[must_use]
    pub fn allows(&self, target: &str, level: Level) -> bool {
        level <= self.level(target)
    }

    /// The most verbose level that any target has.
    #[must_use]
    pub fn max_level(&self) -> LevelFilter {
        self.targets
            .iter()
            .map(|(_, level)| *level)
            .fold(self.default, |a, b| a.max(b))
    }
}

impl From<LevelFilter> for Filter {
    fn from(level: LevelFilter) -> Self {
        Self::new(level)
    }
}

/// A filter string that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseFilterError(String);

impl fmt::Display for ParseFilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a log level: write off, error, warn, info, debug or trace, or target=level, separated by commas",
            self.0
        )
    }
}
impl std::error::Error for ParseFilterError {}

impl FromStr for Filter {
    type Err = ParseFilterError;

    /// Parses `level,target=level,...`. Without a bare level the default is `error`, as with `env_logger`.
    fn from_str(text: &str) -> Result<Self, ParseFilterError> {
        let level = |text: &str| {
            text.trim()
                .parse()
                .map_err(|_| ParseFilterError(text.trim().to_owned()))
        };
        let mut filter = Self::new(LevelFilter::Error);
        for directive in text
            .split(',')
            .map(str::trim)
            .filter(|directive| !directive.is_empty())
        {
            match directive.split_once('=') {
                Some((target, wanted)) => filter = filter.with(target.trim(), level(wanted)?),
                None => filter.default = level(directive)?,
            }
        }
        Ok(filter)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.default.as_str().to_ascii_lowercase())?;
        self.targets.iter().try_for_each(|(target, level)| {
            write!(f, ",{target}={}", level.as_str().to_ascii_lowercase())
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    //! Goal: the longest directive decides, whatever the order, and errors name what was wrong.
    use super::*;

    #[test]
    fn longest_match_wins_in_any_order() {
        for text in [
            "warn,a=info,a::b=trace",
            "a::b=trace,warn,a=info",
            "a=info,a::b=trace,warn",
        ] {
            let filter: Filter = text.parse().expect("valid");
            assert_eq!(filter.level("a::b::c"), LevelFilter::Trace);
            assert_eq!(filter.level("a::c"), LevelFilter::Info);
            assert_eq!(filter.level("ab"), LevelFilter::Warn);
            assert_eq!(filter.max_level(), LevelFilter::Trace);
        }
    }

    #[test]
    fn errors_name_the_word() {
        let error = "info,net=loud"
            .parse::<Filter>()
            .expect_err("loud is no level");
        assert!(error.to_string().contains("`loud`"), "{error}");
    }
}
