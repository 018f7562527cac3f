//! The lines of a journal: each records a change.

use crate::dead_letter::{Entry, EntryId, json, state::Change};
use serde::Deserialize;
use std::sync::Arc;

/// The length of the line of a removal.
pub(super) const REMOVAL: u64 = 65;

pub(super) enum Line {
    /// A change, and whether its line is of a newer schema, which may say more.
    Change(Change, bool),
    /// An entry of a newer schema, with its version.
    Newer(EntryId, u32),
    /// A damaged line, or one of a newer schema without an id.
    Unreadable,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    schema_version: Option<u64>,
    id: Option<String>,
    claimed: Option<String>,
    removed: Option<String>,
    replays: Option<u32>,
    place: Option<u64>,
}

impl Line {
    pub(super) fn read(line: &[u8]) -> Self {
        Self::known(line).unwrap_or(Self::Unreadable)
    }

    fn known(line: &[u8]) -> Option<Self> {
        let outline: Outline = serde_json::from_slice(line).ok()?;
        let id = |id: String| id.parse().ok();
        let schema = outline.schema_version.unwrap_or(0);
        let newer = schema > u64::from(Entry::SCHEMA_VERSION);
        match (outline.removed, outline.claimed) {
            // Valid, whatever else a newer release adds to it.
            (Some(removed), _) if schema > 0 => {
                Some(Self::Change(Change::Remove(id(removed)?), newer))
            }
            (None, Some(claimed)) if schema > 0 => {
                let change = Change::Count {
                    id: id(claimed)?,
                    replays: outline.replays?,
                    claim: None,
                };
                Some(Self::Change(change, newer))
            }
            _ if newer => {
                let found = u32::try_from(schema).unwrap_or(u32::MAX);
                Some(Self::Newer(id(outline.id?)?, found))
            }
            _ => {
                let change = Change::Put {
                    entry: Arc::new(json::from_json(line).ok()?),
                    place: outline.place.unwrap_or(0),
                    released: false,
                };
                Some(Self::Change(change, false))
            }
        }
    }
}

/// The line of a change, as [`Line::read`] reads it.
pub(super) fn line_of(change: &Change) -> Vec<u8> {
    let mut line = match change {
        Change::Put { entry, place, .. } => {
            let mut line = json::to_json(entry);
            // The form allows further members.
            line.pop();
            format!("{line},\"place\":{place}}}")
        }
        Change::Count { id, replays, .. } => {
            format!("{{\"schemaVersion\":1,\"claimed\":\"{id}\",\"replays\":{replays}}}")
        }
        Change::Remove(id) => format!("{{\"schemaVersion\":1,\"removed\":\"{id}\"}}"),
    };
    line.push('\n');
    line.into_bytes()
}
