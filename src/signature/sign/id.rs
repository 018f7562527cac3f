use super::SignError;
use http::HeaderValue;
use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
};

/// An id is part of what is signed and of a log line.
const MAX: usize = 255;

/// The id of an outgoing message: the same for each attempt, so that the receiver knows a repeated
/// delivery when it sees one. A request extension that [`Sign`](super::Sign) reads.
///
/// 1 to 255 visible ASCII characters without a full stop, which separates the id from the timestamp
/// in what is signed (Standard Webhooks asks for that).
///
/// # Examples
///
/// ```
/// use tower_webhook::signature::MessageId;
///
/// let mine = MessageId::new("order-17-paid")?;
/// let random = MessageId::generate();
/// assert_ne!(random, MessageId::generate());
/// assert!(MessageId::new("order.17").is_err());
/// # let _ = mine;
/// # Ok::<(), tower_webhook::signature::SignError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MessageId(HeaderValue);

impl MessageId {
    /// An id of your own, such as the key of the event in your database.
    ///
    /// # Errors
    ///
    /// [`SignError::InvalidId`].
    pub fn new(id: &str) -> Result<Self, SignError> {
        let value = HeaderValue::from_str(id).map_err(|_| SignError::InvalidId)?;
        Self::from_value(value)
    }

    /// `msg_` and 128 random bits in hexadecimal.
    ///
    /// Unique, not secret: each half is a keyed hash of a pseudo-random number, and the key comes
    /// from the operating system.
    #[expect(clippy::missing_panics_doc, reason = "it does not")]
    pub fn generate() -> Self {
        let [first, second] = [(); 2].map(|()| RandomState::new().hash_one(fastrand::u64(..)));
        let text = format!("msg_{first:016x}{second:016x}");
        // Invariant: hexadecimal digits and an underscore.
        #[expect(clippy::expect_used, reason = "visible ASCII")]
        let value = HeaderValue::try_from(text).expect("visible ASCII is a header value");
        Self(value)
    }

    pub(super) fn from_value(value: HeaderValue) -> Result<Self, SignError> {
        if Self::is_valid(value.as_bytes()) {
            Ok(Self(value))
        } else {
            Err(SignError::InvalidId)
        }
    }

    /// Whether these bytes are an id.
    #[inline]
    pub(in crate::signature) fn is_valid(bytes: &[u8]) -> bool {
        // Folded rather than left at the first bad byte, so that it is done several at a time.
        let bad = |byte: &u8| !matches!(byte, b'!'..=b'~') || *byte == b'.';
        (1..=MAX).contains(&bytes.len()) && !bytes.iter().fold(false, |seen, byte| seen | bad(byte))
    }

    pub(in crate::signature) const fn as_value(&self) -> &HeaderValue {
        &self.0
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Visible ASCII by construction.
        self.0.to_str().unwrap_or_default()
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MessageId").field(&self.as_str()).finish()
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        for good in [
            "a",
            "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
            "~!,;=/",
            &"x".repeat(255),
        ] {
            assert_eq!(
                MessageId::new(good).map(|id| id.to_string()).as_deref(),
                Ok(good)
            );
        }
        for bad in [
            "",
            ".",
            "a.b",
            "a b",
            "a\tb",
            "a\n",
            "é",
            "\u{7f}",
            &"x".repeat(256),
        ] {
            assert_eq!(MessageId::new(bad), Err(SignError::InvalidId), "{bad:?}");
        }
        let generated = MessageId::generate();
        assert!(generated.as_str().starts_with("msg_"));
        assert_eq!(generated.as_str().len(), 36);
        assert!(MessageId::is_valid(generated.as_str().as_bytes()));
    }
}
