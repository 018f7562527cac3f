//! Finds the definitions whose conditions hold, without a look at each.

use super::{Definition, Input, TriggerCondition, TriggerType};
use std::{collections::HashMap, sync::Arc};

/// Definitions by one of their conditions that is not negated: that of the type which the fewest definitions ask
/// for, and of these the one with the highest threshold. A definition can only match an event that has a signal of
/// this type and at least this score, so only those are evaluated. Definitions without such a condition, which
/// hold for most events, are evaluated for each.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// For each type the thresholds, in ascending order, with the position of the definition.
    by_type: HashMap<TriggerType, Vec<(f64, usize)>>,
    others: Vec<usize>,
}

impl Index {
    pub(super) fn new(definitions: &[Arc<Definition>]) -> Self {
        let mut asked = HashMap::<&TriggerType, usize>::new();
        for condition in definitions
            .iter()
            .flat_map(|definition| positive(definition))
        {
            *asked.entry(condition.event_type()).or_default() += 1;
        }
        let mut index = Self::default();
        for (position, definition) in definitions.iter().enumerate() {
            let rarest = positive(definition).min_by(|a, b| {
                let by_type = asked.get(a.event_type()).cmp(&asked.get(b.event_type()));
                by_type.then_with(|| b.threshold().total_cmp(&a.threshold()))
            });
            match rarest {
                Some(condition) => {
                    let entry = index.by_type.entry(condition.event_type().clone());
                    entry.or_default().push((condition.threshold(), position));
                }
                None => index.others.push(position),
            }
        }
        for entry in index.by_type.values_mut() {
            entry.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        }
        index
    }

    /// The positions of the definitions that match, in ascending order.
    pub(super) fn matching(&self, definitions: &[Arc<Definition>], input: &Input) -> Vec<usize> {
        let by_signal = input.signals().iter().flat_map(|(event_type, score)| {
            let entry = self.by_type.get(event_type).map_or(&[][..], Vec::as_slice);
            let reached = entry.partition_point(|(least, _)| *least <= score);
            entry[..reached].iter().map(|(_, position)| *position)
        });
        let candidates = by_signal.chain(self.others.iter().copied());
        let matches = |position: &usize| definitions[*position].matches(input);
        let mut matching: Vec<_> = candidates.filter(matches).collect();
        matching.sort_unstable();
        matching
    }
}

fn positive(definition: &Definition) -> impl Iterator<Item = &TriggerCondition> {
    let conditions = definition.trigger_conditions().iter();
    conditions.filter(|condition| !condition.is_negated())
}
