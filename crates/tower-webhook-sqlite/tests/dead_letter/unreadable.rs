//! Records that are damaged, or of a newer schema.

use crate::support::{Home, LEASE, id, write};
use tower_webhook::StoreErrorKind;
use tower_webhook::dead_letter::{Discarded, Filter, LetterStore, Page};

#[tokio::test]
async fn what_cannot_be_read_is_counted_and_stays() {
    let home = Home::new();
    let store = home.store();
    for number in 1..=4 {
        write(&store, number).await;
    }
    let raw = home.raw();
    let set = |number: u64, sql: &str| {
        let sql = format!("UPDATE tower_webhook_dead_letters SET record = {sql} WHERE id = ?1");
        assert_eq!(raw.execute(&sql, [id(number).as_bytes()]).unwrap(), 1);
    };
    set(1, "substr(record, 1, length(record) / 2)");
    set(2, "json_set(record, '$.schemaVersion', 99)");
    let of_another = "(SELECT record FROM tower_webhook_dead_letters WHERE target = 'peer.test' \
                      ORDER BY place DESC LIMIT 1)";
    set(3, of_another);

    let listing = store.list(&Filter::all(), &Page::first(10)).await.unwrap();
    assert_eq!(listing.unreadable, 3);
    let ids: Vec<_> = listing.entries.iter().map(|entry| entry.id).collect();
    assert_eq!(ids, [id(4)]);

    let newer = StoreErrorKind::NewerSchema {
        found: 99,
        known: 1,
    };
    for (number, kind) in [
        (1, StoreErrorKind::Corrupt),
        (2, newer),
        (3, StoreErrorKind::Corrupt),
    ] {
        let got = store.get(id(number)).await.unwrap_err();
        assert_eq!(got.kind(), kind, "{number}");
        let claimed = store.claim(id(number), LEASE, 5).await.unwrap_err();
        assert_eq!(claimed.kind(), kind, "{number}");
    }
    assert_eq!(store.count(&Filter::all()).await.unwrap(), 4);
    // Nobody holds them, so an operator may throw them away.
    assert_eq!(store.discard(id(1)).await.unwrap(), Discarded::Done);
}
