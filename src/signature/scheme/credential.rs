use crate::{
    InvalidConfig,
    signature::{
        KeyLabel,
        keyring::{Entry, Keyring},
        mac::{Tag, equal},
    },
};
use http::HeaderValue;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// A secret that is sent along as it is.
pub(super) struct Credential {
    /// What a sender writes.
    text: Zeroizing<Vec<u8>>,
    /// What a receiver compares: digests have one length, so the time tells nothing about the
    /// length of the secret either.
    digest: Tag,
}

impl Credential {
    /// # Errors
    ///
    /// When a header cannot hold it.
    pub(super) fn new(text: Vec<u8>) -> Result<Self, InvalidConfig> {
        let text = Zeroizing::new(text);
        if HeaderValue::from_bytes(&text).is_err() {
            return Err(InvalidConfig::new("secrets", "must be fit for a header"));
        }
        Ok(Self::of(text))
    }

    /// Without that check: for what is encoded before it is sent.
    pub(super) fn of(text: Zeroizing<Vec<u8>>) -> Self {
        let digest = Sha256::digest(&*text).into();
        Self { text, digest }
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }
}

impl Keyring<Credential> {
    /// The label of the credential that was presented.
    pub(super) fn presented(&self, text: &[u8]) -> Option<KeyLabel> {
        let digest: Tag = Sha256::digest(text).into();
        self.read()
            .iter()
            .find(|entry| equal(&entry.key.digest, &digest))
            .map(Entry::matched)
    }
}

/// What follows the name of an authentication scheme (RFC 9110 §11.4: in any case, one space or
/// more).
pub(super) fn after_scheme<'a>(value: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let (name, rest) = value.split_at_checked(scheme.len())?;
    let rest = rest.strip_prefix(b" ")?.trim_ascii_start();
    (name.eq_ignore_ascii_case(scheme.as_bytes()) && !rest.is_empty()).then_some(rest)
}
