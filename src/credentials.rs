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
/// `idempotencykey`.
pub(crate) fn names_a_credential(name: &str) -> bool {
    let mut words = name.split(|c: char| !c.is_alphanumeric());
    let auth = words.any(|word| word.eq_ignore_ascii_case("auth"));
    let name: String = name
        .chars()
        .filter(|c| c.is_alphanumeric())
        .map(|c| c.to_ascii_lowercase())
        .collect();
    auth || PARTS.iter().any(|part| name.contains(part))
        || (name.ends_with("key") && !name.ends_with("idempotencykey"))
}
