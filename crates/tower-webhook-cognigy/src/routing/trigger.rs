//! Conditions, and what of an event they are evaluated against.

use serde::Deserialize;
use serde_json::Value;
use std::fmt;
use tower_webhook::{InvalidConfig, cognigy::EventType};

/// The longest name of a type outside S1's four, in bytes.
const LONGEST_NAME: usize = 64;

/// What a [`TriggerCondition`] asks for: one of S1's four, or any other type of event.
///
/// An open enum. S1's names are in lower case, and in lower case there are no others, so that a misspelt
/// `flow_strat` is refused and not a condition that never holds. All other types are in upper case: those of S4
/// (`DIALOG_STARTED`), which a sender may extend, and those that [`Signals`] lists.
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
/// use tower_webhook_cognigy::routing::{Signals, TriggerCondition, TriggerType};
///
/// let sure = TriggerCondition::new(TriggerType::Intent, 0.8)?;
/// let event = Signals::new().with(TriggerType::Intent, 0.9);
/// assert!(sure.holds(&event));
/// assert!(!sure.negate().holds(&event));
/// # Ok::<_, tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
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

    /// Whether the condition holds for an event with these signals.
    pub fn holds(&self, signals: &Signals) -> bool {
        let found = signals.score(&self.event_type);
        found.is_some_and(|score| score >= self.threshold) != self.negate
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

/// What an event says about the types that conditions ask for: for each type the highest score, from 0 to 1.
///
/// None of the documents says how an event becomes S1's `intent`, `entity`, `flow_start` or `flow_end`, so this
/// crate does:
///
/// | Event | Signals |
/// | --- | --- |
/// | S4's envelope | its `type`, as it is written, 1; `flow_start` for `DIALOG_STARTED` and `flow_end` for `DIALOG_ENDED`, 1; `intent` and `entity` from `payload`, and from `payload.input` if that is an object |
/// | S3's dialog event | `DIALOG_EVENT`, 1; `intent` and `entity` from `variables` |
/// | the platform's delivery | `AI_OUTPUT`, 1; `intent` and `entity` from `AIOutput.data` |
/// | the object of S1's trigger route | its `event_type`, with its `score` or `confidence`; `intent` and `entity` from the object itself |
///
/// An intent is a member `intent`: text that is not empty, with the score of `intentScore` or `intent_score` beside it, or
/// an object with its `score` or `confidence`. An entity is a member `entity` of the same forms, the best of a list
/// `entities`, or a `slots` or `entities` object that is not empty. Without a score, the score is 1. A score outside 0
/// to 1 is the nearest of the two.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Signals(Vec<(TriggerType, f64)>);

impl Signals {
    /// No signals: only negated conditions hold.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a signal. Of two of one type, the higher score counts. A score that is not a number counts as 0.
    pub fn with(mut self, event_type: TriggerType, score: f64) -> Self {
        self.add(event_type, score);
        self
    }

    /// The score of a type, if there is a signal of it.
    pub fn score(&self, event_type: &TriggerType) -> Option<f64> {
        let mut all = self.0.iter();
        all.find(|(known, _)| known == event_type)
            .map(|(_, score)| *score)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&TriggerType, f64)> {
        self.0
            .iter()
            .map(|(event_type, score)| (event_type, *score))
    }

    fn add(&mut self, event_type: TriggerType, score: f64) {
        let score = if score.is_nan() {
            0.0
        } else {
            score.clamp(0.0, 1.0)
        };
        match self.0.iter_mut().find(|(known, _)| *known == event_type) {
            Some((_, highest)) => *highest = highest.max(score),
            None => self.0.push((event_type, score)),
        }
    }

    pub(super) fn of_envelope(event_type: &EventType, event: &Value) -> Self {
        let mut signals = Self::new();
        signals.add(event_type.as_str().into(), 1.0);
        match event_type {
            EventType::DialogStarted => signals.add(TriggerType::FlowStart, 1.0),
            EventType::DialogEnded => signals.add(TriggerType::FlowEnd, 1.0),
            _ => {}
        }
        signals.add_recognised(&event["payload"]);
        signals.add_recognised(&event["payload"]["input"]);
        signals
    }

    pub(super) fn of_dialog(event: &Value) -> Self {
        let mut signals = Self::new().with("DIALOG_EVENT".into(), 1.0);
        signals.add_recognised(&event["variables"]);
        signals
    }

    pub(super) fn of_delivery(event: &Value) -> Self {
        let mut signals = Self::new().with("AI_OUTPUT".into(), 1.0);
        signals.add_recognised(&event["AIOutput"]["data"]);
        signals
    }

    pub(super) fn of_trigger(event: &Value) -> Self {
        let mut signals = Self::new();
        if let Some(event_type) = event["event_type"].as_str() {
            signals.add(event_type.into(), score_in(event).unwrap_or(1.0));
        }
        signals.add_recognised(event);
        signals
    }

    /// Adds the intent and the entities of an object; nothing of anything else.
    fn add_recognised(&mut self, within: &Value) {
        if let Some(score) = named(within, "intent", ["intentScore", "intent_score"]) {
            self.add(TriggerType::Intent, score);
        }
        if let Some(score) = named(within, "entity", ["entityScore", "entity_score"]) {
            self.add(TriggerType::Entity, score);
        }
        for name in ["entities", "slots"] {
            match &within[name] {
                Value::Array(all) => {
                    for entity in all {
                        self.add(TriggerType::Entity, score_in(entity).unwrap_or(1.0));
                    }
                }
                Value::Object(all) if !all.is_empty() => self.add(TriggerType::Entity, 1.0),
                _ => {}
            }
        }
    }
}

/// The score of the member `name`, if it names or describes something.
fn named(within: &Value, name: &str, scores: [&str; 2]) -> Option<f64> {
    match &within[name] {
        Value::String(text) if !text.is_empty() => {
            let score = scores.iter().find_map(|score| within[*score].as_f64());
            Some(score.unwrap_or(1.0))
        }
        found @ Value::Object(members) if !members.is_empty() => {
            Some(score_in(found).unwrap_or(1.0))
        }
        _ => None,
    }
}

fn score_in(within: &Value) -> Option<f64> {
    let score = within["score"].as_f64();
    score.or_else(|| within["confidence"].as_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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

    #[test]
    fn a_condition_holds_from_its_threshold_on_and_its_opposite_below_and_without_a_signal() {
        let half = TriggerCondition::new(TriggerType::Entity, 0.5).unwrap();
        let any = TriggerCondition::new(TriggerType::Entity, 0.0).unwrap();
        for (signals, holds, any_holds) in [
            (Signals::new(), false, false),
            (Signals::new().with(TriggerType::Entity, 0.0), false, true),
            (Signals::new().with(TriggerType::Entity, 0.49), false, true),
            (Signals::new().with(TriggerType::Entity, 0.5), true, true),
            (Signals::new().with(TriggerType::Intent, 1.0), false, false),
        ] {
            assert_eq!(half.holds(&signals), holds, "{signals:?}");
            assert_eq!(half.clone().negate().holds(&signals), !holds, "{signals:?}");
            assert_eq!(any.holds(&signals), any_holds, "{signals:?}");
        }
    }

    #[test]
    fn each_form_of_an_event_has_its_signals() {
        use TriggerType::{Entity, FlowEnd, FlowStart, Intent};
        let envelope = |event_type: &str, payload: Value| {
            Signals::of_envelope(&event_type.into(), &json!({"payload": payload}))
        };
        let score = |signals: &Signals, event_type: TriggerType| signals.score(&event_type);

        let started = envelope("DIALOG_STARTED", json!({}));
        assert_eq!(score(&started, FlowStart), Some(1.0));
        assert_eq!(score(&started, "DIALOG_STARTED".into()), Some(1.0));
        assert_eq!(score(&started, FlowEnd), None);
        let ended = envelope("DIALOG_ENDED", json!(null));
        assert_eq!(score(&ended, FlowEnd), Some(1.0));
        let new = envelope("CALL_ENDED", json!({}));
        assert_eq!(score(&new, "CALL_ENDED".into()), Some(1.0));

        for (within, intent, entity) in [
            (
                json!({"intent": "order", "intentScore": 0.7}),
                Some(0.7),
                None,
            ),
            (
                json!({"intent": "order", "intent_score": 0.6}),
                Some(0.6),
                None,
            ),
            (json!({"intent": "order"}), Some(1.0), None),
            (
                json!({"intent": {"name": "order", "confidence": 0.4}}),
                Some(0.4),
                None,
            ),
            (json!({"intent": "", "entities": []}), None, None),
            (json!({"intent": null, "slots": {}}), None, None),
            (
                json!({"entities": [{"score": 0.2}, {"score": 0.3}]}),
                None,
                Some(0.3),
            ),
            (json!({"slots": {"city": [1]}}), None, Some(1.0)),
            (json!({"intent": "a", "intentScore": 95}), Some(1.0), None),
            (json!({"intent": "a", "intentScore": -3.5}), Some(0.0), None),
            (
                json!({"intent": "a", "intentScore": "high"}),
                Some(1.0),
                None,
            ),
            (json!(["intent"]), None, None),
        ] {
            let all = [
                envelope("USER_INPUT_RECEIVED", within.clone()),
                envelope("USER_INPUT_RECEIVED", json!({"input": within})),
                Signals::of_dialog(&json!({"variables": within})),
                Signals::of_delivery(&json!({"AIOutput": {"data": within}})),
                Signals::of_trigger(&within),
            ];
            for signals in all {
                assert_eq!(score(&signals, Intent), intent, "{within}");
                assert_eq!(score(&signals, Entity), entity, "{within}");
            }
        }
        let trigger = Signals::of_trigger(&json!({"event_type": "intent", "score": 0.8}));
        assert_eq!(score(&trigger, Intent), Some(0.8));
        let trigger = Signals::of_trigger(&json!({"event_type": "flow_end"}));
        assert_eq!(score(&trigger, FlowEnd), Some(1.0));
    }
}
