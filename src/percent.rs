//! Percent-encoding ([RFC 3986 §2.1](https://www.rfc-editor.org/rfc/rfc3986#section-2.1)), for texts that differ in
//! which bytes they leave plain.

#[cfg(any(
    feature = "dead-letter",
    feature = "http-message-signatures",
    feature = "idempotency"
))]
use std::borrow::Cow;
use std::fmt::Write as _;

/// Appends `text`, with every byte encoded but those that are plain.
pub(crate) fn push_encoded(out: &mut String, text: &str, is_plain: impl Fn(u8) -> bool) {
    for byte in text.bytes() {
        if is_plain(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// Decodes `%74` and the like. What is not so encoded stays as it is, and what is no UTF-8 becomes U+FFFD.
#[cfg(any(
    feature = "dead-letter",
    feature = "http-message-signatures",
    feature = "idempotency"
))]
pub(crate) fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |digit: &u8| char::from(*digit).to_digit(16);
        let escaped = match tail {
            [high, low, ..] if *first == b'%' => hex(high).zip(hex(low)),
            _ => None,
        };
        if let Some(byte) = escaped.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            bytes.push(byte);
            rest = tail.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}
