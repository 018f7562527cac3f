use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{fmt, str::FromStr, sync::Arc};
use tower_webhook::InvalidConfig;
use zeroize::Zeroizing;

/// An id of the management API: 24 lower-case letters and digits (O).
///
/// ```
/// use tower_webhook_cognigy::platform::MongoId;
///
/// let id: MongoId = "667ed4ae16d66f47dc2a9400".parse()?;
/// assert!("../projects".parse::<MongoId>().is_err());
/// # let _ = id;
/// # Ok::<_, tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MongoId(Arc<str>);

impl MongoId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MongoId {
    type Err = InvalidConfig;

    fn from_str(text: &str) -> Result<Self, InvalidConfig> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if text.len() == 24 && text.bytes().all(fits) {
            Ok(Self(text.into()))
        } else {
            let problem = "must be 24 lower-case letters and digits";
            Err(InvalidConfig::new("id", problem))
        }
    }
}

impl fmt::Debug for MongoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MongoId({self})")
    }
}

impl fmt::Display for MongoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for MongoId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MongoId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse()
            .map_err(|_| D::Error::custom("an id of 24 lower-case letters and digits was expected"))
    }
}

/// The URL token of an endpoint: 64 hexadecimal digits (O).
///
/// Whoever knows it can talk to the endpoint, so `Debug` hides it and its memory is overwritten when the last copy is
/// dropped.
///
/// ```
/// use tower_webhook_cognigy::platform::UrlToken;
///
/// let token: UrlToken = "f65b289912c929c2a09523dd48eedb1249bb74384f6561f84b4ffc5e84d2f15f".parse()?;
/// assert_eq!(format!("{token:?}"), "UrlToken(_)");
/// # Ok::<_, tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct UrlToken(Arc<Zeroizing<String>>);

impl UrlToken {
    /// The text: show it to nobody who may not talk to the endpoint.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UrlToken {
    type Err = InvalidConfig;

    fn from_str(text: &str) -> Result<Self, InvalidConfig> {
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(Self(Arc::new(Zeroizing::new(text.to_owned()))))
        } else {
            let problem = "must be 64 hexadecimal digits";
            Err(InvalidConfig::new("url_token", problem))
        }
    }
}

impl fmt::Debug for UrlToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UrlToken(_)")
    }
}

impl Serialize for UrlToken {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for UrlToken {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(from)?);
        text.parse()
            .map_err(|_| D::Error::custom("a token of 64 hexadecimal digits was expected"))
    }
}
