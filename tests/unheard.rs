//! A process of its own, in which no `tracing` subscriber ever listens: nothing is computed for nobody.

use tower_webhook::observe::Observers;

#[test]
fn where_nobody_listens_no_event_is_made() {
    assert!(!Observers::none().is_heard());
    Observers::none().tell(|| panic!("somebody listens"));
}
