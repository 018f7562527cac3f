//! Ed25519 (RFC 8032) with the strict rules of `verify_strict`, over pieces.

use crate::InvalidConfig;
use ed25519_dalek::{
    SecretKey, Signature, SigningKey, VerifyingKey,
    ed25519::signature::{MultipartSigner as _, MultipartVerifier as _},
};
use zeroize::Zeroizing;

/// A public key, and the private one where we sign.
pub(super) struct Ed25519Key {
    public: VerifyingKey,
    private: Option<SigningKey>,
}

impl Ed25519Key {
    /// A key that verifies.
    pub(super) fn public(bytes: &[u8]) -> Result<Self, InvalidConfig> {
        let invalid = || InvalidConfig::new("secrets", "must be a valid ed25519 public key");
        let bytes = bytes.try_into().map_err(|_| invalid())?;
        let public = VerifyingKey::from_bytes(bytes).map_err(|_| invalid())?;
        // Of small order: signatures under it can be made by anyone.
        if public.is_weak() {
            return Err(invalid());
        }
        Ok(Self {
            public,
            private: None,
        })
    }

    /// A key that signs and verifies: the 32 bytes of the seed, or seed and public key.
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
        // A public half that belongs to another seed would let the seed be computed from two
        // signatures.
        if public.is_some_and(|public| public != private.verifying_key().as_bytes()) {
            return Err(invalid());
        }
        Ok(Self {
            public: private.verifying_key(),
            private: Some(private),
        })
    }

    /// The rules of `VerifyingKey::verify_strict`, which takes a message in one piece only: no
    /// point of small order, neither the key ([checked once](Self::public)) nor the commitment.
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
