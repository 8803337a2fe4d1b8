//! Goal: a level that was left out at compile time leaves nothing of its lines: no argument is evaluated, no text of theirs is in the program.
//!
//! Method: a line a level, at a filter that takes all of them, and a search for their texts in the program's own file. Which levels there are is
//! the feature's choice, so this test is run twice: as it comes, where all have to be found, and with `--features log/max_level_info`.

use coring_logger::{
    Level, LevelFilter, Logger, STATIC_MAX_LEVEL, debug, error, info, trace, warn,
};
use std::cell::Cell;

/// The text of the line of this level, as it stands in its call below. Put together here, so that it stands there only.
fn text(level: Level) -> String {
    format!(
        "{}-{}-line",
        "never-elsewhere",
        level.as_str().to_lowercase()
    )
}

#[test]
fn what_is_not_compiled_leaves_nothing() {
    let evaluated = Cell::new(0);
    let level = |level: Level| {
        evaluated.set(evaluated.get() + 1);
        level as usize
    };
    let (builder, lines) = Logger::builder()
        .filter(LevelFilter::Trace)
        .pattern("{message}{fields}")
        .memory();
    let logger = builder.start().expect("starts");
    error!("never-elsewhere-error-line {}", level(Level::Error));
    warn!("never-elsewhere-warn-line {}", level(Level::Warn));
    info!("never-elsewhere-info-line {}", level(Level::Info));
    debug!("never-elsewhere-debug-line {}", level(Level::Debug));
    trace!(number = level(Level::Trace); "never-elsewhere-trace-line {}", 0);
    logger.shutdown();

    let program = std::fs::read(std::env::current_exe().expect("our own path")).expect("reads");
    let written = lines.text();
    for level in Level::iter() {
        let text = text(level);
        let compiled = level <= STATIC_MAX_LEVEL;
        let found = program
            .windows(text.len())
            .any(|part| part == text.as_bytes());
        assert_eq!(found, compiled, "{level}: its text in the program");
        assert_eq!(written.contains(&text), compiled, "{level}: {written}");
    }
    let compiled = Level::iter().filter(|level| *level <= STATIC_MAX_LEVEL);
    assert_eq!(evaluated.get(), compiled.count(), "arguments evaluated");
}
