use data_encoding::HEXLOWER;
use std::{fmt, str::FromStr};

/// The name of an entry: 128 bits from the operating system's random source, as 32 hexadecimal
/// digits. Nothing else is an id, so that an id from outside cannot be a path or a pattern.
///
/// # Examples
///
/// ```
/// use tower_webhook::dead_letter::EntryId;
///
/// let id = EntryId::random();
/// assert_eq!(id.to_string().parse(), Ok(id));
/// assert!("../../etc/passwd".parse::<EntryId>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId([u8; 16]);

impl EntryId {
    /// An id that nobody can guess.
    ///
    /// # Panics
    ///
    /// When the operating system has no randomness to give, which no supported one does once it
    /// has started.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        // A guessable id would be worse than none.
        #[expect(clippy::expect_used, reason = "documented")]
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        Self(bytes)
    }

    /// An id of these bytes: one that was made elsewhere, such as that of the job that has failed.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 32];
        HEXLOWER.encode_mut(&self.0, &mut text);
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryId({self})")
    }
}

impl FromStr for EntryId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let mut bytes = [0; 16];
        if text.len() != 32 {
            return Err(NotAnId);
        }
        HEXLOWER
            .decode_mut(text.as_bytes(), &mut bytes)
            .map_err(|_| NotAnId)?;
        Ok(Self(bytes))
    }
}

/// A text that is not 32 hexadecimal digits in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id is 32 hexadecimal digits in lower case")
    }
}

impl std::error::Error for NotAnId {}
