mod text;
mod url;

pub(super) use self::{text::redacted_text, url::is_redacted};

use self::url::redacted_uri;
use super::Entry;
use crate::{catch_panic::catch_panic, credentials::names_a_credential};
use bytes::Bytes;
use std::{collections::BTreeMap, fmt, mem, sync::Arc};

/// Replaces a value that was removed.
const REDACTED: &str = "redacted";

/// The largest number of headers in an entry; further ones are left out.
const MOST_HEADERS: usize = 128;

/// The largest size of one header (name and value), and of all headers, in bytes.
const MOST_HEADER: usize = 8 << 10;
const MOST_OF_HEADERS: usize = 32 << 10;

/// The largest size of a URI, and of the other texts from a request, in bytes.
const MOST_URI: usize = 16 << 10;
pub(crate) const MOST_TEXT: usize = 1024;

type Hook = Arc<dyn Fn(&mut Entry) + Send + Sync>;

/// Removes credentials from entries, and limits the size of what a request adds to them.
///
/// - **Headers**: a header is left out if the letters and digits of its name contain `accesskey`,
///   `apikey`, `authenticat`, `authorization`, `bearer`, `clientcert`, `cookie`, `credential`,
///   `hmac`, `jwt`, `passphrase`, `passw`, `privatekey`, `secret`, `session`, `signature` or
///   `token`, have `auth` as a word, or end with `key` and not with `idempotencykey`. This leaves out
///   `authorization`, `proxy-authorization`, `cookie`, `set-cookie`, `x-api-key`, `x-auth-token`,
///   `webhook-signature`, `x-hub-signature-256` and `x-shopify-hmac-sha256`.
///   [`allow`](Self::allow) and [`deny`](Self::deny) make exceptions.
/// - **URIs**: the fragment is removed. User and password are replaced by `redacted`, and so is the
///   value of a parameter whose name is as above, or `code`, `pass`, `pwd` or `sig`. A value that is
///   itself a URL, encoded or not, is checked in the same way, and replaced as a whole if it holds a
///   credential, or is encoded more than once. A secret in a path is not recognized: remove it with a function ([`with`](Self::with)).
/// - **Error messages**: of a URL only scheme, host and port stay. Any other word is replaced by `redacted` if it has a
///   query, a password, a parameter as above, or a percent-encoded character.
/// - **Bodies** are not changed: use a function ([`with`](Self::with)).
///
/// An entry holds at most 128 headers of at most 8 KiB each and 32 KiB together, a URI of 16 KiB, and a
/// method, ids and an idempotency key of 1 KiB each. A longer value is left out, not cut: left-out
/// headers are [counted](Entry::headers_left_out), and an entry without its URI cannot be sent again. Kind
/// and target are cut after 1 KiB.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use std::time::SystemTime;
/// use tower_webhook::dead_letter::{Cause, Entry, EntryBody, EntryId, Reason, Redaction};
///
/// let redaction = Redaction::new()
///     .allow("x-public-key")
///     .deny("x-customer")
///     .with(|entry| {
///         if entry.target == "payments.example.com" {
///             entry.body = EntryBody::default();
///         }
///     });
///
/// let cause = Cause::new(Reason::Rejected);
/// let (id, now) = (EntryId::random(), SystemTime::now());
/// let mut entry = Entry::new(id, "http", "payments.example.com", cause, now);
/// entry.uri = Some("https://user:pass@payments.example.com/hooks?access_token=abc&n=1".into());
/// for name in ["authorization", "content-type", "x-customer", "x-public-key"] {
///     entry.headers.push((name.into(), Bytes::from_static(b"value")));
/// }
/// redaction.apply(&mut entry);
///
/// let uri = entry.uri.as_deref();
/// let expected = "https://redacted@payments.example.com/hooks?access_token=redacted&n=1";
/// assert_eq!(uri, Some(expected));
/// let names: Vec<_> = entry.headers.iter().map(|(name, _)| name.as_str()).collect();
/// assert_eq!(names, ["content-type", "x-public-key"]);
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct Redaction {
    /// Whether to keep a header of this name, regardless of the rules.
    names: BTreeMap<String, bool>,
    hook: Option<Hook>,
}

impl Redaction {
    /// Makes a redaction with the rules above.
    pub const fn new() -> Self {
        Self {
            names: BTreeMap::new(),
            hook: None,
        }
    }

    /// Sets the header of this name, in upper or lower case, to be kept. Default: the rules decide. Replaces an
    /// earlier setting for the name.
    pub fn allow(mut self, name: &str) -> Self {
        self.names.insert(name.to_ascii_lowercase(), true);
        self
    }

    /// Sets the header of this name, in upper or lower case, to be left out. Default: the rules decide.
    /// Replaces an earlier setting for the name.
    pub fn deny(mut self, name: &str) -> Self {
        self.names.insert(name.to_ascii_lowercase(), false);
        self
    }

    /// Adds a function that changes each entry after the rules, for bodies and other secrets. Default: none.
    /// Functions run in the order in which they were added. If one panics, the entry loses its headers, body,
    /// URI and error message.
    pub fn with(mut self, redact: impl Fn(&mut Entry) + Send + Sync + 'static) -> Self {
        let before = self.hook.take();
        self.hook = Some(Arc::new(move |entry: &mut Entry| {
            if let Some(before) = &before {
                before(entry);
            }
            redact(entry);
        }));
        self
    }

    /// Applies the rules and functions to an entry.
    pub fn apply(&self, entry: &mut Entry) {
        let too_long = |text: &mut String| text.len() > MOST_TEXT;
        if entry.idempotency_key.take_if(too_long).is_some() {
            // A re-drive would send it as a header.
            entry.headers_left_out = entry.headers_left_out.saturating_add(1);
        }
        let before = entry.headers.len();
        entry.headers.retain(|(name, _)| self.keeps(name));
        let credentials = before - entry.headers.len();
        let left_out = shorten(&mut entry.headers);
        entry.headers_left_out = entry.headers_left_out.saturating_add(left_out);
        entry.uri.take_if(|uri| uri.len() > MOST_URI);
        if let Some(uri) = &mut entry.uri {
            *uri = redacted_uri(uri);
        }
        if let Some(message) = entry.cause.message.take() {
            let message = redacted_text(whole_words(&message));
            entry.cause = entry.cause.clone().with_message(&message);
        }
        entry.method.take_if(too_long);
        entry.event_id.take_if(too_long);
        entry.replay_of.take_if(too_long);
        entry.trace_id.take_if(too_long);
        cut(&mut entry.kind, MOST_TEXT);
        cut(&mut entry.target, MOST_TEXT);
        let body = entry.body.clone();
        if let Some(hook) = &self.hook
            && catch_panic(|| hook(entry)).is_none()
        {
            entry.headers.clear();
            entry.uri = None;
            entry.body = mem::take(&mut entry.body).cut(0);
            entry.cause.message = None;
        }
        let credentials = credentials + usize::from(entry.body != body);
        let credentials = u32::try_from(credentials).unwrap_or(u32::MAX);
        entry.credentials_left_out = entry.credentials_left_out.saturating_add(credentials);
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

/// Leaves out headers that are too large. Returns their number.
fn shorten(headers: &mut Vec<(String, Bytes)>) -> u32 {
    let before = headers.len();
    let mut left = MOST_OF_HEADERS;
    headers.retain(|(name, value)| {
        let length = name.len().saturating_add(value.len());
        let fits = length <= MOST_HEADER.min(left);
        left -= if fits { length } else { 0 };
        fits
    });
    headers.truncate(MOST_HEADERS);
    u32::try_from(before - headers.len()).unwrap_or(u32::MAX)
}

/// Removes the last word of a message that may have been cut: half of a URL may not be recognized.
fn whole_words(message: &str) -> &str {
    if message.chars().nth(Entry::MAX_MESSAGE - 1).is_none() {
        return message;
    }
    let end = message.rfind(char::is_whitespace);
    end.map_or(message, |end| &message[..end])
}

/// The beginning of a text, of at most `most` bytes.
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
    use crate::dead_letter::{Cause, EntryBody, EntryId, Reason};
    use std::time::UNIX_EPOCH;

    fn entry() -> Entry {
        let cause = Cause::new(Reason::Rejected);
        let id = EntryId::from_bytes([7; 16]);
        Entry::new(id, "http", "peer.test", cause, UNIX_EPOCH)
    }

    fn names_left(redaction: &Redaction, names: &[&str]) -> Vec<String> {
        let mut entry = entry();
        let value = Bytes::from_static(b"value");
        entry.headers = { names.iter() }
            .map(|name| ((*name).to_owned(), value.clone()))
            .collect();
        redaction.apply(&mut entry);
        entry.headers.into_iter().map(|(name, _)| name).collect()
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
    fn urls_in_an_error_message_end_after_their_origin() {
        let mut entry = entry();
        let message = "error sending request for url (https://u:p@a.test/x?key=1&n=2): timed out";
        entry.cause = entry.cause.with_message(message);
        Redaction::new().apply(&mut entry);
        assert_eq!(
            entry.cause.message.as_deref(),
            Some("error sending request for url (https://a.test): timed out")
        );
    }

    #[test]
    fn where_a_function_panics_nothing_is_kept_that_it_was_to_take_out() {
        let mut entry = entry();
        entry.headers = vec![("host".to_owned(), Bytes::new())];
        entry.uri = Some("/".to_owned());
        entry.body = EntryBody::new(&Bytes::from_static(b"body"), 10);
        entry.cause = entry.cause.with_message("body");
        Redaction::new()
            .with(|entry| entry.kind = "seen".to_owned())
            .with(|_| panic!("on purpose"))
            .apply(&mut entry);
        assert_eq!(entry.kind, "seen");
        assert_eq!((entry.headers.len(), &entry.uri), (0, &None));
        assert_eq!(entry.cause.message, None);
        assert!(entry.body.bytes().is_empty() && entry.body.is_truncated());
    }

    #[test]
    fn what_is_too_long_is_left_out_whole_and_counted() {
        let mut entry = entry();
        let header = |name: &str, length| (name.to_owned(), Bytes::from(vec![b'x'; length]));
        entry.headers = vec![header("long", MOST_HEADER), header("cookie", MOST_HEADER)];
        entry
            .headers
            .extend((0..1_000).map(|_| header("short", 100)));
        entry.uri = Some("/".repeat(MOST_URI + 1));
        entry.idempotency_key = Some("k".repeat(MOST_TEXT + 1));
        entry.event_id = Some("é".repeat(MOST_TEXT));
        entry.trace_id = Some("t".repeat(MOST_TEXT));
        Redaction::new().apply(&mut entry);
        assert_eq!(entry.headers.len(), MOST_HEADERS);
        assert!(entry.headers.iter().all(|(name, _)| name == "short"));
        // The long header, the short ones for which there is no room, and the key; none is a credential.
        assert_eq!(entry.headers_left_out, 1 + (1_000 - 128) + 1);
        assert_eq!((&entry.uri, &entry.idempotency_key), (&None, &None));
        assert_eq!(entry.event_id, None);
        assert!(entry.trace_id.is_some());
        // Headers that were left out before stay counted.
        Redaction::new().apply(&mut entry);
        assert_eq!(entry.headers_left_out, 1 + (1_000 - 128) + 1);
    }

    #[test]
    fn a_message_that_was_cut_within_a_url_does_not_end_with_its_half() {
        let mut entry = entry();
        let before = "x".repeat(Entry::MAX_MESSAGE - 20);
        let message = format!("{before} https://SECRET-OF-SOME-LENGTH@a.test/");
        entry.cause = entry.cause.with_message(&message);
        Redaction::new().apply(&mut entry);
        assert_eq!(entry.cause.message, Some(before));
    }
}
