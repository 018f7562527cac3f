//! Routing with `--routes`: every definition that an event meets is a delivery of its own.

use super::*;
use crate::{downstream::Downstream, process::Stream};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Command};
use tempfile::TempDir;

const TOKEN: &str = "an operator token for the tests";

/// Tries again at once, and does not give a target up.
const QUICK: [&str; 6] = [
    "--base-delay-ms",
    "50",
    "--max-delay-ms",
    "50",
    "--breaker-failures",
    "1000",
];

/// Writes a definition that sends every event there, with these fields instead of or beside its own.
fn define(folder: &Path, name: &str, target: &str, fields: &Value) {
    let mut definition = json!({
        "name": name,
        "target_url": target,
        "trigger_conditions": [],
    });
    let fields = fields.as_object().unwrap().clone();
    definition.as_object_mut().unwrap().extend(fields);
    let file = folder.join(format!("{name}.json"));
    fs::write(file, definition.to_string()).unwrap();
}

fn routed(folder: &TempDir, flags: &[&str]) -> Server {
    let mut all = vec!["--routes", folder.path().to_str().unwrap()];
    all.extend(["--operator-token", TOKEN]);
    if !flags.contains(&QUICK[0]) {
        all.extend(QUICK);
    }
    all.extend(flags);
    gateway(&all)
}

/// The deliveries of an event with this key of a definition.
fn of_key(seen: &Downstream, key: &str) -> Vec<Value> {
    let got = seen.got().into_iter();
    got.filter(|(headers, _)| headers["idempotency-key"] == key)
        .map(|(_, body)| serde_json::from_slice(&body).unwrap())
        .collect()
}

fn arrived(seen: &Downstream, key: &str) -> Value {
    eventually(key, || of_key(seen, key).pop())
}

fn ask(server: &Server, method: &str, path: &str, body: Option<&str>) -> Curled {
    let authorization = format!("Bearer {TOKEN}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
    ];
    let body = body.map(str::as_bytes);
    curl(&server.url(path), &headers, body, &["-X", method])
}

fn entries(server: &Server) -> Vec<Value> {
    let answer = ask(server, "GET", "/dead-letters", None);
    answer.json()["items"].as_array().expect("items").clone()
}

#[test]
fn an_event_goes_to_the_downstream_and_to_every_definition_that_it_meets() {
    let (seen, target) = (Downstream::start(), Downstream::start());
    let folder = TempDir::new().unwrap();
    define(
        folder.path(),
        "contacts",
        &target.url(),
        &json!({
            "trigger_conditions": [{"event_type": "USER_INPUT_RECEIVED", "threshold": 1}],
            "payload_template": "{\"said\": {{ payload.input }}, \"by\": {{ userId }}}",
            "method": "PUT",
            "headers": {"X-Team": "crm"},
        }),
    );
    define(
        folder.path(),
        "never",
        &target.url(),
        &json!({"trigger_conditions": [{"event_type": "flow_end", "threshold": 0}]}),
    );
    let server = routed(&folder, &["--downstream", &seen.url()]);
    seen.say(r#"{"nextNode":"greet","variables":{}}"#);
    let accepted = post(&server, event("evt_1").as_bytes());
    let done = result_of(&server, &task_id(&accepted)).json();
    assert_eq!(
        done["nextNode"], "greet",
        "the downstream's answer is the result"
    );

    assert_eq!(
        arrived(&target, "evt_1/contacts"),
        json!({"said": "Grüße", "by": "u-1"})
    );
    let got = target.got();
    let (headers, _) = &got[0];
    assert_eq!(got.len(), 1, "of one definition");
    assert_eq!(headers["x-team"], "crm");
    assert_eq!(headers["x-webhook-source"], "cognigy-router");
    assert_eq!(headers["prevent-loop"], "true");
    assert!(headers.contains_key("webhook-loop"));
    assert!(headers.contains_key("x-cognigy-signature"));
    assert_eq!(seen.got().len(), 1);

    // The repeat of an event is a repeat to the definitions too.
    let again = post(&server, event("evt_1").as_bytes());
    assert_eq!(again.json()["duplicate"], true);
    post(&server, event("evt_2").as_bytes());
    arrived(&target, "evt_2/contacts");
    assert_eq!(of_key(&target, "evt_1/contacts").len(), 1);
}

#[test]
fn without_a_downstream_an_event_is_only_routed() {
    let target = Downstream::start();
    let folder = TempDir::new().unwrap();
    define(folder.path(), "all", &target.url(), &json!({}));
    let server = routed(&folder, &[]);
    let accepted = post(&server, event("evt_1").as_bytes());
    let done = result_of(&server, &task_id(&accepted));
    assert_eq!(
        (done.status, done.json()["status"].clone()),
        (200, json!("success"))
    );
    assert_eq!(
        arrived(&target, "evt_1/all")["eventId"],
        "evt_1",
        "the event itself"
    );

    // Those of the platform have no id, and are routed by their own signals.
    let dialog = r#"{"conversationId":"c-1","currentNode":"n","variables":{"customerId":"7"}}"#;
    define(
        folder.path(),
        "dialogs",
        &target.url(),
        &json!({
            "trigger_conditions": [{"event_type": "DIALOG_EVENT", "threshold": 1}],
            "payload_template": "{\"conversationId\": {{ conversationId }}, \"externalId\": {{ variables.customerId }}, \"context\": {{ currentNode }}}",
        }),
    );
    fs::remove_file(folder.path().join("all.json")).unwrap();
    hang_up(&server);
    eventually("it is routed by the new definitions", || {
        let dialog = dialog.replace("c-1", &format!("c-{}", target.got().len()));
        post(&server, dialog.as_bytes());
        let bodies = target.got().into_iter();
        let mut bodies = bodies.filter_map(|(_, body)| serde_json::from_slice::<Value>(&body).ok());
        bodies.find(|body| body["externalId"] == "7" && body["context"] == "n")
    });
}

/// S1's trigger route: the object says by `event_type` or what it recognised which definitions it meets.
#[test]
fn a_trigger_is_rendered_by_the_templates_of_the_definitions_that_it_meets() {
    let target = Downstream::start();
    let folder = TempDir::new().unwrap();
    for (name, event_type) in [("orders", "ORDER_PLACED"), ("intents", "intent")] {
        define(
            folder.path(),
            name,
            &target.url(),
            &json!({
                "trigger_conditions": [{"event_type": event_type, "threshold": 0.8}],
                "payload_template": "{\"by\": \"a template\", \"number\": {{ number }}}",
            }),
        );
    }
    let server = routed(&folder, &[]);
    let trigger = |key: &str, body: &Value| {
        let authorization = format!("Bearer {TOKEN}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
            ("idempotency-key", key),
        ];
        let body = body.to_string();
        let url = server.url("/api/v2/webhooks/trigger");
        let queued = curl(&url, &headers, Some(body.as_bytes()), &[]);
        assert_eq!(queued.status, 202, "{queued:?}");
        result_of(&server, queued.json()["taskId"].as_str().unwrap());
    };
    trigger("k-1", &json!({"event_type": "ORDER_PLACED", "number": 7}));
    trigger(
        "k-2",
        &json!({"intent": {"name": "order", "score": 0.7}, "number": 8}),
    );
    trigger(
        "k-3",
        &json!({"intent": {"name": "order", "score": 0.9}, "number": 9}),
    );
    let made = |number: u8| json!({"by": "a template", "number": number});
    assert_eq!(arrived(&target, "key:trigger:k-1/orders"), made(7));
    assert_eq!(arrived(&target, "key:trigger:k-3/intents"), made(9));
    assert_eq!(target.got().len(), 2, "k-2 meets none");
}

/// S1's bug: one target that fails stalled all.
#[test]
fn each_definition_is_retried_and_dead_lettered_for_itself_and_sent_again() {
    let (well, ill) = (Downstream::start(), Downstream::start());
    let folder = TempDir::new().unwrap();
    define(folder.path(), "well", &well.url(), &json!({}));
    let template = json!({"payload_template": "{\"id\": {{ eventId }}}"});
    define(folder.path(), "ill", &ill.url(), &template);
    ill.answer(500);
    let server = routed(&folder, &["--max-attempts", "2"]);
    post(&server, event("evt_1").as_bytes());
    arrived(&well, "evt_1/well");
    let entry = eventually("the entry of the one", || entries(&server).pop());
    assert_eq!(entry["kind"], "route");
    assert_eq!(entry["eventId"], "evt_1");
    assert_eq!(entry["uri"], ill.url());
    assert_eq!(of_key(&ill, "evt_1/ill").len(), 2, "its attempts");
    assert_eq!(entries(&server).len(), 1, "the other is delivered");
    let state = || ask(&server, "GET", "/webhooks/events/evt_1", None).json();
    let told = state();
    let of = |name: &str| {
        let all = told["deliveries"].as_array().unwrap();
        let found = all.iter().find(|one| one["name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {told}"))["status"].clone()
    };
    assert_eq!(told["status"], "dead-lettered", "the worst counts");
    assert_eq!(
        (of("ill"), of("well")),
        (json!("dead-lettered"), json!("delivered"))
    );

    ill.answer(200);
    let id = entry["id"].as_str().unwrap();
    let redriven = ask(
        &server,
        "POST",
        &format!("/dead-letters/{id}/redrive"),
        None,
    );
    assert_eq!(redriven.status, 202, "{redriven:?}");
    eventually("it is sent again and gone", || {
        entries(&server).is_empty().then_some(())
    });
    assert_eq!(
        of_key(&ill, "evt_1/ill").pop(),
        Some(json!({"id": "evt_1"})),
        "rendered again"
    );
    assert_eq!(of_key(&well, "evt_1/well").len(), 1);
    eventually("all is delivered", || {
        (state()["status"] == "delivered").then_some(())
    });
}

/// More events than there are places for requests, and none of them is answered by the one.
#[test]
fn a_target_that_hangs_does_not_take_the_places_of_the_others() {
    let target = Downstream::start();
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", hanging.local_addr().unwrap());
    let folder = TempDir::new().unwrap();
    define(
        folder.path(),
        "hanging",
        &url,
        &json!({"timeout_seconds": 30}),
    );
    define(folder.path(), "well", &target.url(), &json!({}));
    let server = routed(&folder, &[]);
    let began = Instant::now();
    for n in 0..80 {
        post(&server, event(&format!("evt_{n}")).as_bytes());
    }
    for n in 0..80 {
        arrived(&target, &format!("evt_{n}/well"));
    }
    assert!(
        began.elapsed() < Duration::from_secs(25),
        "before the first timeout"
    );
}

#[test]
fn a_template_that_fails_is_a_dead_letter_that_names_the_line() {
    let target = Downstream::start();
    let folder = TempDir::new().unwrap();
    define(
        folder.path(),
        "broken",
        &target.url(),
        &json!({"payload_template": "{\n\"a\": {{ payload.nobody }}}"}),
    );
    define(folder.path(), "fine", &target.url(), &json!({}));
    let server = routed(&folder, &[]);
    post(&server, event("evt_1").as_bytes());
    arrived(&target, "evt_1/fine");
    let entry = eventually("its entry", || entries(&server).pop());
    let cause = entry["reason"].to_string() + &entry.to_string();
    assert!(
        cause.contains("payload_template, line 2, `payload.nobody`"),
        "{entry}"
    );
    assert_eq!(of_key(&target, "evt_1/broken").len(), 0);
}

#[test]
fn a_lookup_enriches_the_payload_and_its_failure_is_tried_again() {
    let (target, crm) = (Downstream::start(), Downstream::start());
    let folder = TempDir::new().unwrap();
    let url = format!("http://{}/contacts?external_id={{key}}", crm.address);
    define(
        folder.path(),
        "crm",
        &target.url(),
        &json!({
            "payload_template": "{\"eventId\": {{ eventId }}, \"crm_context\": {{ crm_context }}}",
            "lookups": {"crm_context": {"url": url, "key": ["/externalId", "/userId"]}},
        }),
    );
    crm.say(r#"{"tier":"gold"}"#);
    crm.answer_first(&[(503, None)]);
    let server = routed(&folder, &[]);
    post(&server, event("evt_1").as_bytes());
    assert_eq!(
        arrived(&target, "evt_1/crm"),
        json!({"eventId": "evt_1", "crm_context": {"tier": "gold"}})
    );
    assert_eq!(crm.got().len(), 2);
}

/// A lookup and a target that want a credential each, of the file of `--credentials`.
#[test]
fn definitions_name_their_credentials_and_no_other_target_gets_them() {
    let (target, crm, other) = (
        Downstream::start(),
        Downstream::start(),
        Downstream::start(),
    );
    let folder = TempDir::new().unwrap();
    let url = format!("http://{}/contacts/{{key}}", crm.address);
    define(
        folder.path(),
        "crm",
        &target.url(),
        &json!({
            "credential": "target",
            "payload_template": "{\"crm_context\": {{ crm_context }}}",
            "lookups": {"crm_context": {"url": url, "key": "/userId", "credential": "contacts"}},
        }),
    );
    define(folder.path(), "other", &other.url(), &json!({}));
    let file = folder.path().join("credentials");
    let credentials = json!({
        "target": {"origin": target.url(), "bearer": "the-target-token"},
        "contacts": {"origin": crm.url(), "header": {"name": "X-API-Key", "value": "the-crm-key"}},
    });
    fs::write(&file, credentials.to_string()).unwrap();
    crm.say(r#"{"tier":"gold"}"#);
    target.answer_first(&[(503, None)]);
    let mut server = routed(&folder, &["--credentials", file.to_str().unwrap()]);
    post(&server, event("evt_1").as_bytes());
    arrived(&other, "evt_1/other");
    eventually("it is tried again", || {
        (target.got().len() == 2).then_some(())
    });
    for (headers, _) in target.got() {
        assert_eq!(headers["authorization"], "Bearer the-target-token");
        assert!(!headers.contains_key("x-api-key"));
    }
    let (headers, _) = crm.got().remove(0);
    assert_eq!(headers["x-api-key"], "the-crm-key");
    assert!(!headers.contains_key("authorization"));
    let (headers, _) = other.got().remove(0);
    assert!(!headers.contains_key("authorization") && !headers.contains_key("x-api-key"));
    server.terminate(Duration::from_secs(10));
    for text in [Stream::Out, Stream::Err].map(|stream| server.written(stream)) {
        assert!(!text.contains("the-target-token") && !text.contains("the-crm-key"));
    }
}

/// Killed between: the children are in the queue before the job of the event ends, and each is there once.
#[test]
fn a_kill_loses_no_delivery_and_a_delivery_that_was_answered_is_not_sent_again() {
    let (target, ill) = (Downstream::start(), Downstream::start());
    let folder = TempDir::new().unwrap();
    define(folder.path(), "a-well", &target.url(), &json!({}));
    define(folder.path(), "b-ill", &ill.url(), &json!({}));
    ill.answer(500);
    let database = folder.path().join("gateway.db");
    let store = format!("sqlite:{}", database.display());
    let mut flags = vec!["--store", store.as_str(), "--max-attempts", "10"];
    // Slow enough that the attempts do not end before the kill.
    flags.extend(["--base-delay-ms", "1000", "--max-delay-ms", "1000"]);
    flags.extend(["--breaker-failures", "1000"]);
    let mut server = routed(&folder, &flags);
    let ids: Vec<String> = (0..5).map(|n| format!("evt_{n}")).collect();
    for id in &ids {
        assert_eq!(post(&server, event(id).as_bytes()).status, 200);
    }
    for id in &ids {
        arrived(&target, &format!("{id}/a-well"));
    }
    let before = target.got().len();
    server.kill();
    drop(server);
    ill.answer(200);
    let server = routed(&folder, &flags);
    eventually("each is delivered to the one that was ill", || {
        let (got, answers) = (ill.got(), ill.answers());
        let taken = got
            .iter()
            .zip(&answers)
            .filter(|(_, (_, status))| *status == 200);
        let taken: Vec<_> = taken
            .map(|((headers, _), _)| headers["idempotency-key"].to_str().unwrap())
            .collect();
        let all = ids
            .iter()
            .all(|id| taken.contains(&format!("{id}/b-ill").as_str()));
        all.then_some(())
    });
    // All that could still come of the first target is in one file: those that were answered and not yet recorded.
    let repeated = target.got().len() - before;
    assert!(repeated <= ids.len(), "{repeated}");
    assert!(entries(&server).is_empty());
}

fn hang_up(server: &Server) {
    let sent = Command::new("kill")
        .args(["-HUP", &server.id().to_string()])
        .status();
    assert!(sent.expect("kill runs").success());
}

#[test]
fn definitions_are_read_again_at_sighup_and_a_bad_one_keeps_those_from_before() {
    let target = Downstream::start();
    let folder = TempDir::new().unwrap();
    define(folder.path(), "first", &target.url(), &json!({}));
    let mut server = routed(&folder, &[]);
    fs::write(folder.path().join("bad.json"), r#"{"name": 7}"#).unwrap();
    hang_up(&server);
    let said = server.wait_for(Stream::Err, "those from before stay");
    assert!(said.contains("bad.json: name: invalid type"), "{said}");
    post(&server, event("evt_1").as_bytes());
    arrived(&target, "evt_1/first");

    fs::remove_file(folder.path().join("bad.json")).unwrap();
    define(folder.path(), "second", &target.url(), &json!({}));
    hang_up(&server);
    server.wait_for(Stream::Err, "the routes are loaded again");
    post(&server, event("evt_2").as_bytes());
    arrived(&target, "evt_2/first");
    arrived(&target, "evt_2/second");
}

#[test]
fn a_bad_definition_ends_the_program_with_status_2_and_the_names_of_flag_file_and_field() {
    let folder = TempDir::new().unwrap();
    for (fields, said) in [
        (json!({"timeout_seconds": 99}), "timeout_seconds"),
        (json!({"target_url": "http://example.com/"}), "target_url"),
        (
            json!({"credential": "nobody"}),
            "credential: there is no credential `nobody`",
        ),
        (json!({"payload_template": "{{ x"}), "payload_template"),
        (json!({"color": 1}), "color"),
    ] {
        define(folder.path(), "bad", "https://example.com/", &fields);
        let mut command = command();
        command.current_dir(folder.path());
        command.args(["--listen", "127.0.0.1:0", "--store", "memory:"]);
        command.arg("--routes").arg(folder.path());
        let ended = command.output().expect("it runs");
        let written = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{written}");
        let file = folder.path().join("bad.json");
        let begin = format!("error: --routes: {}: ", file.display());
        assert!(
            written.contains(&begin) && written.contains(said),
            "{written}"
        );
    }
}

/// The downstream is gone: what was accepted for it is not delivered, whatever the definitions did.
#[test]
fn what_waits_for_a_downstream_is_a_dead_letter_without_one_and_is_kept_until_there_is_one_again() {
    let (seen, target) = (Downstream::start(), Downstream::start());
    let folder = TempDir::new().unwrap();
    define(folder.path(), "all", &target.url(), &json!({}));
    let database = folder.path().join("gateway.db");
    let store = format!("sqlite:{}", database.display());
    let url = seen.url();
    let mut flags = vec!["--store", store.as_str()];
    let with: Vec<_> = [&flags[..], &["--downstream", &url]].concat();

    // One has failed, and one waits for its second attempt.
    seen.answer_first(&[(400, None), (503, Some("3"))]);
    let server = routed(&folder, &with);
    post(&server, event("evt_1").as_bytes());
    eventually("the first failed", || entries(&server).pop());
    post(&server, event("evt_2").as_bytes());
    eventually("the second waits", || (seen.got().len() == 2).then_some(()));
    arrived(&target, "evt_2/all");
    drop(server);

    let server = routed(&folder, &flags);
    let both = || entries(&server).len() == 2;
    eventually("the second failed", || both().then_some(()));
    for entry in entries(&server) {
        let id = entry["id"].as_str().unwrap();
        let again = format!("/dead-letters/{id}/redrive");
        assert_eq!(ask(&server, "POST", &again, None).status, 202);
        eventually("it was tried", || {
            let entry = ask(&server, "GET", &format!("/dead-letters/{id}"), None);
            (entry.json()["replays"] == 1).then_some(())
        });
    }
    let said = entries(&server);
    let said = said.iter().find(|entry| entry["eventId"] == "evt_2");
    let said = said.expect("they are still there").to_string();
    assert!(
        said.contains("there is no `--downstream` any more"),
        "{said}"
    );
    for id in ["evt_1", "evt_2"] {
        let state = ask(&server, "GET", &format!("/webhooks/events/{id}"), None);
        assert_eq!(state.json()["status"], "dead-lettered", "{id}");
    }
    assert_eq!(seen.got().len(), 2);
    drop(server);

    flags = with;
    let server = routed(&folder, &flags);
    ask(&server, "POST", "/dead-letters/redrive", None);
    eventually("both are delivered", || {
        entries(&server).is_empty().then_some(())
    });
    assert_eq!(seen.got().len(), 4);
    assert_eq!(target.got().len(), 2, "to the definition once each");
}

#[test]
fn an_event_that_goes_nowhere_is_told_of_and_is_not_called_delivered() {
    let folder = TempDir::new().unwrap();
    let mut server = routed(&folder, &[]);
    server.wait_for(Stream::Err, "there is no definition in the directory");
    let accepted = post(&server, event("evt_1").as_bytes());
    result_of(&server, &task_id(&accepted));
    let said = server.wait_for(Stream::Err, "it goes nowhere");
    assert!(said.contains("evt_1"), "{said}");
    let state = ask(&server, "GET", "/webhooks/events/evt_1", None).json();
    assert_eq!(state["status"], "received", "{state}");
    assert_eq!(state["deliveries"], json!([]));
}

/// The event of another type, which meets other definitions.
fn event_of_type(id: &str, kind: &str) -> String {
    event(id).replace("USER_INPUT_RECEIVED", kind)
}

/// More events for three definitions that hang than there are places, and then one that is none of theirs.
fn others_pass(seen: &Downstream, hanging: &[Value; 3], target: impl Fn(usize) -> String) {
    let works = Downstream::start();
    let folder = TempDir::new().unwrap();
    let conditions = json!([{"event_type": "HANGS", "threshold": 1}]);
    for (n, fields) in hanging.iter().enumerate() {
        let mut fields = fields.clone();
        fields["trigger_conditions"] = conditions.clone();
        define(folder.path(), &format!("hanging-{n}"), &target(n), &fields);
    }
    // The last of each event, so that those that hang are taken before it.
    define(
        folder.path(),
        "works",
        &works.url(),
        &json!({"trigger_conditions": conditions}),
    );
    let server = routed(&folder, &["--downstream", &seen.url()]);
    let began = Instant::now();
    for n in 0..60 {
        post(
            &server,
            event_of_type(&format!("evt_{n}"), "HANGS").as_bytes(),
        );
    }
    for n in 0..60 {
        arrived(seen, &format!("evt_{n}"));
        arrived(&works, &format!("evt_{n}/works"));
    }
    for n in 0..20 {
        post(
            &server,
            event_of_type(&format!("other_{n}"), "OTHER").as_bytes(),
        );
        arrived(seen, &format!("other_{n}"));
    }
    let passed = began.elapsed();
    assert!(
        passed < Duration::from_secs(20),
        "{passed:?}: before the first timeout"
    );
}

/// Takes connections and never answers.
fn silent() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    (listener, origin)
}

#[test]
fn targets_that_hang_take_no_place_of_the_downstream_nor_of_a_definition_that_works() {
    let silent = [silent(), silent(), silent()];
    let hanging = [(); 3].map(|()| json!({"timeout_seconds": 30}));
    let target = |n: usize| silent[n].1.clone();
    others_pass(&Downstream::start(), &hanging, target);
}

/// A target on the downstream's own host included.
#[test]
fn lookups_that_hang_take_no_place_of_the_downstream_nor_of_a_definition_that_works() {
    let (seen, (_silent, origin)) = (Downstream::start(), silent());
    let hanging = [0, 1, 2].map(|n| {
        let url = format!("{origin}/{n}?x={{key}}");
        let lookup = json!({"url": url, "key": "/eventId", "timeout_ms": 30000});
        json!({"lookups": {"found": lookup}, "payload_template": "{{ found }}"})
    });
    let targets = [Downstream::start(), Downstream::start()];
    let target = |n: usize| targets.get(n).unwrap_or(&seen).url();
    others_pass(&seen, &hanging, target);
}

/// S3: without a downstream the sender of an event asks for what its definitions' targets made of it.
#[test]
fn without_a_downstream_the_status_of_an_event_is_that_of_its_deliveries() {
    let (one, other) = (Downstream::start(), Downstream::start());
    let folder = TempDir::new().unwrap();
    define(folder.path(), "one", &one.url(), &json!({}));
    define(folder.path(), "other", &other.url(), &json!({}));
    let server = routed(&folder, &[]);
    let state = |id: &str| ask(&server, "GET", &format!("/webhooks/events/{id}"), None).json();

    other.say(r#"{"nextNode":"greet","variables":{"tier":"gold"}}"#);
    let task = task_id(&post(&server, event("evt_1").as_bytes()));
    assert_eq!(
        result_of(&server, &task).json(),
        json!({"status": "success", "nextNode": "greet", "variables": {"tier": "gold"}}),
        "the first that says where the flow continues"
    );

    one.answer_first(&[(503, Some("4"))]);
    let task = task_id(&post(&server, event("evt_2").as_bytes()));
    arrived(&other, "evt_2/other");
    arrived(&one, "evt_2/one");
    eventually("all that waits is the second attempt", || {
        let of = |delivery: &Value| (delivery["name"].clone(), delivery["status"].clone());
        let deliveries = state("evt_2")["deliveries"].as_array().unwrap().clone();
        let expected = [("one", "queued"), ("other", "delivered")];
        let expected = expected.map(|(name, status)| (json!(name), json!(status)));
        (deliveries.iter().map(of).collect::<Vec<_>>() == expected).then_some(())
    });
    let path = format!("/webhooks/cognigy/status/{task}");
    let pending = get(&server, &path);
    assert_eq!(pending.status, 202, "{pending:?}");
    assert_eq!(result_of(&server, &task).json()["nextNode"], "greet");
    assert_eq!(state("evt_2")["status"], "delivered");

    one.answer_first(&[(400, None)]);
    let task = task_id(&post(&server, event("evt_3").as_bytes()));
    let failed = result_of(&server, &task).json();
    assert_eq!(failed["nextNode"], "default_fallback_branch");
    assert_eq!(failed["variables"]["lookupStatus"], "failed");
    assert_eq!(
        failed["variables"]["failureReason"],
        "downstream_unavailable"
    );
}

#[test]
fn a_definition_that_is_gone_is_still_among_the_deliveries_of_its_events() {
    for with_downstream in [true, false] {
        let (seen, ill) = (Downstream::start(), Downstream::start());
        let folder = TempDir::new().unwrap();
        define(folder.path(), "ill", &ill.url(), &json!({}));
        ill.answer(400);
        let url = seen.url();
        let flags = ["--downstream", &url];
        let flags = if with_downstream { &flags[..] } else { &[] };
        let mut server = routed(&folder, flags);
        post(&server, event("evt_1").as_bytes());
        eventually("its entry", || entries(&server).pop());
        if with_downstream {
            arrived(&seen, "evt_1");
        }
        fs::remove_file(folder.path().join("ill.json")).unwrap();
        hang_up(&server);
        server.wait_for(Stream::Err, "the routes are loaded again");
        let told = eventually("its own delivery has ended", || {
            let told = ask(&server, "GET", "/webhooks/events/evt_1", None).json();
            (told["status"] == "dead-lettered").then_some(told)
        });
        let names: Vec<_> = told["deliveries"].as_array().unwrap().iter().collect();
        let names: Vec<_> = names.iter().map(|one| one["name"].as_str()).collect();
        let expected = [None, Some("ill")];
        let expected = &expected[usize::from(!with_downstream)..];
        assert_eq!(names, expected, "{told}");
    }
}
