use crate::cognigy::EventError;

/// Containers that may be open at once. `serde_json` types values up to this depth, so the open
/// part of a body that is let through can be typed.
pub(in crate::cognigy) const MAX_DEPTH: u32 = 128;

/// A part of the body, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cognigy) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    pub(in crate::cognigy) const fn all(body: &[u8]) -> Self {
        Self {
            start: 0,
            end: body.len(),
        }
    }

    /// The part of `body` that it stands for.
    pub(in crate::cognigy) fn of(self, body: &[u8]) -> &[u8] {
        // A span is made from the body that it is asked of; the default is for the type checker.
        body.get(self.start..self.end).unwrap_or_default()
    }

    /// The same as text: bodies are checked to be UTF-8 and spans end at ASCII characters.
    pub(in crate::cognigy) fn str_of(self, body: &[u8]) -> &str {
        std::str::from_utf8(self.of(body)).unwrap_or_default()
    }

    pub(in crate::cognigy) const fn len(self) -> usize {
        self.end - self.start
    }
}

/// One pass over a JSON text (RFC 8259), forwards, without recursion and without allocation.
///
/// It accepts what `serde_json` accepts when it ignores a value, up to [`MAX_DEPTH`]; a property
/// test in this file holds it to that.
#[derive(Debug)]
pub(in crate::cognigy) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    /// Objects that [`object`](Self::object) is in.
    depth: u32,
}

/// Boxed, so that the way of success stays in registers.
pub(in crate::cognigy) type Result<T = ()> = std::result::Result<T, Box<EventError>>;

impl<'a> Scanner<'a> {
    pub(in crate::cognigy) fn new(body: &'a [u8]) -> Result<Self> {
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
    /// `member` gets each key, between its quotes and as it is spelled, and must read the value.
    pub(in crate::cognigy) fn root(
        mut self,
        member: impl FnMut(&mut Self, &'a [u8]) -> Result,
    ) -> Result {
        self.space();
        match self.peek() {
            Some(b'{') => {}
            // What has the shape of another JSON value is named for what it is.
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

    /// Reads a value; where it is an object, as [`object`](Self::object) does.
    pub(in crate::cognigy) fn object_or_value(
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
        let start = self.at;
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(too_deep());
        }
        self.space();
        if self.peek() != Some(b'}') {
            loop {
                let key = self.key()?;
                member(self, key)?;
                self.space();
                match self.peek() {
                    Some(b',') => self.step_over_space(),
                    Some(b'}') => break,
                    _ => return Err(self.expected("`,` or `}`")),
                }
            }
        }
        self.at += 1;
        self.depth -= 1;
        let end = self.at;
        Ok(Span { start, end })
    }

    /// Reads the value that begins here, whatever it is.
    pub(in crate::cognigy) fn value(&mut self) -> Result<Span> {
        let start = self.at;
        // One bit for each container that is open, the innermost lowest: set for an object.
        let mut objects = 0_u128;
        let mut open = 0;
        loop {
            match self.peek() {
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(byte @ (b'{' | b'[')) => {
                    open += 1;
                    if self.depth + open > MAX_DEPTH {
                        return Err(too_deep());
                    }
                    let object = byte == b'{';
                    objects = objects << 1 | u128::from(object);
                    self.step_over_space();
                    match (self.peek(), object) {
                        // Closed below, as any other.
                        (Some(b'}'), true) | (Some(b']'), false) => {}
                        (_, true) => {
                            self.quoted_key()?;
                            self.colon()?;
                            continue;
                        }
                        (_, false) => continue,
                    }
                }
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                _ => return Err(self.expected("a value")),
            }
            // A value has ended, and with it every container that closes here.
            loop {
                if open == 0 {
                    let end = self.at;
                    return Ok(Span { start, end });
                }
                self.space();
                match (self.peek(), objects & 1 == 1) {
                    (Some(b','), object) => {
                        self.step_over_space();
                        if object {
                            self.quoted_key()?;
                            self.colon()?;
                        }
                        break;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        self.at += 1;
                        open -= 1;
                        objects >>= 1;
                    }
                    (_, true) => return Err(self.expected("`,` or `}`")),
                    (_, false) => return Err(self.expected("`,` or `]`")),
                }
            }
        }
    }

    /// Reads a key and what leads to its value. Gives what is between the quotes.
    fn key(&mut self) -> Result<&'a [u8]> {
        let start = self.at + 1;
        self.quoted_key()?;
        let key = self.text.get(start..self.at - 1).unwrap_or_default();
        self.colon()?;
        Ok(key)
    }

    #[inline]
    fn quoted_key(&mut self) -> Result {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a key in quotes"));
        }
        self.string()
    }

    #[inline]
    fn colon(&mut self) -> Result {
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.expected("`:`"));
        }
        self.step_over_space();
        Ok(())
    }

    /// Reads the string that begins here.
    #[inline]
    fn string(&mut self) -> Result {
        self.at += 1;
        loop {
            // Eight bytes at a time, up to the last eight of the body.
            while let Some(chunk) = self.text.get(self.at..).and_then(<[u8]>::first_chunk::<8>) {
                let ends = ends_of_plain_text(*chunk);
                if ends == 0 {
                    self.at += 8;
                    continue;
                }
                self.at += (ends.trailing_zeros() / 8) as usize;
                break;
            }
            if self.peek() == Some(b'"') {
                self.at += 1;
                return Ok(());
            }
            self.special()?;
        }
    }

    /// Reads one character of a string that is not simply plain.
    #[cold]
    fn special(&mut self) -> Result {
        match self.peek() {
            Some(b'\\') => {
                self.at += 1;
                self.escape()
            }
            Some(0..0x20) => Err(self.expected("an escape for the control character")),
            Some(_) => {
                self.at += 1;
                Ok(())
            }
            None => Err(self.expected("`\"`")),
        }
    }

    /// Reads what follows a backslash. Whether surrogates come in pairs is asked where the text
    /// is needed: an event must not be lost for half an emoji in a field that nobody reads.
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

#[cold]
#[allow(clippy::unnecessary_box_returns, reason = "as in `Result`")]
fn too_deep() -> Box<EventError> {
    EventError::Deep { limit: MAX_DEPTH }.into()
}

/// The high bit of each byte that ends plain text in a string: a quote, a backslash or a control
/// character. Bytes above the lowest such one may be marked too.
#[inline]
const fn ends_of_plain_text(chunk: [u8; 8]) -> u64 {
    const ONES: u64 = u64::MAX / 255;

    let word = u64::from_le_bytes(chunk);
    // Subtraction borrows into the high bit of a byte that is less. `^ 2` makes a quote (0x22) less
    // than 0x21, keeps control characters there, and lifts the space and `!` above it.
    let quote_or_control = (word ^ (ONES * 0x02)).wrapping_sub(ONES * 0x21);
    let backslash = (word ^ (ONES * 0x5c)).wrapping_sub(ONES);
    (quote_or_control | backslash) & !word & (ONES << 7)
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
        // Brackets in text are text.
        let text = [r#"{"a":""#, &"[{".repeat(20_000), r#""}"#].concat();
        assert_eq!(outcome(text.as_bytes()), Ok(()));
    }

    #[test]
    fn plain_text_ends_where_it_ends() {
        for byte in 0..=u8::MAX {
            let ends = byte < 0x20 || byte == b'"' || byte == b'\\';
            for at in 0..8_u32 {
                for around in [b'x', b' ', b'!', b'#', 0x7f, 0x80, 0xa2, 0xdc, 0xff] {
                    let mut chunk = [around; 8];
                    chunk[at as usize] = byte;
                    let found = ends_of_plain_text(chunk).trailing_zeros() / 8;
                    assert_eq!(found, if ends { at } else { 8 }, "{chunk:x?}");
                }
            }
        }
    }

    /// JSON, and what is nearly JSON.
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
        fn never_panics_on_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = scan(&bytes);
        }
    }
}
