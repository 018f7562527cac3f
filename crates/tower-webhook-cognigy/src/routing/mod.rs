//! Routing: an event goes to every target whose conditions it meets, in the form that the target's template gives it.
//!
//! The router of S1 ("Configuring NICE Cognigy Webhook Routing with Python") as a tower service: a [`Definition`] has
//! trigger conditions, a target, and the template of a payload; [`Routes`] holds them, from a directory or from code, and
//! [`Router`] delivers. The form of a definition, the limits of its fields, the header `X-Webhook-Source: cognigy-router`
//! and the rules of templates are S1's; method, static headers and `payload_format` are S2's. The vendor's publications
//! mention none of them. What the documents leave open is this crate's own: how an event becomes [`Signals`], and lookups.
//!
//! # Examples
//!
//! S3's request to its downstream, without code:
//!
//! ```
//! use http::{Request, Response};
//! use std::convert::Infallible;
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::{BoxError, body::BufferedBody, cognigy::CognigyEvent};
//! use tower_webhook_cognigy::routing::{Definition, Input, RouterLayer, Routes};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! let definition = Definition::from_json(br#"{
//!     "name": "customer-lookup",
//!     "target_url": "https://api.example.com/v1/customer/lookup",
//!     "trigger_conditions": [{"event_type": "DIALOG_EVENT", "threshold": 1}],
//!     "payload_template": "{\"conversationId\": {{ conversationId }}, \"externalId\": {{ variables.customerId|default(none) }}, \"context\": {{ currentNode|default(none) }}}"
//! }"#)?;
//! let routes = Routes::builder().build([definition])?;
//!
//! let client = service_fn(|req: Request<BufferedBody>| async move {
//!     let body = r#"{"conversationId": "c-1", "externalId": "42", "context": "ask"}"#;
//!     assert_eq!(req.body().as_bytes(), body);
//!     Ok::<_, Infallible>(Response::new(()))
//! });
//! let router = RouterLayer::new(routes).layer(client);
//!
//! let event = CognigyEvent::from_bytes(
//!     r#"{"conversationId":"c-1","currentNode":"ask","variables":{"customerId":"42"}}"#,
//! )?;
//! let routed = router.oneshot(Input::try_from(&event)?).await?;
//! assert!(routed[0].result.is_ok());
//! # Ok(()) }
//! ```
//!
//! Where each delivery is a job of its own, take the steps apart: [`Routes::matching`] when the event is accepted, and
//! [`Routes::render`] where the job runs.
//!
//! # Templates
//!
//! Jinja, with [minijinja](https://docs.rs/minijinja). Variables are the members of the event, the lookups, and `event`,
//! the event itself. A variable that is not there is an error, unless `|default(..)` says what stands for it: within
//! lists and objects that are written too, and for `|tojson`, `|string`, `|join` and `|sum`. What else looks into a list
//! takes it as a value of its own: `~` writes it as `undefined`, and it is equal to another.
//!
//! A value is inserted as a JSON value, with its quotes, or as the text of an XML element or attribute; nothing in a value
//! ends what it stands in. So write `{"user": {{ user_id }}}`, without quotes around the value; quotes there are refused
//! when the definition is built, and so is any tag within a string. Text is joined with `~`: `{{ "id-" ~ user_id }}`.
//!
//! So are filters, tests and functions that are not there. Some of Jinja are left out, or do less, since with them a short
//! template makes values of values without end:
//!
//! - `set` and `for` name a part of the event, a text or a number: no list or object of variables, and no `+`. Write
//!   these where they are used. `with` and recursive loops are left out.
//! - `*` and `**` are left out: `{{ price|times(count) }}` multiplies numbers.
//! - `|map` takes one filter or an `attribute`, `|sum` adds numbers; `|batch`, `|chain`, `|slice` and `|zip` are left out.
//!
//! A template has no way to files, to the environment or to other templates, and what marks text as safe is left out
//! (`|safe`, `|escape`; `{% autoescape %}` changes nothing). It is ended when it takes too many steps or too long, makes
//! too much text on the way, or more than `max_payload_size_kb`; what it gives is read again before it is sent. Still it is an
//! operator's: a template decides what of an event goes where.
//!
//! # Credentials
//!
//! A definition names the credential that its target asks for, and a lookup the one of its URL. The credentials themselves are
//! [`Credentials`](crate::credential::Credentials), each for one origin, which the operator keeps apart: a definition cannot
//! send one to another place. They are a layer of the client:
//!
//! ```
//! # use http::{Request, Response};
//! # use std::convert::Infallible;
//! use tower::{Layer, service_fn};
//! # use tower_webhook::{BoxError, body::BufferedBody};
//! use tower_webhook::target::TargetRules;
//! use tower_webhook_cognigy::{credential::Credentials, routing::{Definition, RouterLayer, Routes}};
//!
//! # fn main() -> Result<(), BoxError> {
//! # let client = service_fn(|_: Request<BufferedBody>| async { Ok::<_, Infallible>(Response::new(BufferedBody::default())) });
//! let file = br#"{"crm": {"origin": "https://crm.example.com", "bearer": "a-token"}}"#;
//! let credentials = Credentials::from_json(file, TargetRules::new(), &client)?;
//! let client = credentials.layer(client); // for lookups, and as the innermost layer of deliveries
//!
//! let crm = Definition::builder("crm", "https://crm.example.com/events").credential("crm").build()?;
//! let routes = Routes::builder().credentials(credentials.clone()).http(client.clone()).build([crm])?;
//! let router = RouterLayer::new(routes).layer(client);
//!
//! let elsewhere = Definition::builder("evil", "https://evil.example").credential("crm").build()?;
//! assert!(Routes::builder().credentials(credentials).build([elsewhere]).is_err());
//! # let _ = router;
//! # Ok(())
//! # }
//! ```
//!
//! # Order
//!
//! Inside the router: the delivery stack, whose breaker is keyed by host. Give a [`RouteError`] that comes from a
//! lookup to the retry outside of the router, as a queue does: it is transient if the lookup is.
//!
//! # Settings
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`targets`](RoutesBuilder::targets) | `https`, public addresses | which targets are permitted |
//! | [`credentials`](RoutesBuilder::credentials) | any | the credentials that definitions may name |
//! | [`lookup`](RoutesBuilder::lookup) | none | external data by the name of their source |
//! | [`http`](RoutesBuilder::http) | none | the client for lookups with a `url` |
//! | [`concurrency`](RouterLayer::concurrency) | 16 | deliveries of one event at the same time |
//!
//! # Limits
//!
//! | What | Limit |
//! | --- | --- |
//! | definitions | 10,000, each file 1 MiB |
//! | a template | 64 KiB, each `{{ .. }}` and `{% .. %}` in it 8 KiB and 256 `,` and `+`; in all 4 `\|groupby` and 32 `:` of slices |
//! | a payload | its `max_payload_size_kb`, 16 MiB at most |
//! | steps of a template | 100,000 and one for each byte that its payload may have; each 64 bytes that it makes are one step |
//! | time of a template | 2 s, and what one round of its loops takes |
//! | values within values | 128 |
//! | lookups of a definition | 16; a key has 1024 bytes at most, an answer over HTTP 256 KiB |
//! | what lookups found | 32 MiB in all; the longest unused leaves first |
//!
//! # Cancel safety
//!
//! Dropping the future of [`Router`] drops all deliveries of the event, of which some may have arrived. A lookup goes on
//! as long as another event waits for the same.

mod definition;
mod error;
mod index;
mod input;
mod language;
mod lookup;
mod router;
mod routes;
mod template;
mod trigger;
mod xml;

pub use self::{
    definition::{Definition, DefinitionBuilder},
    error::{LoadError, RouteError, RouteErrorKind},
    input::Input,
    lookup::{Lookup, LookupRule, lookup_fn},
    router::{Routed, Router, RouterLayer},
    routes::{Routes, RoutesBuilder},
    trigger::Signals,
};
#[doc(no_inline)]
pub use crate::hook::{PayloadFormat, TriggerCondition, TriggerType};
