//! What of an event conditions are evaluated against.

use crate::hook::{TriggerCondition, TriggerType};
use serde_json::Value;
use tower_webhook::cognigy::EventType;

impl TriggerCondition {
    /// Whether the condition holds for an event with these signals.
    pub fn holds(&self, signals: &Signals) -> bool {
        let found = signals.score(self.event_type());
        found.is_some_and(|score| score >= self.threshold()) != self.is_negated()
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
