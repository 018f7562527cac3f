use super::Span;
use bytes::Bytes;

/// The longest text that becomes a key, in bytes.
pub(in crate::cognigy) const MAX_KEY: usize = 255;

/// Whether `null` stands at `span`.
pub(in crate::cognigy) fn is_null(body: &[u8], span: Span) -> bool {
    span.of(body) == b"null"
}

/// Text of a body: a part of it where it is spelled without escapes, which is nearly always.
#[derive(Clone, Debug)]
pub(in crate::cognigy) enum Text {
    Within(Span),
    Unescaped(Box<str>),
}

impl Text {
    /// The text at `span`; `None` where that is no JSON string, or no text (a lone surrogate).
    pub(in crate::cognigy) fn read(body: &[u8], span: Span) -> Option<Self> {
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
    /// control characters.
    pub(in crate::cognigy) fn key(body: &[u8], span: Span) -> Option<Self> {
        Self::id(body, span).filter(|text| (1..=MAX_KEY).contains(&text.bytes(body).len()))
    }

    /// The text at `span` if no control character is in it: it can be logged on one line.
    pub(in crate::cognigy) fn id(body: &[u8], span: Span) -> Option<Self> {
        let text = Self::read(body, span)?;
        let bytes = text.bytes(body);
        // Without a branch among them, which makes it a few vector instructions.
        let printable = |all, byte: &u8| all & matches!(byte, b' '..=b'~');
        let clean = bytes.iter().fold(true, printable) || !str_of(bytes).contains(char::is_control);
        clean.then_some(text)
    }

    /// The text at `span`, or the number there by its digits.
    pub(in crate::cognigy) fn or_number(body: &[u8], span: Span) -> Option<Self> {
        match span.of(body).first()? {
            b'-' | b'0'..=b'9' => Some(Self::Within(span)),
            _ => Self::read(body, span),
        }
    }

    fn bytes<'a>(&'a self, body: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Within(span) => span.of(body),
            Self::Unescaped(text) => text.as_bytes(),
        }
    }

    /// The text. `body` is the one that it was read from.
    pub(in crate::cognigy) fn as_str<'a>(&'a self, body: &'a Bytes) -> &'a str {
        match self {
            Self::Within(span) => span.str_of(body),
            Self::Unescaped(text) => text,
        }
    }
}

/// Bodies are checked to be UTF-8 before any part of them is looked at.
fn str_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
