use super::{RouteError, Signals, template};
use bytes::Bytes;
use serde_json::Value;
use std::{
    fmt,
    sync::{Arc, OnceLock},
};
use tower_webhook::cognigy::{CognigyEvent, WebhookDelivery};

/// An event to be routed: its bytes, its id, and its [`Signals`]. Clones share it.
///
/// # Examples
///
/// ```
/// use tower_webhook::{BoxError, cognigy::CognigyEvent};
/// use tower_webhook_cognigy::routing::{Input, TriggerType};
///
/// let event = CognigyEvent::from_bytes(
///     r#"{"eventId":"evt_1","timestamp":"2024-01-15T10:00:00Z","type":"DIALOG_STARTED","payload":{}}"#,
/// )?;
/// let input = Input::try_from(&event)?;
/// assert_eq!(input.id(), Some("evt_1"));
/// assert_eq!(input.signals().score(&TriggerType::FlowStart), Some(1.0));
/// # Ok::<_, BoxError>(())
/// ```
#[derive(Clone)]
pub struct Input(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    raw: Bytes,
    id: Option<String>,
    json: Value,
    signals: Signals,
    /// As templates need it: made for the first, shared by all.
    value: OnceLock<minijinja::Value>,
}

impl Input {
    /// The object that S1's trigger route takes. Its id is its member `id`, if that is text.
    ///
    /// # Errors
    ///
    /// [`RouteError`] if the bytes are not a JSON object.
    pub fn trigger(raw: impl Into<Bytes>) -> Result<Self, RouteError> {
        let raw = raw.into();
        let json = read(&raw)?;
        let signals = Signals::of_trigger(&json);
        let id = json["id"].as_str().map(str::to_owned);
        Ok(Self::new(raw, id, json, signals))
    }

    fn new(raw: Bytes, id: Option<String>, json: Value, signals: Signals) -> Self {
        Self(Arc::new(Inner {
            raw,
            id,
            json,
            signals,
            value: OnceLock::new(),
        }))
    }

    /// Replaces the id. It becomes a part of the `Idempotency-Key` of each request.
    #[must_use]
    pub fn with_id(self, id: impl Into<String>) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.id = Some(id.into());
        Self(Arc::new(inner))
    }

    /// Replaces the signals, where the event says them in another way.
    #[must_use]
    pub fn with_signals(self, signals: Signals) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.signals = signals;
        Self(Arc::new(inner))
    }

    /// The event, byte for byte as it was received.
    pub fn raw(&self) -> &Bytes {
        &self.0.raw
    }

    /// The id of the event: `eventId` of an envelope. Dialog events and the platform's deliveries have none.
    pub fn id(&self) -> Option<&str> {
        self.0.id.as_deref()
    }

    /// What conditions are evaluated against.
    pub fn signals(&self) -> &Signals {
        &self.0.signals
    }

    pub(super) fn json(&self) -> &Value {
        &self.0.json
    }

    pub(super) fn value(&self) -> minijinja::Value {
        let value = self.0.value.get_or_init(|| template::value(&self.0.json));
        value.clone()
    }
}

fn read(raw: &[u8]) -> Result<Value, RouteError> {
    let json = serde_json::from_slice(raw).ok();
    json.filter(Value::is_object)
        .ok_or_else(RouteError::of_event)
}

impl TryFrom<&CognigyEvent> for Input {
    type Error = RouteError;

    fn try_from(event: &CognigyEvent) -> Result<Self, RouteError> {
        let json = read(event.raw())?;
        let signals = match event {
            CognigyEvent::Envelope(envelope) => Signals::of_envelope(envelope.event_type(), &json),
            _ => Signals::of_dialog(&json),
        };
        let id = event.event_id().map(str::to_owned);
        Ok(Self::new(event.raw().clone(), id, json, signals))
    }
}

impl TryFrom<&WebhookDelivery> for Input {
    type Error = RouteError;

    fn try_from(delivery: &WebhookDelivery) -> Result<Self, RouteError> {
        let json = read(delivery.raw())?;
        let signals = Signals::of_delivery(&json);
        Ok(Self::new(delivery.raw().clone(), None, json, signals))
    }
}

/// Leaves out the event, because received data does not belong in logs.
impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("id", &self.0.id)
            .field("bytes", &self.0.raw.len())
            .finish_non_exhaustive()
    }
}
