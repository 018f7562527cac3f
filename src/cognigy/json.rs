//! Finds the positions of the fields of an event in the bytes of a body.
//!
//! Serde's derive and `RawValue` are not enough. A deferred value has no depth limit. If its depth were
//! checked by typing it, a lone surrogate or a number out of range in an unused field would lose the
//! event. `payload.profile` costs a second pass over the payload. Errors have a line instead of a byte
//! position, and quote values. One pass of [`Scanner`] checks the grammar of the whole body, limits its
//! depth, refuses documented fields that occur twice, and returns the [`Span`] of each. Serde types the
//! open part ([`typed`](super::typed)).

use super::EventError;

/// The largest number of nested containers. `serde_json` types values up to this depth, so the open part
/// of an accepted body can be typed.
pub(super) const MAX_DEPTH: u32 = 128;

/// The longest text that can be used as a key, in bytes.
pub(super) const MAX_KEY: usize = 255;

/// A part of the body, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    start: usize,
    end: usize,
}

impl Span {
    pub(super) const fn all(body: &[u8]) -> Self {
        Self {
            start: 0,
            end: body.len(),
        }
    }

    /// The part of `body` at this span.
    pub(super) fn of(self, body: &[u8]) -> &[u8] {
        // A span is always used with the body that it was made from; the default is never reached.
        body.get(self.start..self.end).unwrap_or_default()
    }

    /// The same as text: bodies are checked to be UTF-8, and spans end at ASCII characters.
    pub(super) fn str_of(self, body: &[u8]) -> &str {
        std::str::from_utf8(self.of(body)).unwrap_or_default()
    }

    pub(super) const fn len(self) -> usize {
        self.end - self.start
    }
}

/// The spans of the named members of an object, by index into their names.
#[derive(Debug)]
pub(super) struct Members<const N: usize> {
    /// The path before the names: empty, or ends with a dot.
    within: &'static str,
    names: &'static [&'static str; N],
    spans: [Option<Span>; N],
}

impl<const N: usize> Members<N> {
    pub(super) const fn new(within: &'static str, names: &'static [&'static str; N]) -> Self {
        Self {
            within,
            names,
            spans: [None; N],
        }
    }

    /// The index of the member named `key`, which must not have been read before: of two values, some
    /// readers use the first and others the last, which lets attackers bypass checks.
    ///
    /// `key` is unparsed: escapes are decoded here.
    pub(super) fn find(&self, key: &[u8]) -> Result<Option<usize>> {
        let named = |key: &[u8]| self.names.iter().position(|name| name.as_bytes() == key);
        let index = match named(key) {
            None if key.contains(&b'\\') => named(unescape(key).as_bytes()),
            index => index,
        };
        let Some(index) = index else {
            return Ok(None);
        };
        match self.spans[index] {
            None => Ok(Some(index)),
            Some(_) => Err(EventError::Duplicate {
                field: [self.within, self.names[index]].concat().into(),
            }
            .into()),
        }
    }

    pub(super) const fn set(&mut self, index: usize, span: Span) {
        self.spans[index] = Some(span);
    }

    pub(super) const fn get(&self, index: usize) -> Option<Span> {
        self.spans[index]
    }

    /// Reads a value and, if it is an object, records its named members.
    pub(super) fn read(&mut self, scan: &mut Scanner<'_>) -> Result<Span> {
        scan.object_or_value(|scan, key| {
            let index = self.find(key)?;
            let value = scan.value()?;
            if let Some(index) = index {
                self.set(index, value);
            }
            Ok(())
        })
    }
}

/// Decodes a key with escapes. Empty, which matches no name, if it is not text.
fn unescape(key: &[u8]) -> String {
    let quoted = [b"\"", key, b"\""].concat();
    serde_json::from_slice(&quoted).unwrap_or_default()
}

/// Whether the value at `span` is `null`.
pub(super) fn is_null(body: &[u8], span: Span) -> bool {
    span.of(body) == b"null"
}

/// Text of a body. If it is written without escapes, as nearly always, it is a part of the body.
#[derive(Clone, Debug)]
pub(super) enum Text {
    Within(Span),
    Unescaped(Box<str>),
}

impl Text {
    /// The text at `span`; `None` if that is not a JSON string, or not text (a lone surrogate).
    pub(super) fn read(body: &[u8], span: Span) -> Option<Self> {
        let json = span.of(body);
        let (b'"', inner) = json.split_first()? else {
            return None;
        };
        if inner.contains(&b'\\') {
            return serde_json::from_slice(json).ok().map(Self::Unescaped);
        }
        Some(Self::Within(Span {
            start: span.start + 1,
            end: span.end - 1,
        }))
    }

    /// The text at `span` if it can serve as a key: not empty, at most [`MAX_KEY`] bytes, no
    /// control characters, no whitespace around it.
    pub(super) fn key(body: &[u8], span: Span) -> Option<Self> {
        Self::id(body, span).filter(|text| {
            let text = text.as_str(body);
            (1..=MAX_KEY).contains(&text.len()) && text.trim().len() == text.len()
        })
    }

    /// The text at `span` if it has no control character, so that it can be logged on one line.
    pub(super) fn id(body: &[u8], span: Span) -> Option<Self> {
        let text = Self::read(body, span)?;
        (!has_control(text.as_str(body))).then_some(text)
    }

    /// The text at `span`, or the digits of the number there.
    pub(super) fn or_number(body: &[u8], span: Span) -> Option<Self> {
        match span.of(body).first()? {
            b'-' | b'0'..=b'9' => Some(Self::Within(span)),
            _ => Self::read(body, span),
        }
    }

    /// The text. `body` is the one that it was read from.
    pub(super) fn as_str<'a>(&'a self, body: &'a [u8]) -> &'a str {
        match self {
            Self::Within(span) => span.str_of(body),
            Self::Unescaped(text) => text,
        }
    }
}

fn has_control(text: &str) -> bool {
    // Most ids are visible ASCII, which is checked many bytes at a time.
    let is_odd = |odd, byte: &u8| odd | !matches!(byte, b' '..=b'~');
    text.as_bytes().iter().fold(false, is_odd) && text.contains(char::is_control)
}

/// Boxed, so that the success path stays in registers.
pub(super) type Result<T = ()> = std::result::Result<T, Box<EventError>>;

/// One pass over a JSON text (RFC 8259), forwards and without allocation.
///
/// It accepts the same texts as `serde_json` when that ignores a value, up to [`MAX_DEPTH`]; a property
/// test in this file checks this.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    /// Objects and arrays that are open.
    depth: u32,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(body: &'a [u8]) -> Result<Self> {
        if let Err(error) = std::str::from_utf8(body) {
            let offset = error.valid_up_to();
            return Err(EventError::Encoding { offset }.into());
        }
        Ok(Self {
            text: body,
            at: 0,
            depth: 0,
        })
    }

    /// Reads the object that is the whole text.
    ///
    /// `member` gets each key, unparsed and without its quotes, and must read the value.
    pub(super) fn root(mut self, member: impl FnMut(&mut Self, &'a [u8]) -> Result) -> Result {
        self.space();
        match self.peek() {
            Some(b'{') => {}
            // Another JSON value is reported as such.
            Some(b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                return Err(EventError::NotAnObject.into());
            }
            _ => return Err(self.expected("a JSON object")),
        }
        self.object(member)?;
        self.space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.expected("the end of the body")),
        }
    }

    /// Reads a value; if it is an object, like [`object`](Self::object).
    pub(super) fn object_or_value(
        &mut self,
        member: impl FnMut(&mut Self, &'a [u8]) -> Result,
    ) -> Result<Span> {
        match self.peek() {
            Some(b'{') => self.object(member),
            _ => self.value(),
        }
    }

    /// Reads the object that begins here.
    fn object(&mut self, mut member: impl FnMut(&mut Self, &'a [u8]) -> Result) -> Result<Span> {
        self.container(b'}', "`,` or `}`", |scan| {
            let key = scan.key()?;
            member(scan, key)
        })
    }

    /// Reads the value of any type that begins here.
    pub(super) fn value(&mut self) -> Result<Span> {
        let start = self.at;
        match self.peek() {
            Some(b'{') => return self.object(|scan, _| scan.value().map(drop)),
            Some(b'[') => return self.container(b']', "`,` or `]`", |scan| scan.value().map(drop)),
            Some(b'"') => self.string()?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word(b"true")?,
            Some(b'f') => self.word(b"false")?,
            Some(b'n') => self.word(b"null")?,
            _ => return Err(self.expected("a value")),
        }
        let end = self.at;
        Ok(Span { start, end })
    }

    /// Reads the object or array that begins here, up to `close`.
    fn container(
        &mut self,
        close: u8,
        between: &'static str,
        mut item: impl FnMut(&mut Self) -> Result,
    ) -> Result<Span> {
        let start = self.at;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(EventError::Deep { limit: MAX_DEPTH }.into());
        }
        self.step_over_space();
        if self.peek() != Some(close) {
            loop {
                item(self)?;
                self.space();
                match self.peek() {
                    Some(b',') => self.step_over_space(),
                    Some(byte) if byte == close => break,
                    _ => return Err(self.expected(between)),
                }
            }
        }
        self.at += 1;
        self.depth -= 1;
        let end = self.at;
        Ok(Span { start, end })
    }

    /// Reads a key and the colon after it. Returns the text between the quotes.
    fn key(&mut self) -> Result<&'a [u8]> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a key in quotes"));
        }
        let start = self.at + 1;
        self.string()?;
        let key = self.text.get(start..self.at - 1).unwrap_or_default();
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.expected("`:`"));
        }
        self.step_over_space();
        Ok(key)
    }

    /// Reads the string that begins here. Surrogate pairs are checked only where the text is needed: an event
    /// must not be lost because of half an emoji in an unused field.
    fn string(&mut self) -> Result {
        self.at += 1;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let length = plain(rest);
            self.at += length + 1;
            match rest.get(length) {
                Some(b'"') => return Ok(()),
                Some(b'\\') => self.escape()?,
                other => {
                    self.at -= 1;
                    return Err(self.expected(match other {
                        Some(_) => "an escape for the control character",
                        None => "`\"`",
                    }));
                }
            }
        }
    }

    /// Reads the rest of an escape after its backslash.
    fn escape(&mut self) -> Result {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    match self.peek() {
                        Some(byte) if byte.is_ascii_hexdigit() => self.at += 1,
                        _ => return Err(self.expected("four hexadecimal digits")),
                    }
                }
            }
            _ => return Err(self.expected("an escape")),
        }
        Ok(())
    }

    /// Reads the number that begins here (RFC 8259 §6).
    fn number(&mut self) -> Result {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.expected("a digit"));
        }
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            return Err(self.expected("a value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn step_over_space(&mut self) {
        self.at += 1;
        self.space();
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[cold]
    #[inline(never)]
    #[allow(clippy::unnecessary_box_returns, reason = "as in `Result`")]
    fn expected(&self, expected: &'static str) -> Box<EventError> {
        let offset = self.at;
        EventError::Syntax { offset, expected }.into()
    }
}

/// The number of bytes before the first quote, backslash or control character.
#[inline]
fn plain(text: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    // Eight bytes at a time: a byte that is less than `n` borrows, which its highest bit tells. Bytes after the
    // first such one may be told wrongly.
    let less = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word & HIGHS;
    let equal = |word: u64, byte: u8| less(word ^ (ONES * u64::from(byte)), 1);
    let (words, rest) = text.as_chunks();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = less(word, 0x20) | equal(word, b'"') | equal(word, b'\\');
        if found != 0 {
            return at * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let is_plain = |byte: &&u8| !matches!(byte, b'"' | b'\\' | 0..0x20);
    words.len() * 8 + rest.iter().take_while(is_plain).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(text: &[u8]) -> Result {
        Scanner::new(text)?.root(|scan, _| scan.value().map(drop))
    }

    fn outcome(text: &[u8]) -> std::result::Result<(), EventError> {
        scan(text).map_err(|error| *error)
    }

    fn offset(text: &str) -> Option<usize> {
        match outcome(text.as_bytes()) {
            Err(EventError::Syntax { offset, .. }) => Some(offset),
            _ => None,
        }
    }

    #[test]
    fn syntax_errors_stand_where_they_are() {
        for (text, at) in [
            ("", 0),
            ("  ", 2),
            ("\u{feff}{}", 0),
            ("{", 1),
            ("{}}", 2),
            (r#"{"a":1,}"#, 7),
            (r#"{"a":01}"#, 6),
            (r#"{"a":+1}"#, 5),
            (r#"{"a":1.}"#, 7),
            (r#"{"a":1e}"#, 7),
            (r#"{"a":nul}"#, 5),
            (r#"{"a" 1}"#, 5),
            (r#"{"a":[1 2]}"#, 8),
            (r#"{"a":{"b":1]}"#, 11),
            (r#"{"a":"\x"}"#, 7),
            (r#"{"a":"\u12g4"}"#, 10),
            ("{\"a\":\"\n\"}", 6),
            ("{\"a\":\"\0\"}", 6),
            (r#"{"a":"b"#, 7),
            (r"{a:1}", 1),
            ("{\"a\":1\u{a0}}", 6),
        ] {
            assert_eq!(offset(text), Some(at), "{text:?}");
        }
    }

    #[test]
    fn depth_is_bounded_everywhere() {
        let nest = |levels: usize| {
            let body = [r#"{"a":"#, &"[".repeat(levels), &"]".repeat(levels), "}"].concat();
            outcome(body.as_bytes())
        };
        assert_eq!(nest(127), Ok(()));
        assert_eq!(nest(128), Err(EventError::Deep { limit: 128 }));
        assert_eq!(nest(20_000), Err(EventError::Deep { limit: 128 }));

        let objects = r#"{"a":"#.repeat(20_000);
        assert_eq!(
            outcome(objects.as_bytes()),
            Err(EventError::Deep { limit: 128 })
        );
        // Brackets inside text do not nest.
        let text = [r#"{"a":""#, &"[{".repeat(20_000), r#""}"#].concat();
        assert_eq!(outcome(text.as_bytes()), Ok(()));
    }

    /// JSON, and text that is nearly JSON.
    fn nearly_json() -> impl Strategy<Value = String> {
        let words = "{ } [ ] , : \" \\ \\u d800 \\n \"a\" \"a\": 1 - 0 . 5e+1 E true false null nul é \
                     \u{7f} \u{feff} {\"a\":{}} [[],{}] \"\\\"\" 0.1e-2";
        let pieces = words.split(' ').chain([" ", "\n", "\t", "\0"]);
        let piece = prop::sample::select(pieces.collect::<Vec<_>>());
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn judges_as_serde_json_does(inner in nearly_json()) {
            for text in [inner.clone(), format!("{{\"k\":{inner}}}"), format!("{{\"k\":\"{inner}\"}}")] {
                let ours = scan(text.as_bytes()).is_ok();
                let object = text.trim_start_matches([' ', '\n', '\r', '\t']).starts_with('{');
                let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok() && object;
                prop_assert_eq!(ours, theirs, "{:?}", text);
            }
        }

        #[test]
        fn plain_bytes_are_counted(text: Vec<u8>, byte: u8, at: prop::sample::Index) {
            let one_by_one = |text: &[u8]| {
                let plain = |byte: &&u8| !matches!(byte, b'"' | b'\\' | 0..0x20);
                text.iter().take_while(plain).count()
            };
            prop_assert_eq!(plain(&text), one_by_one(&text));
            // Most random text ends within a word; this does not.
            let mut letters = [b'a'; 40];
            letters[at.index(40)] = byte;
            prop_assert_eq!(plain(&letters), one_by_one(&letters));
        }

        #[test]
        fn never_panics_on_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = scan(&bytes);
        }
    }
}
