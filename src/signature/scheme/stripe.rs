use super::{Candidates, Generic, Piece, settled_generic};
use crate::{
    InvalidConfig,
    signature::{Defect, Encoding, Secrets, Tolerance, mac::Tag, message::unix_seconds},
};
use http::HeaderName;
use std::borrow::Cow;

/// Stripe: `Stripe-Signature: t=<seconds>,v1=<hex>[,v1=<hex>]` over `t.body`
/// ([its documentation](https://docs.stripe.com/webhooks#verify-manually)).
///
/// Other versions (`v0`) are ignored. Unlike in Stripe's libraries, a timestamp too far in the future is
/// refused, and so is a second `t`, which those libraries treat differently. The id of the event is in
/// the body.
///
/// `t=..,v1=..` is a common format.
/// [jambonz](https://docs.jambonz.org/guides/features/securing-http-endpoints) writes it to a header of its
/// own:
///
/// ```
/// use http::HeaderName;
/// use tower_webhook::signature::scheme::Stripe;
///
/// let stripe = Stripe::new("whsec_...")?;
/// let jambonz = Stripe::new("...")?.header(HeaderName::from_static("jambonz-signature"));
/// # let _ = (stripe, jambonz);
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct Stripe(Generic);

impl Stripe {
    /// Makes a scheme whose key is the text of the secret, including `whsec_`: unlike
    /// [`StandardWebhooks`](super::StandardWebhooks), Stripe does not decode it.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `secrets`, as [`SigningKeys::replace`](crate::signature::SigningKeys::replace).
    pub fn new(secrets: impl Into<Secrets>) -> Result<Self, InvalidConfig> {
        Generic::builder(HeaderName::from_static("stripe-signature"))
            .name("stripe")
            .fields(',', "t", "v1")
            .content([Piece::Timestamp, ".".into(), Piece::Body])
            .build(secrets)
            .map(Self)
    }

    /// Sets the tolerance of the timestamp. Default: 300 seconds in both directions.
    #[must_use]
    pub fn tolerance(self, tolerance: impl Into<Tolerance>) -> Self {
        Self(self.0.tolerance(tolerance.into()))
    }
}

settled_generic!(Stripe);

/// The format `t=<seconds>,v1=<signature>[,v1=<signature>]` of Stripe and of senders that adopted it:
/// names and separator.
#[derive(Clone, Debug)]
pub(super) struct Grammar {
    pub(super) separator: char,
    pub(super) timestamp: Cow<'static, str>,
    pub(super) signature: Cow<'static, str>,
}

impl Grammar {
    /// Stripe's: `t=..,v1=..`.
    pub(super) const STRIPE: Self = Self {
        separator: ',',
        timestamp: Cow::Borrowed("t"),
        signature: Cow::Borrowed("v1"),
    };

    /// Returns the timestamp as text and number, and adds the signatures to `candidates`.
    ///
    /// Everything else is ignored: other names (`v0=`, or those after `v1`), items without `=`, signatures that
    /// cannot be decoded.
    ///
    /// # Errors
    ///
    /// No timestamp or two, no signature that can be decoded.
    pub(super) fn read<'a>(
        &self,
        text: &'a [u8],
        encoding: Encoding,
        candidates: &mut Candidates,
    ) -> Result<(&'a [u8], u64), Defect> {
        let mut found = None;
        let mut undecodable = 0;
        let mut rest = Some(text);
        while let Some(text) = rest {
            // All signatures have the same length, so there is no need to search for the end.
            if let Some((tag, after)) = self.signature_at(text, encoding) {
                candidates.push(tag);
                rest = after;
                continue;
            }
            let item;
            (item, rest) = self.split(text);
            let Some(equals) = item.iter().position(|&byte| byte == b'=') else {
                continue;
            };
            let (name, value) = (&item[..equals], &item[equals + 1..]);
            if name == self.signature.as_bytes() {
                undecodable += 1;
            } else if name == self.timestamp.as_bytes() {
                // Libraries disagree on which of two timestamps applies.
                if found.is_some() {
                    return Err(Defect::Repeated);
                }
                let seconds = unix_seconds(value).ok_or(Defect::Timestamp)?;
                found = Some((value, seconds));
            }
        }
        candidates.or_defect(undecodable)?;
        found.ok_or(Defect::Timestamp)
    }

    /// Splits off the signature at the beginning of `text`, if there is one; returns it and the text after
    /// its separator.
    #[inline]
    fn signature_at<'a>(
        &self,
        text: &'a [u8],
        encoding: Encoding,
    ) -> Option<(Tag, Option<&'a [u8]>)> {
        let text = text.strip_prefix(self.signature.as_bytes())?;
        let (tag, after) = text
            .strip_prefix(b"=")?
            .split_at_checked(encoding.length())?;
        let after = match after.split_first() {
            None => None,
            Some((&byte, after)) if char::from(byte) == self.separator => Some(after),
            Some(_) => return None,
        };
        Some((encoding.decode(tag)?, after))
    }

    /// Splits off the first item; returns it and the text after its separator.
    fn split<'a>(&self, text: &'a [u8]) -> (&'a [u8], Option<&'a [u8]>) {
        match text
            .iter()
            .position(|&byte| char::from(byte) == self.separator)
        {
            Some(end) => (&text[..end], Some(&text[end + 1..])),
            None => (text, None),
        }
    }

    pub(super) fn write(
        &self,
        seconds: &str,
        encoding: Encoding,
        tags: impl Iterator<Item = Tag>,
    ) -> String {
        let mut text = String::with_capacity(160);
        text.push_str(&self.timestamp);
        text.push('=');
        text.push_str(seconds);
        for tag in tags {
            text.push(self.separator);
            text.push_str(&self.signature);
            text.push('=');
            encoding.encode_append(&tag, &mut text);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(u64, usize), Defect> {
        let mut candidates = Candidates::default();
        Grammar::STRIPE
            .read(text.as_bytes(), Encoding::Hex, &mut candidates)
            .map(|(_, seconds)| (seconds, candidates.iter().count()))
    }

    #[test]
    fn reads_what_is_written_and_passes_over_other_versions() {
        let tags = [[7; 32], [8; 32]];
        let text = Grammar::STRIPE.write("5", Encoding::Hex, tags.into_iter());
        assert_eq!(read(&text), Ok((5, 2)));
        assert_eq!(read(&format!("v0=x,{text},v2=")), Ok((5, 2)));
        for beside in ["", "x", "=", "v1=", "v1=00", " v1=00", "v1", "v1a=?"] {
            assert_eq!(read(&format!("{beside},{text}")), Ok((5, 2)), "{beside}");
            assert_eq!(read(&format!("{text},{beside}")), Ok((5, 2)), "{beside}");
        }
        let many = format!("t=5{}", format!(",v1={}", "00".repeat(32)).repeat(17));
        assert_eq!(read(&many), Ok((5, 16)));
    }

    #[test]
    fn refuses_everything_else() {
        let tag = "00".repeat(32);
        let cases = [
            ("", Defect::NoCandidate),
            ("t=5", Defect::NoCandidate),
            ("t=5,v0=00", Defect::NoCandidate),
            (&format!("v1={tag}"), Defect::Timestamp),
            (&format!("t=,v1={tag}"), Defect::Timestamp),
            (&format!("t=5x,v1={tag}"), Defect::Timestamp),
            (&format!("t=5,t=5,v1={tag}"), Defect::Repeated),
            ("t=5,v1=", Defect::Encoding),
            (&format!("t=5,v1={tag}0"), Defect::Encoding),
            (&format!("t=5,v1={tag} "), Defect::Encoding),
            (&format!("t=5, v1={tag}"), Defect::NoCandidate),
            (&format!("t=5;v1={tag}"), Defect::Timestamp),
        ];
        for (text, defect) in cases {
            assert_eq!(read(text), Err(defect), "{text}");
        }
    }
}
