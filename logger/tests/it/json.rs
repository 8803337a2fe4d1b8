//! Goal: a line of JSON is valid whatever was logged, and keeps it. Method: random texts, bytes and numbers, read back by a strict reader.

use coring_logger::{Json, Logger, info};

use crate::exclusive;

/// A strict little JSON reader: returns what follows a value, or fails.
fn json<'a>(text: &'a str, strings: &mut Vec<String>) -> &'a str {
    let text = text.trim_start();
    let mut list = |open: char, close: char, keys: bool| {
        let mut rest = text.strip_prefix(open)?;
        if let Some(rest) = rest.strip_prefix(close) {
            return Some(rest);
        }
        loop {
            if keys {
                rest = json(rest, strings).strip_prefix(':').expect("a colon");
            }
            rest = json(rest, strings);
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => return Some(rest.strip_prefix(close).expect("the end of a list")),
            }
        }
    };
    if let Some(rest) = list('{', '}', true).or_else(|| list('[', ']', false)) {
        return rest;
    }
    if let Some(mut rest) = text.strip_prefix('"') {
        let mut value = String::new();
        loop {
            let c = rest.chars().next().expect("an end of the string");
            rest = &rest[c.len_utf8()..];
            match c {
                '"' => break,
                '\\' => {
                    let escaped = rest.chars().next().expect("an escape");
                    rest = &rest[1..];
                    value.push(match escaped {
                        'n' => '\n',
                        't' => '\t',
                        '"' | '\\' => escaped,
                        'u' => {
                            let code = u32::from_str_radix(&rest[..4], 16).expect("four digits");
                            rest = &rest[4..];
                            char::from_u32(code).expect("a character")
                        }
                        other => panic!("escape {other}"),
                    });
                }
                c => {
                    assert!(u32::from(c) >= 0x20, "a raw control character");
                    value.push(c);
                }
            }
        }
        strings.push(value);
        return rest;
    }
    let end = text.find([',', '}', ']']).unwrap_or(text.len());
    let word = &text[..end];
    assert!(
        matches!(word, "true" | "false" | "null") || word.parse::<f64>().is_ok(),
        "{word:?}"
    );
    &text[end..]
}

#[test]
fn json_is_valid_for_any_text_and_keeps_it() {
    use proptest::prelude::*;
    let _turn = exclusive();
    let strategy = prop::collection::vec(
        (
            ".{0,60}",
            prop::collection::vec(any::<u8>(), 0..30),
            any::<f64>(),
        ),
        1..20,
    );
    proptest!(ProptestConfig::with_cases(64), |(inputs in strategy)| {
        let (builder, lines) = Logger::builder().format(Json::new()).memory();
        let logger = builder.start().expect("starts");
        for (text, bytes, number) in &inputs {
            info!(text = text.as_str(), number = *number, bytes = bytes.as_slice(), nested = (Some(1_u8), "x"); "m {}\u{7f}\n", text.as_str());
        }
        logger.shutdown();
        let out = lines.text();
        prop_assert_eq!(out.lines().count(), inputs.len());
        for (line, (text, ..)) in out.lines().zip(&inputs) {
            let mut strings = Vec::new();
            prop_assert_eq!(json(line, &mut strings), "");
            prop_assert!(strings.contains(text), "{:?} in {}", text, line);
            prop_assert!(strings.contains(&format!("m {text}\u{7f}\n")), "{}", line);
        }
    });
}
