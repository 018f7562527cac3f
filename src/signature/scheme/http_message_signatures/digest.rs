//! `Content-Digest` (RFC 9530 §2).

use super::dictionary::{Dictionary, lines};
use crate::signature::{Defect, Encoding, SignatureError, mac::equal};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256, Sha512};

pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// The digest of a body, to be written.
pub(super) fn of(body: &[u8]) -> Option<HeaderValue> {
    let base64 = Encoding::Base64.encode(Sha256::digest(body));
    HeaderValue::try_from(format!("sha-256=:{base64}:")).ok()
}

/// The digests that a message claims.
#[derive(Debug, PartialEq)]
pub(super) struct Digests {
    sha256: Option<[u8; 32]>,
    sha512: Option<[u8; 64]>,
}

impl Digests {
    /// Reads those that are safe. Others, which RFC 9530 deprecates or does not know, are ignored.
    ///
    /// # Errors
    ///
    /// There is none that is safe, or one of those cannot be read: a body is not accepted for the other one then.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, SignatureError> {
        let text = lines(headers, &CONTENT_DIGEST)?;
        let malformed = |what| SignatureError::malformed(&CONTENT_DIGEST, what);
        let dictionary = Dictionary::read(&CONTENT_DIGEST, &text)?;
        let digest = |key| {
            let member = dictionary.find(key).map_err(malformed)?;
            let bytes = member.map(|member| member.bytes(&text).ok_or(Defect::Encoding));
            bytes.transpose().map_err(malformed)
        };
        let wrong_length = |_| malformed(Defect::Encoding);
        let digests = Self {
            sha256: digest("sha-256")?
                .map(|bytes| bytes.try_into().map_err(wrong_length))
                .transpose()?,
            sha512: digest("sha-512")?
                .map(|bytes| bytes.try_into().map_err(wrong_length))
                .transpose()?,
        };
        if digests.sha256.is_none() && digests.sha512.is_none() {
            return Err(malformed(Defect::NoCandidate));
        }
        Ok(digests)
    }

    /// Whether all of them are of this body.
    pub(super) fn are_of(&self, body: &[u8]) -> bool {
        let sha256 = |digest| equal(digest, &Sha256::digest(body).into());
        let sha512 = |digest: &[u8; 64]| *digest == *Sha512::digest(body);
        self.sha256.as_ref().is_none_or(sha256) && self.sha512.as_ref().is_none_or(sha512)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body of the examples of RFC 9530, which ends with a line feed.
    const WORLD: &[u8] = b"{\"hello\": \"world\"}\n";

    fn read(lines: &[&str]) -> Result<Digests, SignatureError> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CONTENT_DIGEST, line.parse().unwrap());
        }
        Digests::read(&headers)
    }

    /// RFC 9530 appendices B.1 and D, and RFC 9421 appendix B.2.
    #[test]
    fn digests_of_the_rfcs() {
        for (body, digest) in [
            (
                WORLD,
                "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:",
            ),
            (
                WORLD,
                "sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8MjkM7iw7yZ/WkppmM44T3qg==:",
            ),
            (
                b"{\"hello\": \"world\"}",
                "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
            ),
        ] {
            let digests = read(&[digest]).unwrap();
            assert!(digests.are_of(body), "{digest}");
            assert!(!digests.are_of(b""), "{digest}");
        }
        assert_eq!(
            of(WORLD).unwrap(),
            "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
        );
    }

    #[test]
    fn all_that_are_safe_must_be_right_and_others_are_ignored() {
        let right = of(WORLD).unwrap();
        let right = right.to_str().unwrap();
        let wrong_512 = format!("sha-512=:{}:", Encoding::Base64.encode([0; 64]));
        assert!(
            read(&[right, "md5=:AA==:", "odd=(1 2)"])
                .unwrap()
                .are_of(WORLD)
        );
        assert!(!read(&[right, &wrong_512]).unwrap().are_of(WORLD));
        for (lines, what) in [
            (vec!["md5=:AA==:"], Defect::NoCandidate),
            (vec![right, right], Defect::Repeated),
            (vec![right, "sha-512=:AA==:"], Defect::Encoding),
            (vec![right, "sha-512=1"], Defect::Encoding),
            (vec![right.trim_end_matches("=:")], Defect::Syntax),
            (vec![&right.replace("g=:", "g:")], Defect::Encoding),
            (vec![&right.replace("g=:", "h=:")], Defect::Encoding),
            (vec![""], Defect::Empty),
        ] {
            let expected = SignatureError::malformed(&CONTENT_DIGEST, what);
            assert_eq!(read(&lines), Err(expected), "{lines:?}");
        }
        let missing = SignatureError::missing(&CONTENT_DIGEST);
        assert_eq!(read(&[]), Err(missing));
    }
}
