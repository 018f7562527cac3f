//! Operate: what is logged and measured, breakers, secrets, shutdown.
//!
//! # Log lines
//!
//! With feature `tracing` (on by default) and a subscriber, such as `tracing_subscriber::fmt::init()`:
//!
//! | Level | Event |
//! | --- | --- |
//! | `ERROR` | a dead letter that no sink took, a route without the layer that its handler needs |
//! | `WARN` | a refused request, a dead letter, a failed job, a breaker that changes its state |
//! | `INFO` | a failed attempt |
//!
//! No secret and no body is logged; of headers, only ids of events and idempotency keys. What a stranger can
//! cause at will is throttled: of refusals (and missing layers) with the same names, `by` and `reason`, ten lines in ten
//! seconds have that level, of troubles one, and the next one after them counts those that were left out, as `more`.
//!
//! # Numbers, alerts, audit
//!
//! Whatever the layers do, they tell their [observers](crate::observe): a closure that counts, writes or alerts. The stack has
//! one already, its [metrics](crate::metrics). Feature `metrics-facade` exports the same to Prometheus.
//!
//! ```
//! use tower_webhook::{
//!     BoxError,
//!     circuit_breaker::BreakerState,
//!     observe::{Event, observer_fn},
//!     stack, transport,
//! };
//!
//! # tokio_test::block_on(async {
//! let stack = stack::deliver()
//!     .attempts(1)
//!     .observe(observer_fn(|event| {
//!         if let Event::BreakerChanged { peer, to, .. } = event {
//!             println!("the breaker of {peer} is {to}"); // wake somebody
//!         }
//!     }))
//!     .build()?;
//! let deliver = stack.layer(transport::reqwest(reqwest::Client::new()));
//! for id in 0..8 {
//!     let req = transport::post_json("http://127.0.0.1:1/nobody/listens", &id)?;
//!     let _ = deliver.clone().oneshot(req).await;
//! }
//!
//! let snapshot = stack.metrics().snapshot();
//! assert_eq!(snapshot.deliveries().success_rate(), Some(0.0));
//! let breakers = stack.breakers().snapshots();
//! assert_eq!((&*breakers[0].peer, breakers[0].state), ("127.0.0.1:1", BreakerState::Open));
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! # A breaker that is open
//!
//! After five failures in a row, calls to the host are refused at once, and a probe is let through now and then; when it
//! succeeds, the breaker closes. [`Breakers`](crate::circuit_breaker::Breakers) shows the state of each host and forces it open
//! or closed, for a host that is known to be down or mended. A worker's jobs are not counted as attempted while it is open.
//!
//! # Secrets
//!
//! A scheme takes several secrets, each with a label. Rotate in three steps: add the new one to the receiver
//! ([`SigningKeys`](crate::signature::SigningKeys) replaces them while requests are served); let the sender use it; remove the old
//! one when [`usage`](crate::signature::SigningKeys::usage) no longer counts it.
//!
//! # Dead letters
//!
//! Look at the reason first: `rejected` wants the payload or the handler mended, `retries_exhausted` and `circuit_open` want the
//! peer. Then [re-drive](crate::dead_letter::redrive) them, at a rate that the peer can bear: each entry is claimed first, and
//! removed when it was accepted. The crate `tower-webhook-operator` has the routes for it, and `tower-webhook-gateway` is a
//! whole program with them.
//!
//! # Shutdown
//!
//! Stop accepting (axum's `with_graceful_shutdown`), then [`WorkerHandle::stop`](crate::queue::WorkerHandle::stop) with a grace
//! period: jobs that have not ended by then are released and run again. Let deliveries end before the runtime does, so that their
//! dead letters are written.
//!
//! # Limits
//!
//! Everything that a stranger can fill is bounded by default: bodies (1 MiB each, 64 MiB of bodies that are being read), keys, breakers, peers of
//! metrics. `SECURITY.md` lists each limit.
