use std::{fmt, sync::Arc};

/// The longest id, in bytes: Stripe's limit, and more than any provider's delivery id.
pub const MAX_ID_LEN: usize = 255;

/// The longest scope, in bytes: room for a path and a tenant.
pub const MAX_SCOPE_LEN: usize = 1024;

/// What makes two requests the same: an id, within a scope.
///
/// The scope (a route, a tenant) keeps one caller's ids apart from another's. The two are framed,
/// not joined: scope `a` with id `bc` is another key than scope `ab` with id `c`.
///
/// `Debug` and `Display` do not show the id, which may be a customer's.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdempotencyKey {
    /// The scope, then the id.
    text: Arc<str>,
    scope_len: u16,
}

impl IdempotencyKey {
    /// Frames `id` with `scope`.
    ///
    /// # Errors
    ///
    /// [`KeyError`] when the id is empty, longer than [`MAX_ID_LEN`] or contains a control
    /// character, or the scope is longer than [`MAX_SCOPE_LEN`].
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_webhook::idempotency::{Key, KeyError};
    ///
    /// let key = Key::new("tenant-7", "evt_1")?;
    /// assert_eq!((key.scope(), key.id()), ("tenant-7", "evt_1"));
    /// assert_ne!(Key::new("a", "bc")?, Key::new("ab", "c")?);
    /// assert_eq!(Key::new("tenant-7", ""), Err(KeyError::Empty));
    /// # Ok::<(), KeyError>(())
    /// ```
    pub fn new(scope: &str, id: &str) -> Result<Self, KeyError> {
        if id.is_empty() {
            return Err(KeyError::Empty);
        }
        if id.len() > MAX_ID_LEN {
            return Err(KeyError::TooLong { len: id.len() });
        }
        if id.contains(char::is_control) {
            return Err(KeyError::Malformed);
        }
        let scope_len = match u16::try_from(scope.len()) {
            Ok(len) if scope.len() <= MAX_SCOPE_LEN => len,
            _ => return Err(KeyError::ScopeTooLong { len: scope.len() }),
        };
        Ok(Self {
            text: join(scope, id),
            scope_len,
        })
    }

    /// The scope.
    pub fn scope(&self) -> &str {
        self.text
            .get(..usize::from(self.scope_len))
            .unwrap_or_default()
    }

    /// The id.
    pub fn id(&self) -> &str {
        self.text
            .get(usize::from(self.scope_len)..)
            .unwrap_or_default()
    }
}

/// The usual key in one allocation: an `Arc` copies what it is made of, so it is put together here.
fn join(scope: &str, id: &str) -> Arc<str> {
    let mut usual = [0; 256];
    if let Some(text) = usual.get_mut(..scope.len() + id.len()) {
        let (head, tail) = text.split_at_mut(scope.len());
        head.copy_from_slice(scope.as_bytes());
        tail.copy_from_slice(id.as_bytes());
        if let Ok(text) = std::str::from_utf8(text) {
            return text.into();
        }
    }
    [scope, id].concat().into()
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyKey")
            .field("scope", &self.scope())
            .finish_non_exhaustive()
    }
}

/// Why a request has no usable key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyError {
    /// The id is empty.
    Empty,
    /// Not text, or text with a control character, or a quoted string that does not close.
    Malformed,
    /// There is no id where one is required.
    Missing,
    /// The request carries more than one id.
    Repeated,
    /// The scope is longer than [`MAX_SCOPE_LEN`].
    ScopeTooLong {
        /// Its length, in bytes.
        len: usize,
    },
    /// The id is longer than [`MAX_ID_LEN`].
    TooLong {
        /// Its length, in bytes.
        len: usize,
    },
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the idempotency key is empty"),
            Self::Malformed => f.write_str("the idempotency key is malformed"),
            Self::Missing => f.write_str("the idempotency key is missing"),
            Self::Repeated => f.write_str("the request has more than one idempotency key"),
            Self::ScopeTooLong { len } => {
                write!(f, "the scope has {len} bytes, {MAX_SCOPE_LEN} at the most")
            }
            Self::TooLong { len } => write!(
                f,
                "the idempotency key has {len} bytes, {MAX_ID_LEN} at the most"
            ),
        }
    }
}

impl std::error::Error for KeyError {}
