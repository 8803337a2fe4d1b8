//! Format strings: read once per call site, applied by the drain to decoded values.
//!
//! The parser is a `const fn`, because the same rules are needed at two times: when the call site is compiled ([`deferrable`]
//! says whether the drain can do the formatting, so that the macro takes the cheap way), and when the drain meets the
//! site first ([`Plan::parse`]). What the drain cannot do (inline captures `{name}`, `width$`, `{:#?}`, `{:p}`) is
//! formatted at the call by `format_args!`; the output is the same either way.
//!
//! ```text
//!   "order id={} price={:>8.2}"  ->  Literal("order id=") Plain(0) Literal(" price=") Arg(1, right, width 8, precision 2)
//! ```

/// How one argument is to be shown: the part of `{...}` behind the colon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) fill: char,
    pub(crate) align: Option<Align>,
    pub(crate) plus: bool,
    pub(crate) alternate: bool,
    pub(crate) zero: bool,
    pub(crate) width: Option<u16>,
    pub(crate) precision: Option<u16>,
    pub(crate) style: Style,
}

impl Spec {
    pub(crate) const DISPLAY: Self = Self {
        fill: ' ',
        align: None,
        plus: false,
        alternate: false,
        zero: false,
        width: None,
        precision: None,
        style: Style::Display,
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Center,
    Right,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Display,
    Debug,
    LowerHex,
    UpperHex,
    Octal,
    Binary,
    LowerExp,
    UpperExp,
}

/// One step of the parser: a piece, and where the next one starts.
#[derive(Clone, Copy)]
enum Step {
    End,
    /// Bytes `from..to` of the format string.
    Literal(usize, usize),
    /// An argument; `usize::MAX` stands for "the next one".
    Arg(usize, Spec),
    /// Valid for `format_args!`, but not for the drain.
    Unsupported,
}

const NEXT: usize = usize::MAX;

/// Reads decimal digits from `at`. Returns (value, position behind them), value `None` if there are none.
const fn digits(bytes: &[u8], mut at: usize) -> (Option<u16>, usize) {
    let mut value: Option<u16> = None;
    while at < bytes.len() && bytes[at].is_ascii_digit() {
        let so_far = match value {
            Some(value) => value,
            None => 0,
        };
        // Beyond 6552 the next digit might overflow: treat as unsupported by returning the position before it.
        if so_far > 6552 {
            return (None, at);
        }
        value = Some(so_far * 10 + (bytes[at] - b'0') as u16);
        at += 1;
    }
    (value, at)
}

const fn align_of(byte: u8) -> Option<Align> {
    match byte {
        b'<' => Some(Align::Left),
        b'^' => Some(Align::Center),
        b'>' => Some(Align::Right),
        _ => None,
    }
}

/// Parses the piece at `at`. The grammar is that of `std::fmt`.
const fn step(bytes: &[u8], at: usize) -> (Step, usize) {
    if at >= bytes.len() {
        return (Step::End, at);
    }
    match bytes[at] {
        brace @ (b'{' | b'}') if at + 1 < bytes.len() && bytes[at + 1] == brace => {
            (Step::Literal(at, at + 1), at + 2)
        }
        b'{' => placeholder(bytes, at + 1),
        b'}' => (Step::Unsupported, at),
        _ => {
            let mut end = at + 1;
            while end < bytes.len() && bytes[end] != b'{' && bytes[end] != b'}' {
                end += 1;
            }
            (Step::Literal(at, end), end)
        }
    }
}

const fn peek(bytes: &[u8], at: usize) -> u8 {
    if at < bytes.len() { bytes[at] } else { 0 }
}

const fn placeholder(bytes: &[u8], at: usize) -> (Step, usize) {
    let (index, mut at) = digits(bytes, at);
    let index = match index {
        Some(index) => index as usize,
        None => NEXT,
    };
    let mut spec = Spec::DISPLAY;
    if peek(bytes, at) == b':' {
        at += 1;
        // A fill is one character, here one of ASCII, in front of an alignment.
        if at + 1 < bytes.len() && bytes[at].is_ascii() && align_of(bytes[at + 1]).is_some() {
            spec.fill = bytes[at] as char;
            at += 1;
        }
        spec.align = align_of(peek(bytes, at));
        if spec.align.is_some() {
            at += 1;
        }
        if peek(bytes, at) == b'+' {
            spec.plus = true;
            at += 1;
        }
        if peek(bytes, at) == b'#' {
            spec.alternate = true;
            at += 1;
        }
        if peek(bytes, at) == b'0' && peek(bytes, at + 1) != b'$' {
            spec.zero = true;
            at += 1;
        }
        (spec.width, at) = digits(bytes, at);
        if peek(bytes, at) == b'.' {
            (spec.precision, at) = digits(bytes, at + 1);
            if spec.precision.is_none() {
                return (Step::Unsupported, at);
            }
        }
        (spec.style, at) = match peek(bytes, at) {
            b'?' => (Style::Debug, at + 1),
            b'x' => (Style::LowerHex, at + 1),
            b'X' => (Style::UpperHex, at + 1),
            b'o' => (Style::Octal, at + 1),
            b'b' => (Style::Binary, at + 1),
            b'e' => (Style::LowerExp, at + 1),
            b'E' => (Style::UpperExp, at + 1),
            _ => (Style::Display, at),
        };
        // `{:#?}` spreads over lines.
        if spec.alternate && matches!(spec.style, Style::Debug) {
            return (Step::Unsupported, at);
        }
    }
    // Spaces are allowed before the closing brace.
    while peek(bytes, at).is_ascii_whitespace() {
        at += 1;
    }
    if peek(bytes, at) == b'}' {
        (Step::Arg(index, spec), at + 1)
    } else {
        (Step::Unsupported, at)
    }
}

/// Whether the drain can format `format` from `count` positional arguments.
#[doc(hidden)]
#[must_use]
pub const fn deferrable(format: &str, count: usize) -> bool {
    let bytes = format.as_bytes();
    let (mut at, mut next) = (0, 0);
    loop {
        let (found, end) = step(bytes, at);
        match found {
            Step::End => return true,
            Step::Literal(..) => {}
            Step::Unsupported => return false,
            Step::Arg(NEXT, _) => {
                if next >= count {
                    return false;
                }
                next += 1;
            }
            Step::Arg(index, _) => {
                if index >= count {
                    return false;
                }
            }
        }
        at = end;
    }
}

/// A piece of a parsed format string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Literal(Box<str>),
    /// An argument as `{}` shows it.
    Plain(usize),
    Arg(usize, Spec),
}

/// A parsed format string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) pieces: Box<[Piece]>,
    /// How many arguments the message has.
    pub(crate) args: usize,
    /// The arguments are shown in the order in which they are stored.
    pub(crate) in_order: bool,
}

impl Plan {
    /// Parses `format`. A string that [`deferrable`] refuses gives a plan that shows it verbatim: its records carry finished text.
    pub(crate) fn parse(format: &str) -> Self {
        let mut pieces: Vec<Piece> = Vec::new();
        let (mut at, mut next, mut args, mut shown) = (0, 0, 0, 0);
        let mut in_order = true;
        loop {
            let (found, end) = step(format.as_bytes(), at);
            match found {
                Step::End => break,
                Step::Literal(from, to) => match pieces.last_mut() {
                    Some(Piece::Literal(text)) => {
                        *text = format!("{text}{}", &format[from..to]).into()
                    }
                    _ => pieces.push(Piece::Literal(format[from..to].into())),
                },
                Step::Unsupported => {
                    let pieces = Box::new([Piece::Literal(format.into())]);
                    return Self {
                        pieces,
                        args: 0,
                        in_order: true,
                    };
                }
                Step::Arg(index, spec) => {
                    let index = if index == NEXT {
                        next += 1;
                        next - 1
                    } else {
                        index
                    };
                    in_order &= index == shown;
                    shown += 1;
                    args = args.max(index + 1);
                    pieces.push(if spec == Spec::DISPLAY {
                        Piece::Plain(index)
                    } else {
                        Piece::Arg(index, spec)
                    });
                }
            }
            at = end;
        }
        Self {
            pieces: pieces.into(),
            args,
            in_order,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    //! Goal: the parser accepts what the drain can format and nothing else, and never panics.
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepts_what_the_drain_can_do() {
        for (format, count) in [
            ("", 0),
            ("plain", 0),
            ("{}", 1),
            ("{0} {0} {1}", 2),
            ("{{}} {:?}", 1),
            ("{:>8.3} {:#x} {:08.2} {:*^20} {:+e}", 5),
            ("{: >5}", 1),
            ("{:?  }", 1),
        ] {
            assert!(deferrable(format, count), "{format}");
        }
        for (format, count) in [
            ("{}", 0),
            ("{1}", 1),
            ("{name}", 0),
            ("{:width$}", 1),
            ("{:.*}", 2),
            ("{:#?}", 1),
            ("{:p}", 1),
            ("{:x?}", 1),
            ("{:é>5}", 1),
            ("{:99999}", 1),
            ("{:1$}", 2),
            ("{:.1$}", 2),
        ] {
            assert!(!deferrable(format, count), "{format}");
        }
    }

    #[test]
    fn pieces() {
        let plan = Plan::parse("a{{b}}{} {1:>4} {}");
        let spec = Spec {
            align: Some(Align::Right),
            width: Some(4),
            ..Spec::DISPLAY
        };
        let literal = |text: &str| Piece::Literal(text.into());
        assert_eq!(
            *plan.pieces,
            [
                literal("a{b}"),
                Piece::Plain(0),
                literal(" "),
                Piece::Arg(1, spec),
                literal(" "),
                Piece::Plain(1)
            ]
        );
        assert_eq!((plan.args, plan.in_order), (2, false));
    }

    proptest! {
        #[test]
        fn never_panics(format in "[{}:0-9a-c<^>.$#+?x é]{0,30}", count in 0usize..4) {
            let plan = Plan::parse(&format);
            if deferrable(&format, count) {
                prop_assert!(plan.args <= count);
            }
        }
    }
}
