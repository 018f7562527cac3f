//! What the documents' API and the router both say of a webhook: its conditions, and the form of its payloads.

#[cfg(feature = "routing")]
use http::HeaderValue;
use serde::{Deserialize, Serialize};
use std::fmt;
use tower_webhook::InvalidConfig;

/// The form of a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[non_exhaustive]
pub enum PayloadFormat {
    /// `JSON`, sent as `application/json`.
    #[default]
    #[serde(rename = "JSON")]
    Json,
    /// `XML`, sent as `application/xml`.
    #[serde(rename = "XML")]
    Xml,
}

impl PayloadFormat {
    #[cfg(feature = "routing")]
    pub(crate) const fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/json",
            Self::Xml => "application/xml",
        })
    }
}

/// The longest name of a type outside S1's four, in bytes.
const LONGEST_NAME: usize = 64;

/// What a [`TriggerCondition`] asks for: one of S1's four, or any other type of event.
///
/// An open enum. S1's names are in lower case, and in lower case there are no others, so that a misspelt
/// `flow_strat` is refused and not a condition that never holds. All other types are in upper case: those of S4
/// (`DIALOG_STARTED`), which a sender may extend, and those that the router's `Signals` list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TriggerType {
    /// `entity`: the event has an entity (a slot) that was recognised.
    Entity,
    /// `flow_end`: the dialog has ended.
    FlowEnd,
    /// `flow_start`: the dialog has started.
    FlowStart,
    /// `intent`: the event has an intent that was recognised.
    Intent,
    /// Any other, as it is written: such as `USER_INPUT_RECEIVED`. It may come from a sender, so it must not be a
    /// metric label.
    Other(Box<str>),
}

impl TriggerType {
    /// The spelling on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Entity => "entity",
            Self::FlowEnd => "flow_end",
            Self::FlowStart => "flow_start",
            Self::Intent => "intent",
            Self::Other(name) => name,
        }
    }

    /// Whether a condition may have this type.
    fn is_allowed(&self) -> bool {
        let Self::Other(name) = self else {
            return true;
        };
        let usual =
            |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
        name.len() <= LONGEST_NAME
            && name.as_bytes().first().is_some_and(u8::is_ascii_uppercase)
            && name.bytes().all(usual)
    }
}

impl From<&str> for TriggerType {
    fn from(name: &str) -> Self {
        match name {
            "entity" => Self::Entity,
            "flow_end" => Self::FlowEnd,
            "flow_start" => Self::FlowStart,
            "intent" => Self::Intent,
            other => Self::Other(other.into()),
        }
    }
}

impl fmt::Display for TriggerType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// S1's condition: an event has a signal of this type, of at least this score.
///
/// # Examples
///
/// ```
/// use tower_webhook_cognigy::hook::{TriggerCondition, TriggerType};
///
/// let sure = TriggerCondition::new(TriggerType::Intent, 0.8)?;
/// assert_eq!(
///     serde_json::to_string(&sure.negate())?,
///     r#"{"event_type":"intent","threshold":0.8,"negate":true}"#,
/// );
/// # Ok::<_, tower_webhook::BoxError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TriggerCondition {
    event_type: TriggerType,
    threshold: f64,
    negate: bool,
}

impl TriggerCondition {
    /// A condition that holds if the event has a signal of this type whose score is at least `threshold`, from 0
    /// to 1. With 0 any signal of the type will do.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if the threshold is not from 0 to 1, or the type is neither one of S1's four nor in upper case.
    pub fn new(event_type: TriggerType, threshold: f64) -> Result<Self, InvalidConfig> {
        if !event_type.is_allowed() {
            let problem = "must be `intent`, `entity`, `flow_start`, `flow_end`, or the type of an event in upper case, \
                           such as `DIALOG_STARTED`";
            return Err(InvalidConfig::new("event_type", problem));
        }
        if !(0.0..=1.0).contains(&threshold) {
            return Err(InvalidConfig::new("threshold", "must be from 0 to 1"));
        }
        Ok(Self {
            event_type,
            threshold,
            negate: false,
        })
    }

    /// The opposite condition.
    #[must_use]
    pub const fn negate(mut self) -> Self {
        self.negate = !self.negate;
        self
    }

    /// The type of the signal.
    pub const fn event_type(&self) -> &TriggerType {
        &self.event_type
    }

    /// The least score.
    pub const fn threshold(&self) -> f64 {
        self.threshold
    }

    /// Whether the condition holds where there is no such signal.
    pub const fn is_negated(&self) -> bool {
        self.negate
    }
}

impl Serialize for TriggerType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for TriggerCondition {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wire {
            event_type: String,
            threshold: f64,
            #[serde(default)]
            negate: bool,
        }
        let wire = Wire::deserialize(deserializer)?;
        let condition = Self::new(wire.event_type.as_str().into(), wire.threshold);
        let condition = condition.map_err(serde::de::Error::custom)?;
        Ok(if wire.negate {
            condition.negate()
        } else {
            condition
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_has_a_type_that_is_known_or_in_upper_case_and_a_threshold_from_0_to_1() {
        for name in [
            "intent",
            "entity",
            "flow_start",
            "flow_end",
            "DIALOG_STARTED",
            "AI_OUTPUT",
            "X",
        ] {
            assert!(TriggerCondition::new(name.into(), 0.5).is_ok(), "{name}");
        }
        let long = "A".repeat(65);
        for name in ["", "flow_strat", "Intent", "_A", "A B", "Ä", &long] {
            let refused = TriggerCondition::new(name.into(), 0.5).unwrap_err();
            assert_eq!(refused.setting(), "event_type", "{name}");
        }
        for threshold in [0.0, -0.0, 1.0] {
            assert!(TriggerCondition::new(TriggerType::Intent, threshold).is_ok());
        }
        for threshold in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let refused = TriggerCondition::new(TriggerType::Intent, threshold).unwrap_err();
            assert_eq!(refused.setting(), "threshold");
        }
    }
}
