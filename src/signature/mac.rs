//! HMAC (RFC 2104, FIPS 180-4): computed over pieces, with SHA-256 by one of two libraries, read from and written
//! to headers, and compared in constant time.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256, Sha512};
use std::fmt;
use subtle::ConstantTimeEq as _;

/// An HMAC-SHA256; of an HMAC with another hash, the SHA-256.
pub(crate) type Tag = [u8; 32];

/// The library that computes HMAC-SHA256. The results are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// aws-lc through `aws-lc-rs`, the default with feature `aws-lc-rs`.
    ///
    /// On a processor without SHA extensions it takes 0.57 of the time of `RustCrypto` (November 2026).
    #[cfg(feature = "aws-lc-rs")]
    #[default]
    AwsLc,
    /// `hmac` and `sha2`, pure Rust.
    #[cfg_attr(not(feature = "aws-lc-rs"), default)]
    RustCrypto,
}

/// The state of an HMAC after the blocks that depend only on the secret: computed once, and copied for
/// each message.
pub(crate) enum MacKey {
    #[cfg(feature = "aws-lc-rs")]
    AwsLc(aws_lc_rs::hmac::Key),
    RustCrypto(Hmac<Sha256>),
    #[cfg(feature = "sha1")]
    Sha1(Box<Hmac<sha1::Sha1>>),
    Sha512(Box<Hmac<Sha512>>),
}

/// The hash of an HMAC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// SHA-1, with feature `sha1`: only for senders that have nothing better (Intercom, Trello). No forgery of an
    /// HMAC with it is known, but its collisions are, and standards forbid it for new uses.
    #[cfg(feature = "sha1")]
    LegacySha1,
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-512, for senders that use no other (Paystack). It is not safer here than SHA-256, and is computed by
    /// [`Backend::RustCrypto`] always.
    Sha512,
}

/// A key of HMAC, which takes any length.
fn keyed<M: KeyInit>(secret: &[u8]) -> M {
    // Invariant: HMAC takes keys of any length (RFC 2104 §2).
    #[expect(clippy::expect_used, reason = "no length is refused")]
    M::new_from_slice(secret).expect("HMAC takes keys of any length")
}

/// The MAC of the concatenated pieces.
fn finish<M: Mac + Clone>(key: &M, pieces: &[&[u8]]) -> hmac::digest::Output<M> {
    let mut mac = key.clone();
    for piece in pieces {
        mac.update(piece);
    }
    mac.finalize().into_bytes()
}

impl MacKey {
    pub(crate) fn with(algorithm: Algorithm, backend: Backend, secret: &[u8]) -> Self {
        match algorithm {
            #[cfg(feature = "sha1")]
            Algorithm::LegacySha1 => Self::Sha1(Box::new(keyed(secret))),
            Algorithm::Sha256 => Self::new(backend, secret),
            Algorithm::Sha512 => Self::Sha512(Box::new(keyed(secret))),
        }
    }

    pub(crate) fn new(backend: Backend, secret: &[u8]) -> Self {
        match backend {
            #[cfg(feature = "aws-lc-rs")]
            Backend::AwsLc => {
                use aws_lc_rs::hmac::{HMAC_SHA256, Key};
                Self::AwsLc(Key::new(HMAC_SHA256, secret))
            }
            Backend::RustCrypto => Self::RustCrypto(keyed(secret)),
        }
    }

    /// The MAC of the concatenated pieces.
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
            Self::RustCrypto(key) => finish(key, pieces).into(),
            #[cfg(feature = "sha1")]
            Self::Sha1(key) => Sha256::digest(finish(&**key, pieces)).into(),
            Self::Sha512(key) => Sha256::digest(finish(&**key, pieces)).into(),
        }
    }

    /// Writes the MAC of the concatenated pieces.
    pub(crate) fn encode_append(&self, pieces: &[&[u8]], encoding: Encoding, out: &mut String) {
        match self {
            #[cfg(feature = "sha1")]
            Self::Sha1(key) => encoding.encode_append(&finish(&**key, pieces), out),
            Self::Sha512(key) => encoding.encode_append(&finish(&**key, pieces), out),
            _ => encoding.encode_append(&self.tag(pieces), out),
        }
    }
}

/// How a MAC is written in a header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MacFormat {
    pub(crate) algorithm: Algorithm,
    pub(crate) encoding: Encoding,
}

impl MacFormat {
    pub(crate) const SHA256_HEX: Self = Self {
        algorithm: Algorithm::Sha256,
        encoding: Encoding::Hex,
    };

    /// Decodes a MAC strictly: nothing around it, and no bits left over.
    #[inline]
    pub(crate) fn decode(self, text: &[u8]) -> Option<Tag> {
        let length = match self.algorithm {
            Algorithm::Sha256 => return self.encoding.decode_tag(text),
            #[cfg(feature = "sha1")]
            Algorithm::LegacySha1 => 20,
            Algorithm::Sha512 => 64,
        };
        let mut room = [0; ROOM];
        let bytes = self.encoding.decode_into(text, &mut room)?;
        (bytes.len() == length).then(|| Sha256::digest(bytes).into())
    }

    /// The length of a MAC in characters, if all have one.
    pub(crate) const fn length(self) -> Option<usize> {
        match (self.algorithm, self.encoding) {
            (Algorithm::Sha256, Encoding::Base64) => Some(44),
            (Algorithm::Sha256, Encoding::Hex | Encoding::HexAnyCase) => Some(64),
            _ => None,
        }
    }
}

/// Room for the longest MAC in the shortest encoding, while it is decoded.
const ROOM: usize = 96;

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey")
    }
}

/// Whether two MACs are equal, in a time that does not depend on the position of a difference.
#[inline]
pub(crate) fn equal(a: &Tag, b: &Tag) -> bool {
    // As two words: `subtle` has a barrier for each element, and those of 32 bytes take 50 ns.
    let words = |tag: &Tag| {
        let (halves, _) = tag.as_chunks();
        [halves[0], halves[1]].map(u128::from_ne_bytes)
    };
    words(a).ct_eq(&words(b)).into()
}

/// The encoding of a signature in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encoding {
    /// Standard base64 with padding (RFC 4648 §4).
    Base64,
    /// Base64 with the alphabet for URLs (RFC 4648 §5). Written without padding, and read with or without it.
    Base64Url,
    /// Lower-case hexadecimal. Upper case is refused, so that a signature has only one spelling.
    Hex,
    /// Hexadecimal in upper or lower case.
    HexAnyCase,
}

impl Encoding {
    const fn codec(self) -> data_encoding::Encoding {
        match self {
            Self::Base64 => data_encoding::BASE64,
            Self::Base64Url => data_encoding::BASE64URL_NOPAD,
            Self::Hex => data_encoding::HEXLOWER,
            Self::HexAnyCase => data_encoding::HEXLOWER_PERMISSIVE,
        }
    }

    /// Decodes strictly: nothing around it, complete padding, and no bits left over. For a
    /// [`Scheme`](super::Scheme) of your own.
    ///
    /// ```
    /// use tower_webhook::signature::Encoding;
    ///
    /// assert_eq!(Encoding::Base64.decode("aGk="), Some(b"hi".to_vec()));
    /// assert_eq!(Encoding::Base64.decode("aGk"), None);
    /// assert_eq!(Encoding::Base64Url.encode(b"hi"), "aGk");
    /// ```
    pub fn decode(self, text: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        let text = text.as_ref();
        self.codec_of(text).decode(text).ok()
    }

    /// Encodes these bytes.
    pub fn encode(self, bytes: impl AsRef<[u8]>) -> String {
        self.codec().encode(bytes.as_ref())
    }

    /// The codec that reads this text.
    fn codec_of(self, text: &[u8]) -> data_encoding::Encoding {
        match (self, text.last()) {
            (Self::Base64Url, Some(b'=')) => data_encoding::BASE64URL,
            _ => self.codec(),
        }
    }

    /// Decodes up to 64 bytes.
    fn decode_into<'a>(self, text: &[u8], room: &'a mut [u8; ROOM]) -> Option<&'a [u8]> {
        let codec = self.codec_of(text);
        let room = room.get_mut(..codec.decode_len(text.len()).ok()?)?;
        let length = codec.decode_mut(text, room).ok()?;
        room.get(..length)
    }

    /// Decodes an HMAC-SHA256.
    #[inline]
    pub(crate) fn decode_tag(self, text: &[u8]) -> Option<Tag> {
        match self {
            Self::Base64 => from_base64(text.try_into().ok()?),
            Self::Base64Url => self.decode_into(text, &mut [0; ROOM])?.try_into().ok(),
            Self::Hex => from_hex(text.try_into().ok()?, 0),
            // This bit makes a letter lower case, and leaves the digits as they are.
            Self::HexAnyCase => from_hex(text.try_into().ok()?, 0x20),
        }
    }

    pub(crate) fn encode_append(self, bytes: &[u8], out: &mut String) {
        self.codec().encode_append(bytes, out);
    }
}

/// Decodes hexadecimal. Written out, because the compiler makes vector instructions of texts of one length: a
/// verification takes 29 ns less than with `data-encoding` (November 2026).
fn from_hex(text: &[u8; 64], lower: u8) -> Option<Tag> {
    let digits = text.map(|char| match char {
        b'0'..=b'9' => char - b'0',
        _ => match char | lower {
            char @ b'a'..=b'f' => char - b'a' + 10,
            _ => 0xff,
        },
    });
    let (pairs, _) = digits.as_chunks();
    let mut tag = Tag::default();
    for (byte, [high, low]) in tag.iter_mut().zip(pairs) {
        *byte = high << 4 | low & 0xf;
    }
    let seen = digits.iter().fold(0, |seen, digit| seen | digit);
    (seen < 16).then_some(tag)
}

/// Decodes base64, for the same reason.
fn from_base64(text: &[u8; 44]) -> Option<Tag> {
    let bits = |[a, b, c, d]: [u8; 4]| {
        let [a, b, c, d] = [a, b, c, d].map(|char| DIGITS[usize::from(char)]);
        a << 18 | b << 12 | c << 6 | d
    };
    let (fours, _) = text.as_chunks();
    let (last, fours) = fours.split_last()?;
    let [x, y, z, b'='] = *last else {
        return None;
    };
    let mut tag = Tag::default();
    let (threes, end) = tag.as_chunks_mut::<3>();
    let mut seen = 0;
    for (three, four) in threes.iter_mut().zip(fours) {
        let bits = bits(*four);
        seen |= bits;
        [_, three[0], three[1], three[2]] = bits.to_be_bytes();
    }
    let bits = bits([x, y, z, b'A']);
    let left_over;
    [_, end[0], end[1], left_over] = bits.to_be_bytes();
    ((seen | bits) < 1 << 24 && left_over == 0).then_some(tag)
}

/// The value of each character of base64. Of any other, one that sets the highest byte wherever it is shifted.
static DIGITS: [u32; 256] = {
    let mut values = [u32::MAX; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut value: u32 = 0;
    while value < 64 {
        values[alphabet[value as usize] as usize] = value;
        value += 1;
    }
    values
};

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

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(tag: Tag) {
            for encoding in [Encoding::Base64, Encoding::Base64Url, Encoding::Hex, Encoding::HexAnyCase] {
                let mut text = String::new();
                encoding.encode_append(&tag, &mut text);
                prop_assert_eq!(encoding.decode_tag(text.as_bytes()), Some(tag));
            }
            let upper = data_encoding::HEXUPPER.encode(&tag);
            prop_assert_eq!(Encoding::HexAnyCase.decode_tag(upper.as_bytes()), Some(tag));
        }

        /// One character of a good text replaced by any byte: the same answer as `data-encoding`.
        #[test]
        fn decoders_agree_with_data_encoding(
            tag: Tag,
            at: prop::sample::Index,
            byte: u8,
            length in 40_usize..70,
        ) {
            let mut text = data_encoding::BASE64.encode(&tag).into_bytes();
            let at_base64 = at.index(text.len());
            text[at_base64] = byte;
            let theirs = data_encoding::BASE64.decode(&text).ok().filter(|tag| tag.len() == 32);
            prop_assert_eq!(Encoding::Base64.decode_tag(&text).map(Vec::from), theirs);

            let mut text = data_encoding::HEXLOWER.encode(&tag).into_bytes();
            let at_hex = at.index(text.len());
            text[at_hex] = byte;
            let theirs = data_encoding::HEXLOWER.decode(&text).ok();
            prop_assert_eq!(Encoding::Hex.decode_tag(&text).map(Vec::from), theirs);
            let theirs = data_encoding::HEXLOWER_PERMISSIVE.decode(&text).ok();
            prop_assert_eq!(Encoding::HexAnyCase.decode_tag(&text).map(Vec::from), theirs);

            text.resize(length, b'A');
            prop_assert_eq!(Encoding::Base64.decode_tag(&text), None);
        }
    }

    #[test]
    fn trailing_bits_and_padding_are_not_slack() {
        let good = data_encoding::BASE64.encode(&[0; 32]);
        assert!(Encoding::Base64.decode_tag(good.as_bytes()).is_some());
        for last in "BCD".chars() {
            let bad = format!("{}{last}=", &good[..42]);
            assert_eq!(Encoding::Base64.decode_tag(bad.as_bytes()), None);
        }
        assert_eq!(Encoding::Base64.decode_tag(&good.as_bytes()[..43]), None);
        assert_eq!(
            Encoding::Base64.decode_tag(format!("{good}=").as_bytes()),
            None
        );
        assert_eq!(Encoding::Base64.decode_tag(b""), None);
        assert_eq!(Encoding::Hex.decode_tag(b""), None);
    }
}
