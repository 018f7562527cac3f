use super::Letter;
use crate::shield::shielded;
use bytes::Bytes;
use std::{borrow::Cow, collections::BTreeMap, fmt, mem, sync::Arc};

/// What stands in the place of a value that was taken out.
const REDACTED: &str = "redacted";

/// The most headers of a letter; further ones are left out.
const MOST_HEADERS: usize = 128;

/// The most bytes of one header, name and value, and of all headers.
const MOST_HEADER: usize = 8 << 10;
const MOST_OF_HEADERS: usize = 32 << 10;

/// The most bytes of a URI, and of the other texts that come from a request.
const MOST_URI: usize = 16 << 10;
const MOST_TEXT: usize = 1024;

/// Parts of names that credentials have, `-`, `_`, `.` and `[]` left out.
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

/// Whole names of query parameters that hold credentials beside those.
const PARAMETERS: &[&str] = &["code", "pass", "pwd", "sig"];

type Hook = Arc<dyn Fn(&mut Letter) + Send + Sync>;

/// What of a request must not get into a letter.
///
/// - **Headers**: one is left out where its name, `-` and `_` aside, contains `accesskey`,
///   `apikey`, `authenticat`, `authorization`, `bearer`, `clientcert`, `cookie`, `credential`,
///   `hmac`, `jwt`, `passphrase`, `passw`, `privatekey`, `secret`, `session`, `signature` or
///   `token`, has `auth` as a word, or ends with `key` and not with `idempotencykey`. So `authorization`,
///   `proxy-authorization`, `cookie`, `set-cookie`, `x-api-key`, `x-auth-token`,
///   `webhook-signature`, `x-hub-signature-256` and `x-shopify-hmac-sha256` are.
///   [`allow`](Self::allow) and [`deny`](Self::deny) say otherwise for a name.
/// - **URIs**: user, password and fragment are left out, and the value of a query parameter whose
///   name is as above, or `code`, `pass`, `pwd` or `sig`, is replaced by `redacted`. A URI
///   whose path is a secret is not recognised: take it out [with](Self::with) a function.
/// - **Error messages**: each URL in one is treated the same.
/// - **Bodies** are not looked at: [`with`](Self::with) a function of your own.
///
/// It bounds what it leaves: 128 headers, of which one that is longer than 8 KiB is left out, and
/// no more than 32 KiB of them; a URI is cut after 16 KiB, other texts after 1 KiB.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use std::time::SystemTime;
/// use tower_webhook::dead_letter::{Cause, Letter, LetterBody, LetterId, Reason, Redaction};
///
/// let redaction = Redaction::new()
///     .allow("x-public-key")
///     .deny("x-customer")
///     .with(|letter| {
///         if letter.target == "payments.example.com" {
///             letter.body = LetterBody::default();
///         }
///     });
///
/// let cause = Cause::new(Reason::Rejected);
/// let (id, now) = (LetterId::random(), SystemTime::now());
/// let mut letter = Letter::new(id, "http", "payments.example.com", cause, now);
/// letter.uri = Some("https://user:pass@payments.example.com/hooks?access_token=abc&n=1".into());
/// for name in ["authorization", "content-type", "x-customer", "x-public-key"] {
///     letter.headers.push((name.into(), Bytes::from_static(b"value")));
/// }
/// redaction.apply(&mut letter);
///
/// let uri = letter.uri.as_deref();
/// assert_eq!(uri, Some("https://payments.example.com/hooks?access_token=redacted&n=1"));
/// let names: Vec<_> = letter.headers.iter().map(|(name, _)| name.as_str()).collect();
/// assert_eq!(names, ["content-type", "x-public-key"]);
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct Redaction {
    /// Whether a header of this name is kept, whatever the rule says.
    names: BTreeMap<String, bool>,
    hook: Option<Hook>,
}

impl Redaction {
    /// The rule alone.
    pub const fn new() -> Self {
        Self {
            names: BTreeMap::new(),
            hook: None,
        }
    }

    /// Keeps the header of this name, in any case. What was said of it before is replaced.
    pub fn allow(mut self, name: &str) -> Self {
        self.names.insert(name.to_ascii_lowercase(), true);
        self
    }

    /// Leaves the header of this name out, in any case. What was said of it before is replaced.
    pub fn deny(mut self, name: &str) -> Self {
        self.names.insert(name.to_ascii_lowercase(), false);
        self
    }

    /// A function that sees each letter after the rule: for bodies, and for what only you know.
    /// What was set before is called too. Where it panics the letter has neither headers nor body
    /// nor URI: what it was to take out is not known.
    pub fn with(mut self, redact: impl Fn(&mut Letter) + Send + Sync + 'static) -> Self {
        let before = self.hook.take();
        self.hook = Some(Arc::new(move |letter: &mut Letter| {
            if let Some(before) = &before {
                before(letter);
            }
            redact(letter);
        }));
        self
    }

    /// Takes out what must not be there.
    pub fn apply(&self, letter: &mut Letter) {
        self.headers(&mut letter.headers);
        if let Some(uri) = &mut letter.uri {
            cut(uri, MOST_URI);
            *uri = redacted_uri(uri);
        }
        if let Some(message) = &mut letter.cause.message
            && let Cow::Owned(redacted) = redacted_text(message)
        {
            *message = redacted;
        }
        let ids = [&mut letter.event_id, &mut letter.idempotency_key];
        let texts = [
            &mut letter.method,
            &mut letter.replay_of,
            &mut letter.trace_id,
        ];
        for text in ids.into_iter().chain(texts).flatten() {
            cut(text, MOST_TEXT);
        }
        cut(&mut letter.kind, MOST_TEXT);
        cut(&mut letter.target, MOST_TEXT);
        if let Some(hook) = &self.hook
            && shielded(|| hook(letter)).is_none()
        {
            letter.headers.clear();
            letter.uri = None;
            letter.body = mem::take(&mut letter.body).cut(0);
        }
    }

    fn headers(&self, headers: &mut Vec<(String, Bytes)>) {
        headers.retain(|(name, _)| self.keeps(name));
        let mut left = MOST_OF_HEADERS;
        headers.retain(|(name, value)| {
            let length = name.len().saturating_add(value.len());
            let fits = length <= MOST_HEADER.min(left);
            left -= if fits { length } else { 0 };
            fits
        });
        headers.truncate(MOST_HEADERS);
    }

    fn keeps(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let said = self.names.get(&name).copied();
        said.unwrap_or_else(|| !names_a_credential(&name))
    }
}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redaction")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

fn names_a_credential(name: &str) -> bool {
    let mut words = name.split(['-', '_', '.', '[', ']']);
    let auth = words.any(|word| word.eq_ignore_ascii_case("auth"));
    let name: String = name
        .chars()
        .filter(|c| !matches!(c, '-' | '_' | '.' | '[' | ']'))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    auth || PARTS.iter().any(|part| name.contains(part))
        || (name.ends_with("key") && !name.ends_with("idempotencykey"))
}

fn parameter_is_a_credential(name: &str) -> bool {
    let name = decoded(name);
    let whole = PARAMETERS
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known));
    whole || names_a_credential(&name)
}

/// A name whose letters are written as `%74` is the same name.
fn decoded(name: &str) -> Cow<'_, str> {
    if !name.contains('%') {
        return Cow::Borrowed(name);
    }
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |digit: &u8| char::from(*digit).to_digit(16);
        let escaped = match tail {
            [high, low, ..] if *first == b'%' => hex(high).zip(hex(low)),
            _ => None,
        };
        if let Some(byte) = escaped.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            bytes.push(byte);
            rest = tail.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

/// A URI without user, password and fragment, and without the values of parameters that are
/// credentials.
fn redacted_uri(uri: &str) -> String {
    let (uri, _) = uri.split_once('#').unwrap_or((uri, ""));
    let (uri, query) = match uri.split_once('?') {
        Some((uri, query)) => (uri, Some(query)),
        None => (uri, None),
    };
    let mut redacted = String::with_capacity(uri.len());
    let (scheme, rest) = uri.split_at(uri.find("://").map_or(0, |at| at + 3));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // A path may have an `@`; an authority has one after the user alone.
    let user = if scheme.is_empty() && !path.is_empty() {
        None
    } else {
        authority.rfind('@')
    };
    redacted.push_str(scheme);
    redacted.push_str(&authority[user.map_or(0, |at| at + 1)..]);
    redacted.push_str(path);
    if let Some(query) = query {
        let mut before = '?';
        for parameter in query.split_inclusive(['&', ';']) {
            redacted.push(before);
            let bare = parameter.trim_end_matches(['&', ';']);
            match bare.split_once('=') {
                Some((name, value)) if !value.is_empty() && parameter_is_a_credential(name) => {
                    redacted.push_str(name);
                    redacted.push('=');
                    redacted.push_str(REDACTED);
                }
                _ => redacted.push_str(bare),
            }
            before = parameter.chars().next_back().unwrap_or('&');
        }
        if query.is_empty() || query.ends_with(['&', ';']) {
            redacted.push(before);
        }
    }
    redacted
}

/// A text in which every URL is a [`redacted_uri`].
fn redacted_text(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`' | ')');
    let mut redacted = String::with_capacity(text.len());
    for piece in text.split_inclusive(ends) {
        let word = piece.trim_end_matches(ends);
        if word.contains("://") {
            redacted.push_str(&redacted_uri(word));
            redacted.push_str(&piece[word.len()..]);
        } else {
            redacted.push_str(piece);
        }
    }
    Cow::Owned(redacted)
}

/// The beginning of a text, of no more bytes than this.
pub(super) fn beginning(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn cut(text: &mut String, most: usize) {
    text.truncate(beginning(text, most).len());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::{Cause, LetterBody, LetterId, Reason};
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    fn letter() -> Letter {
        let cause = Cause::new(Reason::Rejected);
        let id = LetterId::from_bytes([7; 16]);
        Letter::new(id, "http", "peer.test", cause, UNIX_EPOCH)
    }

    fn names_left(redaction: &Redaction, names: &[&str]) -> Vec<String> {
        let mut letter = letter();
        let value = Bytes::from_static(b"value");
        letter.headers = { names.iter() }
            .map(|name| ((*name).to_owned(), value.clone()))
            .collect();
        redaction.apply(&mut letter);
        letter.headers.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn credentials_are_known_by_their_names() {
        let credentials = [
            "authorization",
            "proxy-authorization",
            "cookie",
            "set-cookie",
            "x-api-key",
            "x-auth-token",
            "x_api_key",
            "apikey",
            "api-secret",
            "webhook-signature",
            "x-hub-signature-256",
            "stripe-signature",
            "x-shopify-hmac-sha256",
            "x-slack-signature",
            "x-amz-security-token",
            "x-csrf-token",
            "x-functions-key",
            "ocp-apim-subscription-key",
            "x-goog-authenticated-user-email",
            "x-forwarded-client-cert",
            "PHPSESSIONID",
            "password",
        ];
        assert!(names_left(&Redaction::new(), &credentials).is_empty());
        let harmless = [
            "content-type",
            "content-length",
            "host",
            "idempotency-key",
            "x-idempotency-key",
            "webhook-id",
            "webhook-timestamp",
            "traceparent",
            "user-agent",
            "x-request-id",
            "x-author",
        ];
        assert_eq!(names_left(&Redaction::new(), &harmless), harmless);
    }

    #[test]
    fn what_is_said_of_a_name_is_above_the_rule_and_the_last_word_counts() {
        let redaction = Redaction::new().allow("X-Api-Key").deny("host");
        let left = names_left(&redaction, &["x-api-key", "host", "cookie"]);
        assert_eq!(left, ["x-api-key"]);
        let redaction = redaction.deny("x-api-key").allow("host");
        assert_eq!(names_left(&redaction, &["x-api-key", "host"]), ["host"]);
    }

    #[test]
    fn a_uri_loses_its_user_and_its_secrets_and_nothing_else() {
        for (uri, expected) in [
            ("https://u:p@a.test:8443/x?n=1", "https://a.test:8443/x?n=1"),
            ("https://u:p%40@w@a.test", "https://a.test"),
            (
                "https://a.test/@user?to=b@c.test",
                "https://a.test/@user?to=b@c.test",
            ),
            ("/hooks?token=abc", "/hooks?token=redacted"),
            ("/@me/x", "/@me/x"),
            ("u:p@a.test:443", "a.test:443"),
            (
                "/?a=1&api_key=2;sig=3&b",
                "/?a=1&api_key=redacted;sig=redacted&b",
            ),
            (
                "/?%74oken=abc&auth%5Bkey%5D=x",
                "/?%74oken=redacted&auth%5Bkey%5D=redacted",
            ),
            ("/?token=&x=", "/?token=&x="),
            ("/?", "/?"),
            ("/?a=1&", "/?a=1&"),
            ("/?Code=1&zip_code=2", "/?Code=redacted&zip_code=2"),
            ("/x#access_token=abc", "/x"),
            ("", ""),
        ] {
            assert_eq!(redacted_uri(uri), expected, "{uri}");
        }
    }

    #[test]
    fn urls_in_an_error_message_are_treated_the_same() {
        let mut letter = letter();
        let message = "error sending request for url (https://u:p@a.test/x?key=1&n=2): timed out";
        letter.cause = letter.cause.with_message(message);
        Redaction::new().apply(&mut letter);
        assert_eq!(
            letter.cause.message.as_deref(),
            Some("error sending request for url (https://a.test/x?key=redacted&n=2): timed out")
        );
    }

    #[test]
    fn where_a_function_panics_nothing_is_kept_that_it_was_to_take_out() {
        let mut letter = letter();
        letter.headers = vec![("host".to_owned(), Bytes::new())];
        letter.uri = Some("/".to_owned());
        letter.body = LetterBody::new(&Bytes::from_static(b"body"), 10);
        Redaction::new()
            .with(|letter| letter.kind = "seen".to_owned())
            .with(|_| panic!("on purpose"))
            .apply(&mut letter);
        assert_eq!(letter.kind, "seen");
        assert_eq!((letter.headers.len(), &letter.uri), (0, &None));
        assert!(letter.body.bytes().is_empty() && letter.body.is_truncated());
    }

    #[test]
    fn headers_are_bounded() {
        let mut letter = letter();
        let header = |name: &str, length| (name.to_owned(), Bytes::from(vec![b'x'; length]));
        letter.headers = vec![header("long", MOST_HEADER)];
        letter
            .headers
            .extend((0..1_000).map(|_| header("short", 100)));
        letter.uri = Some("é".repeat(MOST_URI));
        Redaction::new().apply(&mut letter);
        assert_eq!(letter.headers.len(), MOST_HEADERS);
        assert!(letter.headers.iter().all(|(name, _)| name == "short"));
        assert!(letter.uri.unwrap().len() <= MOST_URI);
    }

    proptest! {
        #[test]
        fn no_secret_comes_through(
            user in "[a-z:%0-9]{0,8}",
            name in "(access_|x-)?(token|apiKey|secret|signature|PASSWORD)",
            before in "[a-z=&;%.]{0,12}",
            after in "[a-z=&;%#?/@]{0,12}",
        ) {
            let uri = format!("https://{user}SECRET@a.test/x?{before}&{name}=SECRET&{after}");
            let redacted = redacted_uri(&uri);
            prop_assert!(!redacted.contains("SECRET"), "{redacted}");
            prop_assert!(redacted.starts_with("https://a.test/x?"));
            prop_assert_eq!(redacted_uri(&redacted), redacted);
        }

        #[test]
        fn any_text_is_taken(text in ".{0,64}") {
            let redacted = redacted_uri(&text);
            prop_assert_eq!(redacted_uri(&redacted), redacted);
            let _ = redacted_text(&text);
        }
    }
}
