//! A time limit around a call that is answered at once.

use crate::{
    bare::Bare,
    measure::{Row, service},
};
use http::{Request, StatusCode};
use std::time::Duration;
use tower::{Layer, timeout::TimeoutLayer};
use tower_webhook::deadline::{AttemptTimeoutLayer, DeadlineLayer};

const LIMIT: Duration = Duration::from_secs(30);

fn request() -> Request<()> {
    Request::new(())
}

pub fn deadline(row: &mut Row) {
    row.bare("bare call", service(Bare, request));
    let ours = DeadlineLayer::new(LIMIT).unwrap();
    row.ours(service(ours.layer(Bare), request));
    peers(row);
}

pub fn attempt_timeout(row: &mut Row) {
    row.bare("bare call", service(Bare, request));
    let ours = AttemptTimeoutLayer::new(LIMIT).unwrap();
    row.ours(service(ours.layer(Bare), request));
    peers(row);
}

fn peers(row: &mut Row) {
    let tower = TimeoutLayer::new(LIMIT);
    row.peer("tower", service(tower.layer(Bare), request));
    let tower_http = tower_http::timeout::TimeoutLayer::with_status_code;
    let tower_http = tower_http(StatusCode::GATEWAY_TIMEOUT, LIMIT);
    row.peer("tower-http", service(tower_http.layer(Bare), request));
}
