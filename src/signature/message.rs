use super::{Defect, SignatureError};
use crate::{body::BufferedBody, clock::WallClock};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

/// Signature headers are a few hundred bytes; a longer one is refused unread.
const MAX_HEADER: usize = 4096;

/// Up to this many values, reading all names is cheaper than hashing one.
const FEW: usize = 24;

/// What a [`Scheme`](super::Scheme) verifies: a request whose body has been read, and the time.
///
/// # Examples
///
/// Verification without a layer, as a queue worker does it:
///
/// ```
/// use http::Request;
/// use tower_webhook::{body::BufferedBody, clock::WallClock};
/// use tower_webhook::signature::{Message, Scheme, scheme::GitHub};
///
/// let scheme = GitHub::new("It's a Secret to Everybody")?;
/// let request = Request::builder()
///     .header(
///         "x-hub-signature-256",
///         "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
///     )
///     .body(BufferedBody::from("Hello, World!"))?;
/// let verified = scheme.verify(&Message::of(&request, &WallClock::system()))?;
/// assert_eq!(verified.key_label(), Some("key-1"));
/// # Ok::<(), tower_webhook::BoxError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    body: &'a BufferedBody,
    clock: &'a WallClock,
}

impl<'a> Message<'a> {
    /// The message that `request` is, at the time that `clock` says when it is asked.
    pub fn of(request: &'a Request<BufferedBody>, clock: &'a WallClock) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            body: request.body(),
            clock,
        }
    }

    /// The method.
    pub const fn method(&self) -> &'a Method {
        self.method
    }

    /// The target. A router may have cut a prefix off it, as axum's `nest` does.
    pub const fn uri(&self) -> &'a Uri {
        self.uri
    }

    /// The headers. [`header`](Self::header) is the strict way to read one.
    pub const fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The bytes as they were received.
    pub fn body(&self) -> &'a [u8] {
        self.body.as_bytes()
    }

    /// The time, in whole seconds since 1970. The clock is read with this call and not before.
    pub fn unix_seconds(&self) -> u64 {
        self.clock.unix_seconds()
    }

    /// The one value of a header.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Missing`]; [`SignatureError::Malformed`] when there are two values, when
    /// the value is empty or when it is longer than 4096 bytes.
    pub fn header(&self, name: &HeaderName) -> Result<&'a HeaderValue, SignatureError> {
        let [found] = self.find([name]);
        found.single(name)
    }

    /// The one value of each header. The first that is not as it should be is the error.
    #[inline]
    pub(super) fn header_values<const N: usize>(
        &self,
        names: [&HeaderName; N],
    ) -> Result<[&'a HeaderValue; N], SignatureError> {
        let mut values = [const { &EMPTY }; N];
        for ((value, found), name) in values.iter_mut().zip(self.find(names)).zip(names) {
            *value = found.single(name)?;
        }
        Ok(values)
    }

    /// What there is of each header.
    #[inline]
    pub(super) fn find<const N: usize>(&self, names: [&HeaderName; N]) -> [Found<'a>; N] {
        let mut found = [Found::None; N];
        if self.headers.len() <= FEW {
            // To hash one name takes as long as to pass over the ten headers of a usual request,
            // and a scheme has up to three (November 2026: 28 and 23 ns).
            for (name, value) in self.headers {
                for (found, wanted) in found.iter_mut().zip(names) {
                    if name == wanted {
                        found.add(value);
                        break;
                    }
                }
            }
        } else {
            for (found, name) in found.iter_mut().zip(names) {
                for value in self.headers.get_all(name) {
                    found.add(value);
                }
            }
        }
        found
    }
}

static EMPTY: HeaderValue = HeaderValue::from_static("");

/// The values of one header, as far as they matter.
#[derive(Clone, Copy)]
pub(super) enum Found<'a> {
    None,
    One(&'a HeaderValue),
    Many,
}

impl<'a> Found<'a> {
    #[inline]
    fn add(&mut self, value: &'a HeaderValue) {
        *self = match self {
            Self::None => Self::One(value),
            Self::One(_) | Self::Many => Self::Many,
        };
    }

    pub(super) const fn is_none(self) -> bool {
        matches!(self, Self::None)
    }

    /// The one value, neither empty nor longer than a signature header can be.
    #[inline]
    pub(super) fn single(self, name: &HeaderName) -> Result<&'a HeaderValue, SignatureError> {
        let defect = match self {
            Self::None => return Err(SignatureError::missing(name)),
            Self::Many => Defect::Repeated,
            Self::One(value) if value.is_empty() => Defect::Empty,
            Self::One(value) if value.len() > MAX_HEADER => Defect::TooLong,
            Self::One(value) => return Ok(value),
        };
        Err(SignatureError::malformed(name, defect))
    }
}
