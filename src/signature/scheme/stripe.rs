use super::{Candidates, Generic, Piece, settled_generic};
use crate::{
    InvalidConfig,
    signature::{
        Defect, Secrets, TimestampFormat, Tolerance,
        mac::{MacFormat, MacKey, Tag},
        secrets::Entry,
    },
};
use http::HeaderName;
use std::{borrow::Cow, time::Duration};

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
            .fields(",", "t", "v1")
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
    pub(super) separator: Cow<'static, str>,
    pub(super) timestamp: Cow<'static, str>,
    pub(super) signature: Cow<'static, str>,
}

impl Grammar {
    /// Stripe's: `t=..,v1=..`.
    pub(super) const STRIPE: Self = Self {
        separator: Cow::Borrowed(","),
        timestamp: Cow::Borrowed("t"),
        signature: Cow::Borrowed("v1"),
    };

    /// Returns the timestamp as text and as the time since 1970, and adds the signatures to `candidates`.
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
        format: MacFormat,
        time: TimestampFormat,
        candidates: &mut Candidates,
    ) -> Result<(&'a [u8], Duration), Defect> {
        let mut found = None;
        let mut undecodable = 0;
        let mut rest = Some(text);
        while let Some(text) = rest {
            // Most signatures have one length, so there is no need to search for the end.
            if let Some((tag, after)) = self.signature_at(text, format) {
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
                match format.decode(value) {
                    Some(tag) => candidates.push(tag),
                    None => undecodable += 1,
                }
            } else if name == self.timestamp.as_bytes() {
                // Libraries disagree on which of two timestamps applies.
                if found.is_some() {
                    return Err(Defect::Repeated);
                }
                found = Some((value, time.parse(value).ok_or(Defect::Timestamp)?));
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
        format: MacFormat,
    ) -> Option<(Tag, Option<&'a [u8]>)> {
        let text = text.strip_prefix(self.signature.as_bytes())?;
        let (tag, after) = text
            .strip_prefix(b"=")?
            .split_at_checked(format.length()?)?;
        let after = match after {
            [] => None,
            _ => Some(after.strip_prefix(self.separator.as_bytes())?),
        };
        Some((format.decode(tag)?, after))
    }

    /// Splits off the first item; returns it and the text after its separator.
    fn split<'a>(&self, text: &'a [u8]) -> (&'a [u8], Option<&'a [u8]>) {
        split(text, &self.separator)
    }

    /// Writes a signature of each key.
    pub(super) fn write(
        &self,
        time: &str,
        format: MacFormat,
        keys: &[Entry<MacKey>],
        content: &[&[u8]],
    ) -> String {
        let mut text = String::with_capacity(160);
        text.push_str(&self.timestamp);
        text.push('=');
        text.push_str(time);
        for entry in keys {
            text.push_str(&self.separator);
            text.push_str(&self.signature);
            text.push('=');
            entry.key.encode_append(content, format.encoding, &mut text);
        }
        text
    }
}

/// Splits off the text before a separator, and returns it and the text after the separator.
pub(super) fn split<'a>(text: &'a [u8], separator: &str) -> (&'a [u8], Option<&'a [u8]>) {
    let at = match *separator.as_bytes() {
        [char] => text.iter().position(|&byte| byte == char),
        ref long => text.windows(long.len()).position(|window| window == long),
    };
    match at {
        Some(at) => (&text[..at], Some(&text[at + separator.len()..])),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{
        Secret,
        secrets::{Keyring, raw},
    };

    fn read(text: &str) -> Result<(u64, usize), Defect> {
        let mut candidates = Candidates::default();
        let time = TimestampFormat::Seconds;
        Grammar::STRIPE
            .read(
                text.as_bytes(),
                MacFormat::SHA256_HEX,
                time,
                &mut candidates,
            )
            .map(|(_, time)| (time.as_secs(), candidates.iter().count()))
    }

    #[test]
    fn reads_what_is_written_and_passes_over_other_versions() {
        let keys = Keyring::new([Secret::new("a"), Secret::new("b")], raw).unwrap();
        let text = Grammar::STRIPE.write("5", MacFormat::SHA256_HEX, &keys.read(), &[b"body"]);
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
