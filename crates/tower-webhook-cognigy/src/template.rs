//! The text of a template: what its length and its tags may be, and its parse on a stack that is large enough.

use minijinja::{Environment, Error};
use std::thread;
use tower_webhook::InvalidConfig;

/// The name of the setting, and of the one template of an environment.
pub(crate) const NAME: &str = "payload_template";

/// The longest template, in bytes.
const LONGEST: usize = 64 << 10;

/// The longest `{{ .. }}` or `{% .. %}`, in bytes.
const LONGEST_TAG: usize = 8 << 10;

/// The stack of a parse, in bytes, of which only what is used takes memory. The engine parses, compiles and drops by
/// recursion: about one call for each byte of a tag, and one for each `{% elif %}`.
const STACK: usize = 256 << 20;

/// Parses a template, as the one that the environment has under [`NAME`]. `explain` says what is wrong in a line. `edit`
/// gives what is parsed of what was written.
pub(crate) fn parse(
    environment: &mut Environment<'static>,
    source: &str,
    edit: impl FnOnce(&str) -> String,
    explain: impl FnOnce(&Error, usize) -> String + Send,
) -> Result<(), InvalidConfig> {
    if source.len() > LONGEST {
        let problem = format!("must be {LONGEST} bytes at most");
        return Err(InvalidConfig::new(NAME, problem));
    }
    for piece in pieces(source) {
        if let Piece::Tag(tag) = piece
            && tag.end - tag.start > LONGEST_TAG
        {
            let problem = format!("a tag must be {LONGEST_TAG} bytes at most");
            return Err(invalid(source, tag.start, &problem));
        }
    }
    let owned = edit(source);
    // Also an error, which holds pieces of the template, becomes its text there.
    let work = || {
        let parsed = environment.add_template_owned(NAME, owned);
        parsed.map_err(|error| {
            let line = error.line().unwrap_or(1);
            InvalidConfig::new(NAME, explain(&error, line))
        })
    };
    thread::scope(|scope| {
        let parse = thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, work);
        parse.ok().and_then(|parse| parse.join().ok())
    })
    .unwrap_or_else(|| {
        let problem = "cannot be parsed: there is no thread for it";
        Err(InvalidConfig::new(NAME, problem))
    })
}

/// What is wrong at this place.
pub(crate) fn invalid(source: &str, at: usize, problem: &str) -> InvalidConfig {
    let line = source[..at].matches('\n').count() + 1;
    InvalidConfig::new(NAME, format!("is not a template: line {line}: {problem}"))
}

/// A piece of a template. Comments are none.
pub(crate) enum Piece<'a> {
    /// What is written as it is.
    Text(&'a str),
    Tag(Tag<'a>),
}

pub(crate) struct Tag<'a> {
    /// Whether it is `{% .. %}`.
    pub block: bool,
    pub start: usize,
    pub end: usize,
    pub tokens: Vec<Token<'a>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    Name(&'a str),
    /// A string, without its quotes.
    Text(&'a str),
    Number,
    Sign(u8),
}

/// The pieces of a template, as the engine reads them: a tag does not end within brackets or a string. Ends where the
/// engine finds an error.
pub(crate) fn pieces(source: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut at = 0;
    loop {
        let rest = &source[at..];
        let marks = rest.match_indices('{');
        let mut marks = marks.filter_map(|(start, _)| match rest.as_bytes().get(start + 1) {
            Some(mark @ (b'{' | b'%' | b'#')) => Some((start, *mark)),
            _ => None,
        });
        let Some((start, mark)) = marks.next() else {
            pieces.push(Piece::Text(rest));
            return pieces;
        };
        pieces.push(Piece::Text(&rest[..start]));
        let start = at + start;
        let inner = &source[start + 2..];
        let inside = inner.strip_prefix(['-', '+']).unwrap_or(inner);
        let begins = source.len() - inside.len();
        if mark == b'#' {
            let Some(end) = inside.find("#}") else {
                return pieces;
            };
            at = begins + end + 2;
        } else if mark == b'%'
            && let Some(skipped) = basic_tag(inside, "raw")
        {
            let from = begins + skipped;
            let ends = source[from..].match_indices("{%").find_map(|(end, _)| {
                let behind = &source[from + end + 2..];
                let trimmed = behind.strip_prefix(['-', '+']).unwrap_or(behind);
                let tag = behind.len() - trimmed.len() + basic_tag(trimmed, "endraw")?;
                Some((from + end, from + end + 2 + tag))
            });
            let Some((end, behind)) = ends else {
                return pieces;
            };
            pieces.push(Piece::Text(&source[from..end]));
            at = behind;
        } else {
            let close = if mark == b'{' { "}}" } else { "%}" };
            let (tokens, length) = tokens(inside, close);
            let end = begins + length.unwrap_or(inside.len());
            pieces.push(Piece::Tag(Tag {
                block: mark == b'%',
                start,
                end,
                tokens,
            }));
            if length.is_none() {
                return pieces;
            }
            at = end;
        }
    }
}

/// The length of the rest of `{% name %}`.
fn basic_tag(inside: &str, name: &str) -> Option<usize> {
    let rest = inside.trim_ascii_start().strip_prefix(name)?;
    let rest = rest.trim_ascii_start();
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    Some(inside.len() - rest.strip_prefix("%}")?.len())
}

/// The tokens of a tag, and its length with the end; no length if it does not end.
fn tokens<'a>(inside: &'a str, close: &str) -> (Vec<Token<'a>>, Option<usize>) {
    let bytes = inside.as_bytes();
    let (mut tokens, mut at, mut open) = (Vec::new(), 0_usize, 0_isize);
    let run = |from: usize, part: fn(&u8) -> bool| {
        let length = bytes[from..].iter().take_while(|byte| part(byte)).count();
        from + length
    };
    while let Some(byte) = bytes.get(at) {
        let rest = &bytes[at..];
        if open == 0 {
            let signed = rest.get(1..).unwrap_or_default();
            if matches!(byte, b'-' | b'+') && signed.starts_with(close.as_bytes()) {
                return (tokens, Some(at + 1 + close.len()));
            }
            if rest.starts_with(close.as_bytes()) {
                return (tokens, Some(at + close.len()));
            }
        }
        let start = at;
        match byte {
            byte if byte.is_ascii_whitespace() => at += 1,
            b'"' | b'\'' => {
                let mut escaped = false;
                let length = rest[1..].iter().position(|inner| {
                    let ends = !escaped && inner == byte;
                    escaped = !escaped && *inner == b'\\';
                    ends
                });
                let Some(length) = length else {
                    return (tokens, None);
                };
                at += length + 2;
                tokens.push(Token::Text(&inside[start + 1..at - 1]));
            }
            b'0'..=b'9' => {
                at = run(at, |byte| byte.is_ascii_alphanumeric() || *byte == b'_');
                tokens.push(Token::Number);
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                at = run(at, |byte| byte.is_ascii_alphanumeric() || *byte == b'_');
                tokens.push(Token::Name(&inside[start..at]));
            }
            byte if byte.is_ascii() => {
                match byte {
                    b'(' | b'[' | b'{' => open += 1,
                    b')' | b']' | b'}' => open -= 1,
                    _ => {}
                }
                at += 1;
                tokens.push(Token::Sign(*byte));
            }
            _ => return (tokens, None),
        }
    }
    (tokens, None)
}
