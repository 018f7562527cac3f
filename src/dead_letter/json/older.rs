//! Schema 0: the queue item of Cognigy's documents.

use super::{damaged, read};
use crate::{
    StoreError,
    attempt::{GaveUp, History, wire::HistoryWire},
    dead_letter::{Cause, Entry, EntryBody, EntryId, Reason},
    peer::{ByHost, PeerKey},
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::time::SystemTime;

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    url: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    attempts: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(alias = "eventId")]
    event_id: Option<String>,
}

pub(super) fn entry(record: &str) -> Result<Entry, StoreError> {
    let item: Item<'_> = read::whole(record)?;
    if item.url.is_none() {
        // Neither a number nor what the form without a number has.
        return Err(damaged("schemaVersion"));
    }
    let url: String = read::required(item.url, "url")?;
    let uri = without_user(&url);
    let parsed: http::Uri = uri.parse().map_err(|_| damaged("url"))?;
    let mut request = http::Request::new(());
    *request.uri_mut() = parsed;
    let payload = item.payload.ok_or_else(|| damaged("payload"))?;
    let attempts = read::optional(item.attempts, "attempts")?.unwrap_or_default();

    let mut id = [0; 16];
    id.copy_from_slice(&Sha256::digest(record.trim())[..16]);
    let mut entry = Entry::new(
        EntryId::from_bytes(id),
        "http",
        &ByHost.key(&request),
        Cause::new(Reason::RetriesExhausted),
        SystemTime::UNIX_EPOCH,
    );
    entry.method = Some("POST".to_owned());
    entry.uri = Some(uri);
    entry.headers = vec![(
        "content-type".to_owned(),
        Bytes::from_static(b"application/json"),
    )];
    entry.body = EntryBody::new(&payload.get().to_owned().into(), usize::MAX);
    // Of metadata of any other shape there is nothing to take.
    let metadata: Option<Metadata> = read::optional(item.metadata, "metadata").ok().flatten();
    entry.event_id = metadata.and_then(|metadata| metadata.event_id);
    entry.history = History::try_from(HistoryWire::counted(attempts))
        .map_err(|_| damaged("attempts"))?
        .with_gave_up(GaveUp::RetriesExhausted);
    Ok(entry)
}

fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    // Visible, so that it is not sent without what it had.
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://redacted@{host}{path}"),
        None => url.to_owned(),
    }
}
