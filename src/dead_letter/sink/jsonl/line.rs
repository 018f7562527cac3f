//! What the lines of a file say.

use crate::dead_letter::{Entry, EntryId, json};
use serde::Deserialize;

pub(super) enum Line {
    /// An entry, and its place in the list where the line says it.
    Entry(Box<Entry>, Option<u64>),
    /// An entry was claimed: so often in all.
    Claimed(EntryId, u32),
    /// An entry is gone.
    Removed(EntryId),
    /// An entry of a newer schema, which is this one: left as it is.
    Newer(EntryId, u32),
    /// Damaged, or of a newer schema and without an id: left as it is.
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
        let id = |id: &String| id.parse().ok();
        if let Some(schema @ 1..) = outline.schema_version {
            // What is gone is gone, whatever a newer release says besides.
            if let Some(removed) = &outline.removed {
                return Some(Self::Removed(id(removed)?));
            }
            if let Some(claimed) = &outline.claimed {
                return Some(Self::Claimed(id(claimed)?, outline.replays?));
            }
            if schema > u64::from(Entry::SCHEMA_VERSION) {
                let found = u32::try_from(schema).unwrap_or(u32::MAX);
                return Some(Self::Newer(id(outline.id.as_ref()?)?, found));
            }
        }
        let entry = json::from_json(line).ok()?;
        Some(Self::Entry(Box::new(entry), outline.place))
    }
}

pub(super) fn entry(entry: &Entry, place: u64) -> Vec<u8> {
    let mut line = json::to_json(entry);
    // A member more, which the form allows.
    line.pop();
    format!("{line},\"place\":{place}}}\n").into_bytes()
}

pub(super) fn claimed(id: EntryId, replays: u32) -> Vec<u8> {
    format!("{{\"schemaVersion\":1,\"claimed\":\"{id}\",\"replays\":{replays}}}\n").into_bytes()
}

pub(super) fn removed(id: EntryId) -> Vec<u8> {
    format!("{{\"schemaVersion\":1,\"removed\":\"{id}\"}}\n").into_bytes()
}
