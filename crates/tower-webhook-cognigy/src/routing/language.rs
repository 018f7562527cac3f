//! What a template may say, beyond what the engine asks: names that are there, no value within a JSON string, and
//! nothing that makes values of values without end.
//!
//! The engine's fuel counts steps and what each makes, but a list of one list twice is made in one step, and forty such
//! steps make what no conversion to text ends. So what a name stands for is a part of the event, or a text or number
//! that was counted; only what is written at once may be built of values, and its parts are counted here.

use super::PayloadFormat;
use crate::template::{NAME, Piece, Tag, Token, invalid, pieces};
use minijinja::{Environment, State, Value};
use tower_webhook::InvalidConfig;

/// The most `,` and `+` of a tag: a list of one value so often.
const MOST_PARTS: usize = 256;

/// The most `|groupby` of a template. Each has its values twice: as group and as key.
const MOST_GROUPS: usize = 4;

/// The most slices, such as `[1:]`, of a template: each looks into the one before, by recursion.
const MOST_SLICES: usize = 32;

/// What is no variable.
const CONSTANTS: &[&str] = &["true", "True", "false", "False", "none", "None"];

/// What is no operand: a `(` or `[` behind it begins one.
const OPERATORS: &[&str] = &["in", "not", "and", "or", "if", "elif", "else", "is"];

/// What each round of a loop reads, so that the [context](super::template::Context) looks at the clock.
pub(super) const CLOCK: &str = "__clock";

/// The template, with a look at the clock at the beginning of each loop's body. Adds no lines.
pub(super) fn timed(source: &str) -> String {
    let (mut timed, mut copied) = (String::with_capacity(source.len()), 0);
    for piece in pieces(source) {
        if let Piece::Tag(tag) = piece
            && tag.block
            && tag.tokens.first() == Some(&Token::Name("for"))
        {
            timed.push_str(&source[copied..tag.end]);
            copied = tag.end;
            // What the tag does to the space behind it.
            let trims = source[..tag.end].ends_with("-%}");
            let end = if trims { "-%}" } else { "%}" };
            timed.extend(["{%if ", CLOCK, "%}{%endif", end]);
        }
    }
    timed.push_str(&source[copied..]);
    timed
}

/// Checks a template that the engine has parsed.
pub(super) fn check(
    source: &str,
    format: PayloadFormat,
    environment: &Environment<'_>,
) -> Result<(), InvalidConfig> {
    let mut quotes = Quotes::default();
    let mut names = Names {
        state: environment.empty_state(),
        groups: 0,
        slices: 0,
    };
    for piece in pieces(source) {
        match piece {
            Piece::Text(text) => quotes.read(text),
            Piece::Tag(tag) if format == PayloadFormat::Json && quotes.open => {
                let line = source[..tag.start].matches('\n').count() + 1;
                let problem = format!(
                    "has quotes around a value in line {line}: leave them out, a value is written as JSON, with its \
                     quotes; join text with `~`, as in {{{{ \"id-\" ~ userId }}}}"
                );
                return Err(InvalidConfig::new(NAME, problem));
            }
            Piece::Tag(tag) => names
                .check(&tag)
                .map_err(|problem| invalid(source, tag.start, &problem))?,
        }
    }
    Ok(())
}

/// Whether a string of JSON is open. In JSON a value is written with its own quotes, so that what is in a string
/// would end it.
#[derive(Default)]
struct Quotes {
    open: bool,
    escaped: bool,
}

impl Quotes {
    fn read(&mut self, text: &str) {
        for byte in text.bytes() {
            let escaped = std::mem::take(&mut self.escaped);
            match byte {
                _ if escaped => {}
                b'"' => self.open = !self.open,
                b'\\' => self.escaped = self.open,
                _ => {}
            }
        }
    }
}

struct Names<'a> {
    state: State<'a, 'a>,
    groups: usize,
    slices: usize,
}

impl Names<'_> {
    fn check(&mut self, tag: &Tag<'_>) -> Result<(), String> {
        let tokens = &tag.tokens;
        let statement = match tokens.first() {
            Some(Token::Name(name)) if tag.block => *name,
            _ => "",
        };
        let parts = tokens.iter().filter(|token| is_sign(token, b",+"));
        if parts.count() > MOST_PARTS {
            return Err(format!("a tag must have {MOST_PARTS} `,` and `+` at most"));
        }
        let mut open = Vec::new();
        for token in tokens {
            match token {
                Token::Sign(sign @ (b'(' | b'[' | b'{')) => open.push(*sign),
                Token::Sign(b')' | b']' | b'}') => drop(open.pop()),
                Token::Sign(b':') if open.last() == Some(&b'[') => self.slices += 1,
                _ => {}
            }
        }
        if self.slices > MOST_SLICES {
            return Err(format!("there are more than {MOST_SLICES} `:` of slices"));
        }
        if tokens.iter().any(|token| is_sign(token, b"*")) {
            return Err("`*` repeats lists too: write `|times(2)`".into());
        }
        if statement == "with" {
            return Err("`with` is left out: use `set`".into());
        }
        if statement == "for" && tokens.last() == Some(&Token::Name("recursive")) {
            return Err("a loop must not be recursive".into());
        }
        for (at, token) in tokens.iter().enumerate().skip(usize::from(tag.block)) {
            if let Token::Name(name) = token {
                if *name == CLOCK {
                    return Err(format!("`{CLOCK}` is not for templates"));
                }
                self.name(tokens, at, name, statement)?;
            }
        }
        let head = match statement {
            "set" => tokens.iter().position(|token| is_sign(token, b"=")),
            "for" => tokens.iter().position(|token| *token == Token::Name("in")),
            _ => None,
        };
        head.map_or(Ok(()), |head| builds_nothing(&tokens[head..]))
    }

    fn name(
        &mut self,
        tokens: &[Token<'_>],
        at: usize,
        name: &str,
        statement: &str,
    ) -> Result<(), String> {
        let before = at.checked_sub(1).map(|at| &tokens[at]);
        let called = tokens.get(at + 1).is_some_and(|next| is_sign(next, b"("));
        let is_test = match before {
            Some(Token::Name("is")) => name != "not",
            Some(Token::Name("not")) => at > 1 && tokens[at - 2] == Token::Name("is"),
            _ => false,
        };
        let is_filter = before.is_some_and(|before| is_sign(before, b"|"))
            || (statement == "filter" && at == 1);
        if is_filter {
            return self.filter(&dotted(tokens, at, name), &tokens[at + 1..]);
        }
        if is_test {
            return self.known("test", &dotted(tokens, at, name));
        }
        if before.is_some_and(|before| is_sign(before, b".")) {
            let of_loop = at > 1
                && tokens[at - 2] == Token::Name("loop")
                && matches!(name, "cycle" | "changed");
            return if called && !of_loop {
                Err(format!("there is no method `{name}`"))
            } else {
                Ok(())
            };
        }
        let is_function = |name: &str| self.state.env().globals().any(|(known, _)| known == name);
        if called && !OPERATORS.contains(&name) && !is_function(name) {
            return Err(format!("there is no function `{name}`"));
        }
        Ok(())
    }

    fn filter(&mut self, name: &str, behind: &[Token<'_>]) -> Result<(), String> {
        self.known("filter", name)?;
        match (name, behind) {
            ("groupby", _) => {
                self.groups += 1;
                if self.groups > MOST_GROUPS {
                    return Err(format!("there are more than {MOST_GROUPS} `|groupby`"));
                }
            }
            (
                "map",
                [
                    Token::Sign(b'('),
                    Token::Text(filter),
                    Token::Sign(b')'),
                    ..,
                ],
            ) => {
                return self.known("filter", filter);
            }
            (
                "map",
                [
                    Token::Sign(b'('),
                    Token::Name("attribute"),
                    Token::Sign(b'='),
                    Token::Text(_) | Token::Number,
                    Token::Sign(b')'),
                    ..,
                ],
            ) => {}
            ("map", _) => {
                return Err("`map` takes one filter, or an `attribute`, and no more".into());
            }
            ("select" | "reject", [Token::Sign(b'('), Token::Text(test), ..])
            | (
                "selectattr" | "rejectattr",
                [
                    Token::Sign(b'('),
                    Token::Text(_),
                    Token::Sign(b','),
                    Token::Text(test),
                    ..,
                ],
            ) => return self.known("test", test),
            _ => {}
        }
        Ok(())
    }

    /// Whether there is a filter or test of this name: the engine has a test for each.
    fn known(&mut self, kind: &str, name: &str) -> Result<(), String> {
        match self.state.perform_test(kind, &[Value::from(name)]) {
            Ok(true) => Ok(()),
            _ => Err(format!("there is no {kind} `{name}`")),
        }
    }
}

/// The name of a filter or test, which may have dots.
fn dotted(tokens: &[Token<'_>], at: usize, name: &str) -> String {
    let mut all = name.to_owned();
    let mut rest = &tokens[at + 1..];
    while let [Token::Sign(b'.'), Token::Name(part), behind @ ..] = rest {
        all.push('.');
        all.push_str(part);
        rest = behind;
    }
    all
}

fn is_sign(token: &Token<'_>, signs: &[u8]) -> bool {
    matches!(token, Token::Sign(sign) if signs.contains(sign))
}

/// Whether what a name will stand for is no new value of several values. `head` begins with the `=` or `in`.
fn builds_nothing(head: &[Token<'_>]) -> Result<(), String> {
    let refused = || {
        Err("`set` and `for` must not build lists or objects of values, nor use `+`: write them where they are used, and join text with `~`".into())
    };
    // Where each bracket opens, and whether it makes a list or an object.
    let mut open: Vec<(usize, bool)> = Vec::new();
    for (at, token) in head.iter().enumerate().skip(1) {
        let behind_operand = match &head[at - 1] {
            Token::Text(_) | Token::Number => true,
            Token::Name(name) => !OPERATORS.contains(name),
            Token::Sign(sign) => matches!(sign, b')' | b']' | b'}'),
        };
        match token {
            Token::Sign(b'+') => return refused(),
            Token::Sign(b'{') => open.push((at, true)),
            Token::Sign(b'[') => open.push((at, !behind_operand)),
            Token::Sign(b'(') => open.push((at, head[at - 1] == Token::Name("dict"))),
            Token::Sign(b',') => match open.last_mut() {
                None => return refused(),
                // Of a tuple. Not of a call, whose bracket stands behind its name.
                Some((start, makes)) => {
                    let call =
                        matches!(&head[*start - 1], Token::Name(name) if !OPERATORS.contains(name));
                    *makes |= !call;
                }
            },
            Token::Sign(b')' | b']' | b'}') => {
                let variable = |token: &Token<'_>| matches!(token, Token::Name(name) if !CONSTANTS.contains(name));
                if let Some((start, true)) = open.pop()
                    && head[start..at].iter().any(variable)
                {
                    return refused();
                }
            }
            _ => {}
        }
    }
    Ok(())
}
