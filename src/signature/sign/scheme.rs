use super::{MessageId, SignError};
use http::{HeaderMap, HeaderName};
use std::sync::Arc;

/// Writes the headers that a [`Scheme`](crate::signature::Scheme) verifies. All schemes of this
/// crate but `AnyOf` do both.
pub trait SignScheme: Send + Sync + 'static {
    /// The header of the message id, if the scheme signs one. Default: none.
    fn id_header(&self) -> Option<&HeaderName> {
        None
    }

    /// Adds the headers, in the place of any that are there. Neither blocks nor panics.
    ///
    /// # Errors
    ///
    /// [`SignError`]: the request is not sent.
    fn sign(&self, message: &Outgoing<'_>, headers: &mut HeaderMap) -> Result<(), SignError>;
}

macro_rules! through_pointer {
    ($($pointer:ident),+) => {$(
        impl<T: SignScheme + ?Sized> SignScheme for $pointer<T> {
            fn id_header(&self) -> Option<&HeaderName> {
                (**self).id_header()
            }

            fn sign(
                &self,
                message: &Outgoing<'_>,
                headers: &mut HeaderMap,
            ) -> Result<(), SignError> {
                (**self).sign(message, headers)
            }
        }
    )+};
}
through_pointer!(Arc, Box);

/// What a [`SignScheme`] signs.
///
/// # Examples
///
/// Signing without a layer:
///
/// ```
/// use http::HeaderMap;
/// use tower_webhook::signature::{Outgoing, SignScheme, scheme::GitHub};
///
/// let mut headers = HeaderMap::new();
/// let message = Outgoing::new(b"Hello, World!", 1_700_000_000);
/// GitHub::new("It's a Secret to Everybody")?.sign(&message, &mut headers)?;
/// assert_eq!(
///     headers["x-hub-signature-256"],
///     "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
/// );
/// # Ok::<(), tower_webhook::BoxError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    id: Option<&'a MessageId>,
    unix_seconds: u64,
    body: &'a [u8],
}

impl<'a> Outgoing<'a> {
    /// A message with this body, at this time in seconds since 1970.
    pub const fn new(body: &'a [u8], unix_seconds: u64) -> Self {
        Self {
            id: None,
            unix_seconds,
            body,
        }
    }

    /// The message with this id.
    #[must_use]
    pub const fn with_id(mut self, id: &'a MessageId) -> Self {
        self.id = Some(id);
        self
    }

    /// The id, if the message has one.
    pub const fn id(&self) -> Option<&'a MessageId> {
        self.id
    }

    /// The time of the attempt, in seconds since 1970.
    pub const fn unix_seconds(&self) -> u64 {
        self.unix_seconds
    }

    /// The bytes as they will be sent.
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }
}
