//! The parser against what it must give, against itself with other pieces, and against every kind of nonsense.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

type Words = Vec<Vec<u8>>;

/// All requests of bytes that come in pieces, and what stopped it, if anything did.
fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Words>, Option<Malformed>) {
    let (mut parser, mut bytes, mut requests) = (Parser::new(), Vec::new(), Vec::new());
    for piece in pieces {
        bytes.extend_from_slice(piece);
        loop {
            match parser.parse(&bytes) {
                Ok(None) => break,
                Ok(Some(length)) => {
                    let request = parser.request(&bytes);
                    requests.push(request.from(0).map(<[u8]>::to_vec).collect());
                    bytes.drain(..length);
                    parser.next();
                }
                Err(error) => return (requests, Some(error)),
            }
        }
    }
    (requests, None)
}

fn encoded(requests: &[Words]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for words in requests {
        encode(words.iter().map(|word| &**word), &mut bytes);
    }
    bytes
}

fn words() -> impl Strategy<Value = Words> {
    let word = prop_oneof![vec(any::<u8>(), 0..12), Just(b"\r\n$3\r\n*1".to_vec())];
    vec(word, 1..6)
}

/// Bytes that look like requests and are not: the parts of them, in any order.
fn nonsense() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(b"*".to_vec()),
        Just(b"$".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\"".to_vec()),
        Just(b"\\x4".to_vec()),
        any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        (-2i64..5).prop_map(|number| format!("*{number}\r\n").into_bytes()),
        (-2i64..5).prop_map(|number| format!("${number}\r\n").into_bytes()),
        words().prop_map(|words| encoded(&[words])),
        vec(any::<u8>(), 0..4),
    ];
    vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    /// What a client encodes is what is understood, wherever the bytes are cut in two.
    #[test]
    fn requests_come_back_from_any_two_pieces(requests in vec(words(), 1..4)) {
        let bytes = encoded(&requests);
        for cut in 0..=bytes.len() {
            let (first, second) = bytes.split_at(cut);
            prop_assert_eq!(feed([first, second]), (requests.clone(), None));
        }
    }

    /// The same, byte by byte.
    #[test]
    fn requests_come_back_from_single_bytes(requests in vec(words(), 1..4)) {
        let bytes = encoded(&requests);
        prop_assert_eq!(feed(bytes.chunks(1)), (requests, None));
    }

    /// Nonsense is understood, or refused, the same way however it is cut; it never panics.
    #[test]
    fn nonsense_means_the_same_in_pieces(bytes in nonsense(), size in 1usize..9) {
        prop_assert_eq!(feed([&*bytes]), feed(bytes.chunks(size)));
    }

    /// One byte of a good stream changed: requests before it are not touched by it.
    #[test]
    fn damage_does_not_reach_back(
        requests in vec(words(), 1..4),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encoded(&requests);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let (found, _) = feed([&*bytes]);
        let whole = (1..=requests.len()).take_while(|n| encoded(&requests[..*n]).len() <= at);
        let whole = whole.last().unwrap_or(0);
        prop_assert_eq!(&found[..whole], &requests[..whole]);
    }

    /// Numbers are understood exactly where they are written the one way.
    #[test]
    fn integers_are_as_std_prints_them(text in "[-+ 0-9]{0,21}", number in any::<i64>()) {
        prop_assert_eq!(integer(number.to_string().as_bytes()), Some(number));
        let parsed = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
        prop_assert_eq!(integer(text.as_bytes()), parsed);
        let mut printed = Vec::new();
        decimal(number, &mut printed);
        prop_assert_eq!(printed, number.to_string().into_bytes());
    }
}

#[test]
fn malformed_requests_are_refused_in_redis_words() {
    let long = |start: &str| start.to_owned() + &"1".repeat(LONGEST_LINE + 2);
    let (long_line, long_count) = ("x".repeat(LONGEST_LINE + 2), long("*"));
    let long_length = long("*1\r\n$");
    let cases = [
        ("*x\r\n", "invalid multibulk length"),
        ("*\r\n", "invalid multibulk length"),
        ("*+1\r\n", "invalid multibulk length"),
        ("*01\r\n", "invalid multibulk length"),
        ("*1 \r\n", "invalid multibulk length"),
        ("*1\rx", "invalid multibulk length"),
        ("*1048577\r\n", "invalid multibulk length"),
        ("*9223372036854775807\r\n", "invalid multibulk length"),
        ("*99999999999999999999999\r\n", "invalid multibulk length"),
        ("*-99999999999999999999999\r\n", "invalid multibulk length"),
        ("*1\r\nx", "expected '$', got 'x'"),
        ("*1\r\n*1\r\n", "expected '$', got '*'"),
        ("*2\r\n$1\r\nx\r\n:1\r\n", "expected '$', got ':'"),
        ("*1\r\n\r\n", "expected '$', got '\\r'"),
        ("*1\r\n$\r\n", "invalid bulk length"),
        ("*1\r\n$-1\r\n", "invalid bulk length"),
        ("*1\r\n$x\r\n", "invalid bulk length"),
        ("*1\r\n$67108865\r\n", "invalid bulk length"),
        ("*1\r\n$18446744073709551615\r\n", "invalid bulk length"),
        ("*1\r\n$2\r\nabcd", "expected CRLF behind an argument"),
        ("*2\r\n$64\r\n", ""),
        ("GET \"k\r\n", "unbalanced quotes in request"),
        ("GET 'k\r\n", "unbalanced quotes in request"),
        ("GET \"k\"x\r\n", "unbalanced quotes in request"),
        (&*long_line, "too big inline request"),
        (&*long_count, "too big mbulk count string"),
        (&*long_length, "too big bulk count string"),
    ];
    for (text, refusal) in cases {
        let (requests, error) = feed([text.as_bytes()]);
        let expected = (!refusal.is_empty()).then(|| Malformed(refusal.to_owned()));
        assert_eq!((requests, error), (Vec::new(), expected), "{text:.40?}");
    }
}

#[test]
fn a_request_is_no_longer_than_the_longest() {
    // Two arguments that are allowed, together too long: refused when the second is announced.
    let length = LONGEST_ARGUMENT - 100;
    let mut bytes = format!("*2\r\n${length}\r\n").into_bytes();
    bytes.resize(bytes.len() + length, b'x');
    bytes.extend_from_slice(b"\r\n$200\r\n");
    let (requests, error) = feed([&*bytes]);
    let expected = Malformed("too big request".to_owned());
    assert_eq!((requests, error), (Vec::new(), Some(expected)));
}

#[test]
fn inline_requests_are_split_as_a_shell_does() {
    let cases: [(&str, &[&str]); 8] = [
        ("\r\n", &[]),
        ("  \n", &[]),
        ("PING\n", &["PING"]),
        (" SET  k\tv \r\n", &["SET", "k", "v"]),
        ("SET k \"a b\"\r\n", &["SET", "k", "a b"]),
        ("SET k 'a \\' \"b'\r\n", &["SET", "k", "a ' \"b"]),
        ("SET k \"\\x41\\n\\\"\\q\"\r\n", &["SET", "k", "A\n\"q"]),
        ("SET k a\"b c\"\r\n", &["SET", "k", "ab c"]),
    ];
    for (text, words) in cases {
        let words = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        assert_eq!(feed([text.as_bytes()]), (vec![words], None), "{text:?}");
    }
}

#[test]
fn requests_without_words_are_empty_lines() {
    for text in ["*0\r\n", "*-1\r\n", "*-5\r\n"] {
        assert_eq!(feed([text.as_bytes()]), (vec![Vec::new()], None));
    }
}
