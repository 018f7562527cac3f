use super::Backend;
use std::{fmt, sync::Arc};
use zeroize::Zeroizing;

/// A secret shared with a sender or receiver, as it was handed out: the text `whsec_...`, not what
/// it decodes to. What the text means is the [scheme](super::scheme)'s business.
///
/// It is overwritten with zeros when it is dropped, and `Debug` shows the label alone.
///
/// # Examples
///
/// ```
/// use tower_webhook::signature::Secret;
///
/// let secret = Secret::new("It's a Secret to Everybody").label("2026-11");
/// assert_eq!(format!("{secret:?}"), r#"Secret("2026-11")"#);
/// ```
#[derive(Clone)]
#[must_use]
pub struct Secret {
    text: Zeroizing<Vec<u8>>,
    label: Option<Arc<str>>,
}

impl Secret {
    /// A secret of these bytes. A `String` or `Vec` is moved, not copied.
    ///
    /// An empty one is refused by whatever is built from it.
    pub fn new(text: impl Into<Vec<u8>>) -> Self {
        Self {
            text: Zeroizing::new(text.into()),
            label: None,
        }
    }

    /// The name under which logs, metrics and handlers see that this secret matched. Default:
    /// `key-1` for the first of a list, `key-2` for the second, and so on.
    pub fn label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.text
    }

    pub(super) const fn label_text(&self) -> Option<&Arc<str>> {
        self.label.as_ref()
    }
}

/// What base64 text decodes to, with its padding or without.
pub(super) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let encoding = match text.last() {
        Some(b'=') => data_encoding::BASE64,
        _ if text.len().is_multiple_of(4) => data_encoding::BASE64,
        _ => data_encoding::BASE64_NOPAD,
    };
    encoding.decode(text).ok()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secret")
            .field(&self.label.as_deref().unwrap_or("unlabelled"))
            .finish()
    }
}

/// One secret or several: what a scheme is built from, and what [`Keys::replace`] takes.
///
/// [`Keys::replace`]: super::Keys::replace
///
/// The first is the one that signs where a scheme has room for one signature.
///
/// # Examples
///
/// ```
/// use tower_webhook::signature::{Backend, Secret, Secrets};
///
/// let one = Secrets::from("an old friend");
/// let rotating = Secrets::from([
///     Secret::new("the new one").label("2026-11"),
///     Secret::new("the old one").label("2025-11"),
/// ]);
/// let elsewhere = one.backend(Backend::RustCrypto);
/// # let _ = (rotating, elsewhere);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Secrets {
    pub(super) list: Vec<Secret>,
    pub(super) backend: Backend,
}

impl Secrets {
    /// The code that computes MACs with these secrets. Default: [`Backend::default`].
    pub const fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }
}

impl FromIterator<Secret> for Secrets {
    fn from_iter<I: IntoIterator<Item = Secret>>(secrets: I) -> Self {
        Self {
            list: secrets.into_iter().collect(),
            backend: Backend::default(),
        }
    }
}

impl From<Secret> for Secrets {
    fn from(secret: Secret) -> Self {
        Self::from_iter([secret])
    }
}

impl From<Vec<Secret>> for Secrets {
    fn from(secrets: Vec<Secret>) -> Self {
        Self::from_iter(secrets)
    }
}

impl<const N: usize> From<[Secret; N]> for Secrets {
    fn from(secrets: [Secret; N]) -> Self {
        Self::from_iter(secrets)
    }
}

macro_rules! from_text {
    ($($text:ty),+) => {$(
        impl From<$text> for Secret {
            fn from(text: $text) -> Self {
                Self::new(text)
            }
        }

        impl From<$text> for Secrets {
            fn from(text: $text) -> Self {
                Self::from(Secret::new(text))
            }
        }
    )+};
}
from_text!(&str, String, &[u8], Vec<u8>);
