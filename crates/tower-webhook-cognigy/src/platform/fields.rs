use super::{id::MongoId, resources::Channel};
use http::Uri;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::fmt;
use tower_webhook::{InvalidConfig, signature::Secret, target::TargetRules};

/// The fields of an endpoint that is made or changed. Only those that are set are sent.
///
/// `Debug` names them, and shows no value.
///
/// ```
/// use tower_webhook_cognigy::platform::{Channel, EndpointFields};
///
/// let fields = EndpointFields::new().name("Orders").channel(&Channel::Rest).active(true);
/// let json = r#"{"active":true,"channel":"rest","name":"Orders"}"#;
/// assert_eq!(serde_json::to_string(&fields)?, json);
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Default, PartialEq)]
#[must_use]
pub struct EndpointFields(Map<String, Value>);

impl EndpointFields {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// A Webhook Endpoint: its channel, name and settings.
    pub fn webhook(name: impl Into<String>, settings: &WebhookSettings) -> Self {
        Self::new()
            .channel(&Channel::Webhook)
            .name(name)
            .settings(settings.to_json())
    }

    /// Sets the name.
    pub fn name(self, name: impl Into<String>) -> Self {
        self.field("name", name.into())
    }

    /// Sets the channel.
    pub fn channel(self, channel: &Channel) -> Self {
        self.field("channel", channel.as_str())
    }

    /// Sets the flow, by its reference id.
    pub fn flow(self, id: impl Into<String>) -> Self {
        self.field("flowId", id.into())
    }

    /// Sets the locale, by its reference id.
    pub fn locale(self, id: impl Into<String>) -> Self {
        self.field("localeId", id.into())
    }

    /// Sets the snapshot or the project that the endpoint runs.
    pub fn entrypoint(self, id: &MongoId) -> Self {
        self.field("entrypoint", id.as_str())
    }

    /// Sets whether the endpoint takes messages.
    pub fn active(self, active: bool) -> Self {
        self.field("active", active)
    }

    /// Sets the settings of the channel.
    pub fn settings(self, settings: Value) -> Self {
        self.field("settings", settings)
    }

    /// Sets any field, by its name on the wire. The names are those of [`Endpoint`](super::Endpoint).
    pub fn field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }
}

impl fmt::Debug for EndpointFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Serialize for EndpointFields {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

/// The settings of a Webhook Endpoint: where it posts the outputs, and as whom.
///
/// The outputs are not signed. [Basic auth](Self::basic_auth) is all that tells them from anyone's; check it with the library's
/// [`BasicAuth`](tower_webhook::signature::scheme::BasicAuth).
///
/// ```
/// use tower_webhook_cognigy::platform::WebhookSettings;
///
/// let settings = WebhookSettings::new("https://hooks.example.com/cognigy")?
///     .basic_auth("cognigy", "a long random text")?;
/// assert!(!format!("{settings:?}").contains("random"));
/// assert!(WebhookSettings::new("http://hooks.example.com").is_err());
/// # Ok::<_, tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct WebhookSettings {
    url: String,
    basic: Option<(String, Secret)>,
}

impl WebhookSettings {
    /// Settings with the URL that outputs are posted to: `https`, and no private address.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `url`.
    pub fn new(url: impl Into<String>) -> Result<Self, InvalidConfig> {
        Self::with_rules(url, TargetRules::new())
    }

    /// Settings with a URL by other rules: those for an installation that reaches private addresses.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `url`.
    pub fn with_rules(url: impl Into<String>, rules: TargetRules) -> Result<Self, InvalidConfig> {
        let url = url.into();
        let uri: Uri = (url.parse()).map_err(|_| InvalidConfig::new("url", "must be a URL"))?;
        let checked = rules.check(&uri);
        checked.map_err(|error| InvalidConfig::new("url", format!("is refused: {error}")))?;
        Ok(Self { url, basic: None })
    }

    /// Sets user and password of the requests. Default: none.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `user` or `password`, if it is empty or has control characters, if the user has a colon, or the
    /// password is not UTF-8.
    pub fn basic_auth(
        mut self,
        user: impl Into<String>,
        password: impl Into<Secret>,
    ) -> Result<Self, InvalidConfig> {
        let (user, password) = (user.into(), password.into());
        let is_text = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
        if !is_text(&user) || user.contains(':') {
            let problem = "must be text without control characters and colons";
            return Err(InvalidConfig::new("user", problem));
        }
        if !std::str::from_utf8(password.as_bytes()).is_ok_and(is_text) {
            let problem = "must be text without control characters";
            return Err(InvalidConfig::new("password", problem));
        }
        self.basic = Some((user, password));
        Ok(self)
    }

    /// `{webhookUrl, basicAuthUser, basicAuthPassword}`: the typings require all three.
    fn to_json(&self) -> Value {
        let (user, password) = match &self.basic {
            Some((user, password)) => (&**user, String::from_utf8_lossy(password.as_bytes())),
            None => ("", "".into()),
        };
        json!({"webhookUrl": self.url, "basicAuthUser": user, "basicAuthPassword": password})
    }
}

/// One operation of a [batch](super::ApiClient::batch_endpoints).
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointOperation {
    kind: &'static str,
    id: Option<MongoId>,
    value: Option<EndpointFields>,
}

impl EndpointOperation {
    /// Makes an endpoint.
    pub const fn create(fields: EndpointFields) -> Self {
        Self {
            kind: "create",
            id: None,
            value: Some(fields),
        }
    }

    /// Changes an endpoint.
    pub const fn update(id: MongoId, fields: EndpointFields) -> Self {
        Self {
            kind: "update",
            id: Some(id),
            value: Some(fields),
        }
    }

    /// Deletes an endpoint.
    pub const fn delete(id: MongoId) -> Self {
        Self {
            kind: "delete",
            id: Some(id),
            value: None,
        }
    }
}

impl Serialize for EndpointOperation {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("op", self.kind)?;
        if let Some(id) = &self.id {
            map.serialize_entry("id", id)?;
        }
        if let Some(value) = &self.value {
            map.serialize_entry("value", value)?;
        }
        map.end()
    }
}
