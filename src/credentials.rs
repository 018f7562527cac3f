//! Which names of headers and parameters are those of credentials.

/// Parts of the names of credentials. Names are compared by their letters and digits only.
const PARTS: &[&str] = &[
    "accesskey",
    "apikey",
    "authenticat",
    "authorization",
    "bearer",
    "clientcert",
    "cookie",
    "credential",
    "hmac",
    "jwt",
    "passphrase",
    "passw",
    "privatekey",
    "secret",
    "session",
    "signature",
    "token",
];

/// Whether a header or parameter of this name holds a credential: the letters and digits of its name, in any
/// case, contain one of the parts above, have `auth` as a word, or end with `key` and not with
/// `idempotencykey`. Allocates nothing: it is asked for each unusual header of an answer that is stored.
pub(crate) fn names_a_credential(name: &str) -> bool {
    let mut words = name.split(|c: char| !c.is_alphanumeric());
    if words.any(|word| word.eq_ignore_ascii_case("auth")) {
        return true;
    }
    let mut rest = letters(name);
    loop {
        if PARTS.iter().any(|part| begin(rest.clone(), part.chars())) {
            return true;
        }
        if rest.next().is_none() {
            break;
        }
    }
    let ends = |with: &str| begin(letters(name).rev(), with.chars().rev());
    ends("key") && !ends("idempotencykey")
}

/// The letters and digits of a name, the ASCII ones in lower case.
fn letters(name: &str) -> impl DoubleEndedIterator<Item = char> + Clone {
    let letters = name.chars().filter(|c| c.is_alphanumeric());
    letters.map(|c| c.to_ascii_lowercase())
}

fn begin(mut letters: impl Iterator<Item = char>, mut with: impl Iterator<Item = char>) -> bool {
    with.all(|c| letters.next() == Some(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rule in plain words, by way of a copy of the name.
    fn by_the_rule(name: &str) -> bool {
        let mut words = name.split(|c: char| !c.is_alphanumeric());
        let auth = words.any(|word| word.eq_ignore_ascii_case("auth"));
        let mut letters: String = name.chars().filter(|c| c.is_alphanumeric()).collect();
        letters.make_ascii_lowercase();
        auth || PARTS.iter().any(|part| letters.contains(part))
            || (letters.ends_with("key") && !letters.ends_with("idempotencykey"))
    }

    #[test]
    fn usual_names_are_told_apart() {
        for name in [
            "set-cookie",
            "X-Auth-Token",
            "x_api_key",
            "x-auth",
            "AUTH",
            "proxy-authorization",
            "to-ken",
            "key",
            "x-hub-signature-256",
        ] {
            assert!(names_a_credential(name), "{name}");
        }
        for name in [
            "",
            "-",
            "content-type",
            "author",
            "x-request-id",
            "idempotency-key",
            "X-Idempotency_Key",
            "keys",
            "toke",
        ] {
            assert!(!names_a_credential(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn the_rule_holds_for_any_name(
            pieces in proptest::collection::vec(
                prop_oneof![
                    (0..PARTS.len()).prop_map(|n| PARTS[n].to_owned()),
                    "(?i)(auth|key|idempotency|s|to|ken|sess|ion)",
                    "[-_. ß\u{130}É]{0,2}",
                    "[a-zA-Z0-9]{0,3}",
                ],
                0..5,
            ),
        ) {
            let name = pieces.concat();
            prop_assert_eq!(names_a_credential(&name), by_the_rule(&name), "{}", name);
        }
    }
}
