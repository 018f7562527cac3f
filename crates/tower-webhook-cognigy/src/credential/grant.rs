//! The forms in which the documents and the platform ask for a token.

use super::secret_text;
use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderValue, Method, Request, Uri, header};
use std::fmt;
use tower_webhook::{InvalidConfig, body::BufferedBody, signature::Secret};
use zeroize::Zeroizing;

/// How a token is asked for: the OAuth 2.0 client credentials grant
/// ([RFC 6749 §4.4](https://www.rfc-editor.org/rfc/rfc6749#section-4.4)) in one of four forms.
///
/// | Form | Source | Path | Credentials | Body | Scopes by default |
/// | --- | --- | --- | --- | --- | --- |
/// | [`basic_form`](Self::basic_form) | documents, S0 | `/api/v2/auth/token` | Basic header | form: `grant_type`, `scope` | `bot:webhooks:manage`, `bot:webhooks:read` |
/// | [`basic_json`](Self::basic_json) | documents, S1 | `/api/v2/auth/token` | Basic header | JSON: `grant_type` | none are sent |
/// | [`form`](Self::form) | documents, S4 | `/api/v1/auth/oauth/token` | in the body | form: `grant_type`, `client_id`, `client_secret`, `scope` | `webhook:read`, `webhook:write`, `dialog:read` |
/// | [`platform`](Self::platform) | the client of the platform, `@cognigy/rest-api-client` 0.19.0 | `/auth/oauth2/token` | in the body | as `form` | none are sent: keys and tokens have the roles of their user |
///
/// The first three have no trace in what Cognigy publishes. `form` is `client_secret_post` of
/// [RFC 6749 §2.3.1](https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1), which most other servers take, and
/// `basic_form` is `client_secret_basic`, but for one thing: the id and the secret are in the Basic header as they are, as the
/// documents send them, and not percent-encoded first.
///
/// `Debug` shows neither the id nor the secret.
///
/// # Examples
///
/// ```
/// use tower_webhook_cognigy::credential::ClientCredentials;
///
/// let grant = ClientCredentials::form("client-7", "its secret").scopes(["webhook:read"]);
/// assert!(!format!("{grant:?}").contains("secret"));
/// ```
#[derive(Clone)]
#[must_use]
pub struct ClientCredentials {
    form: Form,
    id: String,
    secret: Secret,
    scopes: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A Basic header, and a form.
    Basic,
    /// A Basic header, and JSON.
    Json,
    /// `client_secret_post`, with the path of its source.
    Post(&'static str),
}

impl ClientCredentials {
    fn new(form: Form, id: impl Into<String>, secret: impl Into<Secret>, scopes: &[&str]) -> Self {
        Self {
            form,
            id: id.into(),
            secret: secret.into(),
            scopes: scopes.iter().copied().map(str::to_owned).collect(),
        }
    }

    /// A Basic header and a form: the documents' S0.
    pub fn basic_form(client_id: impl Into<String>, client_secret: impl Into<Secret>) -> Self {
        let scopes = ["bot:webhooks:manage", "bot:webhooks:read"];
        Self::new(Form::Basic, client_id, client_secret, &scopes)
    }

    /// A Basic header and JSON: the documents' S1.
    pub fn basic_json(api_key: impl Into<String>, api_secret: impl Into<Secret>) -> Self {
        Self::new(Form::Json, api_key, api_secret, &[])
    }

    /// Everything in a form: the documents' S4, and the most common one elsewhere.
    pub fn form(client_id: impl Into<String>, client_secret: impl Into<Secret>) -> Self {
        let scopes = ["webhook:read", "webhook:write", "dialog:read"];
        let form = Form::Post("/api/v1/auth/oauth/token");
        Self::new(form, client_id, client_secret, &scopes)
    }

    /// Everything in a form: the official platform, whose API speaks of OAuth 2.0 clients.
    pub fn platform(client_id: impl Into<String>, client_secret: impl Into<Secret>) -> Self {
        let form = Form::Post("/auth/oauth2/token");
        Self::new(form, client_id, client_secret, &[])
    }

    /// Sets the scopes that are asked for. Default: those of the table above. An empty list sends no `scope`.
    pub fn scopes<T: Into<String>>(mut self, scopes: impl IntoIterator<Item = T>) -> Self {
        self.scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// The path of the token endpoint, where the address has none.
    pub(super) const fn path(&self) -> &'static str {
        match self.form {
            Form::Basic | Form::Json => "/api/v2/auth/token",
            Form::Post(path) => path,
        }
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        let invalid = |setting, problem: &str| Err(InvalidConfig::new(setting, problem));
        if self.id.is_empty() {
            return invalid("client_id", "must not be empty");
        }
        if self.secret.as_bytes().is_empty() {
            return invalid("client_secret", "must not be empty");
        }
        if matches!(self.form, Form::Basic | Form::Json) {
            secret_text::basic(&self.id, &self.secret, "client_id", "client_secret")?;
        }
        // RFC 6749 §3.3: printable, without space, `"` and `\`.
        let is_scope = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        let fits = |scope: &String| !scope.is_empty() && scope.bytes().all(is_scope);
        if !self.scopes.iter().all(fits) {
            let problem = "must be printable ASCII, each without a space, a quote and a backslash";
            return invalid("scopes", problem);
        }
        Ok(())
    }

    /// The request for a token. What it holds of the secret is overwritten when it is dropped.
    pub(super) fn request(&self, uri: Uri) -> Result<Request<BufferedBody>, InvalidConfig> {
        let mut req = Request::new(BufferedBody::from(self.body()));
        *req.method_mut() = Method::POST;
        *req.uri_mut() = uri;
        let headers = req.headers_mut();
        let json = HeaderValue::from_static("application/json");
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let content = match self.form {
            Form::Json => json.clone(),
            Form::Basic | Form::Post(_) => form,
        };
        headers.insert(header::CONTENT_TYPE, content);
        headers.insert(header::ACCEPT, json);
        if matches!(self.form, Form::Basic | Form::Json) {
            let value = secret_text::basic(&self.id, &self.secret, "client_id", "client_secret")?;
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(req)
    }

    fn body(&self) -> Bytes {
        let scope = self.scopes.join(" ");
        if self.form == Form::Json {
            // Scopes are ASCII without quotes and backslashes, so they are JSON as they are.
            return Bytes::from(if scope.is_empty() {
                r#"{"grant_type":"client_credentials"}"#.to_owned()
            } else {
                format!(r#"{{"grant_type":"client_credentials","scope":"{scope}"}}"#)
            });
        }
        let secret = self.secret.as_bytes();
        // Long enough that it never grows: a copy left behind by that would not be overwritten.
        let most = 64 + 3 * (self.id.len() + secret.len() + scope.len());
        let mut out = Zeroizing::new(Vec::with_capacity(most));
        out.extend_from_slice(b"grant_type=client_credentials");
        let mut push = |name: &[u8], value: &[u8]| {
            out.push(b'&');
            out.extend_from_slice(name);
            out.push(b'=');
            for &byte in value {
                push_form(&mut out, byte);
            }
        };
        if matches!(self.form, Form::Post(_)) {
            push(b"client_id", self.id.as_bytes());
            push(b"client_secret", secret);
        }
        if !scope.is_empty() {
            push(b"scope", scope.as_bytes());
        }
        Bytes::from_owner(out)
    }

    /// A text of the server or of the client, without the secret in any form in which it was sent.
    pub(super) fn redact(&self, text: &str) -> String {
        let secret = self.secret.as_bytes();
        let pair = [self.id.as_bytes(), b":", secret].concat();
        let mut encoded = Vec::new();
        for &byte in secret {
            push_form(&mut encoded, byte);
        }
        let sent = [secret.to_vec(), encoded, BASE64.encode(&pair).into_bytes()];
        let sent = sent.iter().filter_map(|sent| str::from_utf8(sent).ok());
        sent.fold(text.to_owned(), |text, sent| {
            text.replace(sent, "[redacted]")
        })
    }
}

/// One byte of a form's value (`application/x-www-form-urlencoded`), as Python's `urlencode` writes it.
fn push_form(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte),
        b' ' => out.push(b'+'),
        _ => {
            let digit = |nibble: u8| HEX[usize::from(nibble & 0xf)];
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte)]);
        }
    }
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentials")
            .field("form", &self.form)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_that_cannot_be_sent_is_refused() {
        let basic = ClientCredentials::basic_form;
        for (grant, problem) in [
            (basic("", "s"), "`client_id` must not be empty"),
            (basic("i", ""), "`client_secret` must not be empty"),
            (
                basic("a:b", "s"),
                "`client_id` must not have a `:`, which ends it",
            ),
            (
                basic("a\n", "s"),
                "`client_id` must not have control characters",
            ),
            (
                basic("a", "s\r\nX: y"),
                "`client_secret` must not have control characters",
            ),
            (
                ClientCredentials::form("", "s"),
                "`client_id` must not be empty",
            ),
            (
                ClientCredentials::platform("i", ""),
                "`client_secret` must not be empty",
            ),
        ] {
            assert_eq!(grant.check().unwrap_err().to_string(), problem);
        }
        for scope in ["", "a b", "a\"b", "a\\b", "a\nb", "ü"] {
            let refused = basic("i", "s").scopes([scope]).check().unwrap_err();
            assert_eq!(refused.setting(), "scopes", "{scope:?}");
        }
        // A form carries anything.
        assert_eq!(ClientCredentials::form("a:b", "ü\n").check(), Ok(()));
    }

    #[test]
    fn no_form_of_the_secret_stays_in_a_text() {
        let grant = ClientCredentials::basic_form("client", "a&b");
        let text = "got a&b as a%26b and Basic Y2xpZW50OmEmYg==";
        assert_eq!(
            grant.redact(text),
            "got [redacted] as [redacted] and Basic [redacted]"
        );
    }
}
