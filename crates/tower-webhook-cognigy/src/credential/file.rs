//! Credentials of a file.

use super::{
    ClientCredentials, Credential, CredentialLayer, CredentialName, Credentials, TokenSource,
};
use http::{Request, Response};
use http_body::Body;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use std::fmt;
use tower_service::Service;
use tower_webhook::{
    BoxError, InvalidConfig, body::BufferedBody, signature::Secret, target::TargetRules,
};

/// One credential, by its kind, and where it goes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    origin: String,
    bearer: Option<String>,
    basic: Option<Basic>,
    header: Option<Header>,
    token: Option<Token>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Basic {
    user: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    url: String,
    client_id: String,
    client_secret: String,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    grant: Grant,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Grant {
    #[default]
    Form,
    BasicForm,
    BasicJson,
}

/// All members of the object, also two of one name.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

impl Credentials {
    /// Reads credentials by name from a JSON object: a file that the operator keeps apart from what names them.
    ///
    /// ```json
    /// {
    ///   "crm": {"origin": "https://crm.example.com", "bearer": "a-token-that-does-not-change"},
    ///   "contacts": {"origin": "https://api.example-crm.com", "header": {"name": "X-API-Key", "value": "9f1c"}},
    ///   "tickets": {"origin": "https://tickets.example.com", "basic": {"user": "bot", "password": "..."}},
    ///   "lookup": {"origin": "https://api.example.com", "token": {
    ///     "url": "https://login.example.com/oauth/token", "client_id": "gateway-7", "client_secret": "...",
    ///     "scopes": ["api:customer:read"], "grant": "form"
    ///   }}
    /// }
    /// ```
    ///
    /// Each has an `origin` and one of `bearer`, `basic`, `header` and `token`. `grant` is how tokens are asked for, of
    /// [`ClientCredentials`]: `form` (the default), `basic_form` or `basic_json`; `scopes` are none by default. `rules` say
    /// which origins and token endpoints are permitted, and `client` is what tokens are asked for with: it must not follow
    /// redirects.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the credential and the field, and quotes no value.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use http::{Request, Response};
    /// # use tower_webhook::body::BufferedBody;
    /// # let client = tower::service_fn(|_: Request<BufferedBody>| async { Ok::<_, Infallible>(Response::new(BufferedBody::default())) });
    /// use tower_webhook::target::TargetRules;
    /// use tower_webhook_cognigy::credential::Credentials;
    ///
    /// let file = br#"{"crm": {"origin": "https://crm.example.com", "bearer": ""}}"#;
    /// let error = Credentials::from_json(file, TargetRules::new(), &client).unwrap_err();
    /// assert_eq!(error.to_string(), "`credentials` crm: `token` must not be empty");
    /// ```
    pub fn from_json<S, B>(
        json: &[u8],
        rules: TargetRules,
        client: &S,
    ) -> Result<Self, InvalidConfig>
    where
        S: Service<Request<BufferedBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body<Error: Into<BoxError>> + Send + 'static,
        B::Data: Send,
    {
        let invalid = |problem: String| InvalidConfig::new("credentials", problem);
        let mut json = serde_json::Deserializer::from_slice(json);
        let Entries(entries) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            // Where, and not what: the message of the parser quotes values.
            let (path, at) = (error.path(), error.inner());
            let (line, column) = (at.line(), at.column());
            let problem = "is missing, unknown or of another type";
            invalid(format!("{path}: {problem} (line {line}, column {column})"))
        })?;
        json.end()
            .map_err(|_| invalid("has more than one object".into()))?;
        let mut all = Self::new();
        for (name, entry) in entries {
            let at = |error: InvalidConfig| invalid(format!("{name}: {error}"));
            let origin = entry.origin.clone();
            let credential = entry.credential(rules, client.clone()).map_err(at)?;
            let layer = CredentialLayer::with_rules(credential, &origin, rules).map_err(at)?;
            let known = CredentialName::new(name.as_str()).map_err(at)?;
            if all.contains(&known) {
                return Err(invalid(format!("{name}: there are two of this name")));
            }
            all = all.with(known, layer);
        }
        Ok(all)
    }
}

impl Entry {
    fn credential<S, B>(self, rules: TargetRules, client: S) -> Result<Credential, InvalidConfig>
    where
        S: Service<Request<BufferedBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body<Error: Into<BoxError>> + Send + 'static,
        B::Data: Send,
    {
        match (self.bearer, self.basic, self.header, self.token) {
            (Some(token), None, None, None) => Credential::bearer(token),
            (None, Some(of), None, None) => Credential::basic(&of.user, of.password),
            (None, None, Some(of), None) => Credential::header(&of.name, of.value),
            (None, None, None, Some(of)) => {
                let secret = Secret::from(of.client_secret);
                let grant = match of.grant {
                    Grant::Form => ClientCredentials::form(of.client_id, secret),
                    Grant::BasicForm => ClientCredentials::basic_form(of.client_id, secret),
                    Grant::BasicJson => ClientCredentials::basic_json(of.client_id, secret),
                };
                let source = TokenSource::builder(grant.scopes(of.scopes), of.url).rules(rules);
                Ok(Credential::token(source.build(client)?))
            }
            _ => Err(InvalidConfig::new(
                "bearer",
                "or `basic`, `header` or `token` must be there, and only one of them",
            )),
        }
    }
}
