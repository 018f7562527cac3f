//! The operator's routes: dead letters, replay and trigger, behind a bearer token.

use super::*;
use crate::{downstream::Downstream, process::Stream};
use serde_json::{Value, json};
use std::process::Output;

const TOKEN: &str = "an operator token for the tests";

/// No attempt after the first, so that an entry is written at once.
const ONCE: [&str; 4] = ["--max-attempts", "1", "--breaker-failures", "1000"];

/// An id that no entry has.
const NOBODY: &str = "00000000000000000000000000000000";

/// A gateway that delivers to `seen`, once each.
fn operated(seen: &Downstream, flags: &[&str]) -> Server {
    let url = seen.url();
    let mut all = vec!["--operator-token", TOKEN, "--downstream", &url];
    all.extend(ONCE);
    all.extend(flags);
    gateway(&all)
}

fn ask(server: &Server, method: &str, path: &str, body: Option<&str>) -> Curled {
    ask_as(server, &format!("Bearer {TOKEN}"), method, path, body)
}

fn ask_as(
    server: &Server,
    authorization: &str,
    method: &str,
    path: &str,
    body: Option<&str>,
) -> Curled {
    let headers = [
        ("authorization", authorization),
        ("content-type", "application/json"),
    ];
    // Paths go out as they are written.
    let more = ["-X", method, "--path-as-is"];
    curl(&server.url(path), &headers, body.map(str::as_bytes), &more)
}

fn items(server: &Server, query: &str) -> Vec<Value> {
    let answer = ask(server, "GET", &format!("/dead-letters{query}"), None);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["items"].as_array().expect("items").clone()
}

fn text<'a>(item: &'a Value, name: &str) -> &'a str {
    item[name]
        .as_str()
        .unwrap_or_else(|| panic!("no {name} in {item}"))
}

/// Accepts an event that the downstream answers with `status`, and waits for its entry.
fn dead_letter(server: &Server, seen: &Downstream, event_id: &str, status: u16) -> Value {
    seen.answer(status);
    let accepted = post(server, event(event_id).as_bytes());
    let done = result_of(server, &task_id(&accepted)).json();
    assert_eq!(done["nextNode"], "default_fallback_branch", "{done}");
    eventually("the entry is there", || {
        let items = items(server, "");
        items.into_iter().find(|item| item["eventId"] == event_id)
    })
}

fn arrivals(seen: &Downstream, key: &str) -> usize {
    let got = seen.got();
    let of_key = got
        .iter()
        .filter(|(headers, _)| headers["idempotency-key"] == key);
    of_key.count()
}

fn is_problem(answer: &Curled, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{answer:?}"
    );
    assert_eq!(answer.json()["status"], status, "{answer:?}");
}

#[test]
fn operators_show_the_token_and_learn_nothing_without_it() {
    let seen = Downstream::start();
    let server = operated(&seen, &[]);
    let entry = dead_letter(&server, &seen, "evt_known", 400);
    let known = format!("/dead-letters/{}", text(&entry, "id"));
    let sent_before = seen.got().len();
    seen.answer(200);
    let routes = [
        ("GET", "/dead-letters".to_owned(), None),
        ("GET", known.clone(), None),
        ("GET", format!("/dead-letters/{NOBODY}"), None),
        ("DELETE", known.clone(), None),
        ("POST", format!("{known}/redrive"), None),
        ("POST", "/dead-letters/redrive".to_owned(), Some("{}")),
        ("GET", "/webhooks/events/evt_known".to_owned(), None),
        ("POST", "/webhooks/replay/evt_known".to_owned(), None),
        ("POST", "/webhooks/replay/evt_unknown".to_owned(), None),
        (
            "POST",
            "/api/v2/webhooks/trigger".to_owned(),
            Some(r#"{"id":"t"}"#),
        ),
    ];
    let prefix = format!("Bearer {}", &TOKEN[..TOKEN.len() - 1]);
    let longer = format!("Bearer {TOKEN}s");
    let basic = {
        let pair = format!("operator:{TOKEN}");
        format!("Basic {}", data_encoding::BASE64.encode(pair.as_bytes()))
    };
    for (method, path, body) in &routes {
        let mut bodies = Vec::new();
        for wrong in ["", "Bearer", "Bearer ", TOKEN, &prefix, &longer, &basic] {
            let refused = ask_as(&server, wrong, method, path, *body);
            is_problem(&refused, 401);
            let challenge = refused.header("www-authenticate").expect("a challenge");
            assert!(challenge.starts_with("Bearer"), "{challenge}");
            assert!(!refused.body.contains(TOKEN) && !refused.body.contains("evt_known"));
            bodies.push(refused.body);
        }
        bodies.dedup();
        assert_eq!(bodies.len(), 1, "{path}: all wrong tokens look the same");
    }
    // The sender's credentials are not the operator's.
    let signature = openssl_hex(SECRET, b"{}");
    let signed = [("x-cognigy-signature", signature.as_str())];
    let url = server.url("/dead-letters/redrive");
    assert_eq!(curl(&url, &signed, Some(b"{}"), &[]).status, 401);

    assert_eq!(items(&server, "").len(), 1, "nothing was done");
    assert_eq!(seen.got().len(), sent_before, "nothing was sent");

    // Who guesses is seen, and at which credential.
    let forged = openssl_hex("not the secret", b"{}");
    assert_eq!(send(&server, &forged, b"{}").status, 401);
    let pair = data_encoding::BASE64.encode(b"cognigy:not the password");
    let basic = format!("Basic {pair}");
    let url = server.url("/webhooks/cognigy/endpoint");
    let guess = curl(&url, &[("authorization", &*basic)], Some(b"{}"), &[]);
    assert_eq!(guess.status, 401);
    let metrics = get(&server, "/metrics").body;
    // Those that are slowed are counted once more, by another name.
    let refused = |line: &&str| {
        line.starts_with("tower_webhook_refusals_total{") && !line.contains("guesses")
    };
    let refused = metrics.lines().filter(refused);
    let refused: usize = refused
        .map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap())
        .sum();
    assert_eq!(refused, routes.len() * 7 + 3, "{metrics}");
    for (by, guesses) in [("bearer", routes.len() * 2), ("cognigy", 1), ("basic", 1)] {
        let line =
            format!(r#"tower_webhook_refusals_total{{by="{by}",reason="mismatch"}} {guesses}"#);
        assert!(
            metrics.lines().any(|shown| shown == line),
            "{line}\n{metrics}"
        );
    }
}

#[test]
fn a_newcomer_gets_an_operator_token_that_works_and_is_nowhere_else() {
    let mut command = command();
    command.args(["--listen", "127.0.0.1:0", "--store", "memory:"]);
    command.env("RUST_LOG", "info");
    let mut server = Server::start(command);
    let said = server.wait_for(Stream::Err, "--operator-token");
    let line = said.lines().find(|line| line.contains("--operator-token"));
    let token = line.and_then(|line| line.rsplit(' ').next()).unwrap();
    assert!(token.len() >= 32, "{token}");
    let answer = ask_as(
        &server,
        &format!("Bearer {token}"),
        "GET",
        "/dead-letters",
        None,
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(!get(&server, "/metrics").body.contains(token));
    assert!(!get(&server, "/health").body.contains(token));

    let mut help = crate::command();
    help.env("GATEWAY_OPERATOR_TOKEN", "hunter2").arg("--help");
    let help = help.output().unwrap();
    assert!(!String::from_utf8_lossy(&help.stdout).contains("hunter2"));
}

#[test]
fn entries_are_listed_newest_first_in_pages_and_by_filter() {
    let seen = Downstream::start();
    let server = operated(&seen, &[]);
    assert_eq!(items(&server, ""), Vec::<Value>::new());
    for (n, status) in [400, 500, 410, 503, 400].into_iter().enumerate() {
        dead_letter(&server, &seen, &format!("evt_{n}"), status);
    }
    let all = items(&server, "");
    let ids = |items: &[Value]| -> Vec<String> {
        let ids = items.iter().map(|item| text(item, "eventId").to_owned());
        ids.collect()
    };
    assert_eq!(ids(&all), ["evt_4", "evt_3", "evt_2", "evt_1", "evt_0"]);
    let written: Vec<_> = all.iter().map(|item| text(item, "writtenAt")).collect();
    assert!(written.is_sorted_by(|a, b| a >= b), "{written:?}");

    let item = &all[0];
    let host = seen.address.to_string();
    assert_eq!(text(item, "reason"), "rejected");
    assert_eq!(text(item, "target"), host);
    assert_eq!(item["lastStatus"], 400);
    assert_eq!(item["attempts"], 1);
    assert_eq!(item["replays"], 0);
    assert_eq!(text(item, "errorClass"), "permanent");
    assert_eq!(text(item, "id").len(), 32, "{item}");

    // By filter.
    assert_eq!(
        ids(&items(&server, "?reason=rejected")),
        ["evt_4", "evt_2", "evt_0"]
    );
    assert_eq!(
        ids(&items(&server, "?reason=retries_exhausted")),
        ["evt_3", "evt_1"]
    );
    assert_eq!(items(&server, &format!("?target={host}")).len(), 5);
    assert_eq!(items(&server, "?target=elsewhere").len(), 0);
    let both = format!("?target={host}&reason=rejected&limit=1");
    assert_eq!(ids(&items(&server, &both)), ["evt_4"]);

    assert_eq!(items(&server, "?reason=&target=&limit=&cursor=").len(), 5);
    let slip = ask(
        &server,
        "POST",
        "/dead-letters/redrive",
        Some(r#"{"reason":""}"#),
    );
    assert_eq!(slip.status, 400, "an empty reason is not all of them");

    // In pages, while more entries arrive: none twice, none left out.
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    for page in 0.. {
        let path = format!("/dead-letters?limit=2{cursor}");
        let answer = ask(&server, "GET", &path, None).json();
        let items = answer["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        paged.extend(ids(items));
        if page == 0 {
            dead_letter(&server, &seen, "evt_late", 400);
        }
        match answer["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
        assert!(page < 10, "pages without end");
    }
    assert_eq!(paged, ["evt_4", "evt_3", "evt_2", "evt_1", "evt_0"]);

    for wrong in [
        "reason=no_such_reason",
        "limit=0",
        "limit=-1",
        "limit=many",
        "limit=99999999999999999999",
        "cursor=nonsense",
        "cursor=..%2f..%2fetc",
        "cursor='%20OR%201=1",
    ] {
        let refused = ask(&server, "GET", &format!("/dead-letters?{wrong}"), None);
        is_problem(&refused, 400);
    }
}

#[test]
fn an_entry_is_shown_whole_and_thrown_away_once() {
    let seen = Downstream::start();
    let server = operated(&seen, &[]);
    let item = dead_letter(&server, &seen, "evt_1", 410);
    let path = format!("/dead-letters/{}", text(&item, "id"));
    let shown = ask(&server, "GET", &path, None);
    assert_eq!(shown.status, 200, "{shown:?}");
    let entry = shown.json();
    assert_eq!(entry["id"], item["id"]);
    assert_eq!(entry["eventId"], "evt_1");
    assert!(entry["schemaVersion"].is_u64() || entry["schema_version"].is_u64());
    // What was to be delivered is in it, to the byte: as text, or in base64.
    let whole = shown.body.replace("\\\"", "\"");
    let body = event("evt_1");
    let encoded = data_encoding::BASE64.encode(body.as_bytes());
    assert!(whole.contains(&body) || whole.contains(&encoded), "{whole}");
    // And no credential that the delivery had.
    for secret in [SECRET, TOKEN, "v1="] {
        assert!(!shown.body.contains(secret), "{secret}: {}", shown.body);
    }

    let removed = ask(&server, "DELETE", &path, None);
    assert_eq!((removed.status, removed.body.as_str()), (204, ""));
    is_problem(&ask(&server, "DELETE", &path, None), 404);
    is_problem(&ask(&server, "GET", &path, None), 404);
    is_problem(&ask(&server, "POST", &format!("{path}/redrive"), None), 404);
    assert_eq!(items(&server, "").len(), 0);
    let health = get(&server, "/health").json();
    assert_eq!(health["metrics"]["dead_letter_size"], 0);
}

#[test]
fn what_is_no_id_is_no_entry() {
    let folder = tempfile::tempdir().unwrap();
    let entries = format!("jsonl:{}", folder.path().join("entries.jsonl").display());
    let seen = Downstream::start();
    for place in ["memory:", &entries] {
        let server = operated(&seen, &["--dead-letters", place]);
        let item = dead_letter(&server, &seen, "evt_1", 400);
        let real = text(&item, "id");
        let upper = real.to_uppercase();
        let (long, huge) = (format!("{real}0"), "a".repeat(6000));
        for trick in [
            NOBODY,
            "..%2f..%2f..%2fetc%2fpasswd",
            "..%5c..%5cwindows",
            "%2e%2e",
            "..",
            ".",
            "%00",
            "%FF",
            "%F0%9F%92%A9",
            "%EF%BC%91",
            "'%20OR%20'1'='1",
            "1;%20DROP%20TABLE%20entries",
            "*",
            "%25",
            "_",
            "-1",
            "0x1",
            "evt_1",
            &long,
            &real[1..],
            &huge,
        ] {
            for (method, end) in [("GET", ""), ("DELETE", ""), ("POST", "/redrive")] {
                let path = format!("/dead-letters/{trick}{end}");
                let answer = ask(&server, method, &path, None);
                assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
                assert!(!answer.body.contains("root:"), "{answer:?}");
            }
        }
        // A name is one text: another spelling of it is another name.
        if upper != real {
            let answer = ask(&server, "GET", &format!("/dead-letters/{upper}"), None);
            assert_eq!(answer.status, 404);
        }
        assert_eq!(items(&server, "").len(), 1, "it is still there");
    }
}

#[test]
fn an_entry_that_is_sent_again_is_delivered_and_gone() {
    let seen = Downstream::start();
    let server = operated(&seen, &[]);
    let item = dead_letter(&server, &seen, "evt_1", 500);
    let path = format!("/dead-letters/{}/redrive", text(&item, "id"));

    // The downstream is as ill as before: it stays, and knows that it was tried.
    let again = ask(&server, "POST", &path, None);
    assert_eq!(again.status, 202, "{again:?}");
    assert_eq!(again.json()["matched"], 1);
    let tried = eventually("it is tried", || {
        let item = items(&server, "").into_iter().next();
        item.filter(|item| item["replays"] == 1 && arrivals(&seen, "evt_1") > 1)
    });
    assert_eq!(tried["id"], item["id"]);
    assert_eq!(tried["eventId"], "evt_1");

    seen.answer(200);
    let before = seen.got().len();
    let sent = || {
        // It may still be under way from before.
        let answer = ask(&server, "POST", &path, None);
        assert!(matches!(answer.status, 202 | 404), "{answer:?}");
        items(&server, "").is_empty().then_some(())
    };
    eventually("it is delivered", sent);
    let got = seen.got();
    assert_eq!(got.len(), before + 1, "once");
    let (headers, body) = got.last().unwrap();
    assert_eq!(headers["idempotency-key"], "evt_1");
    assert_eq!(body, event("evt_1").as_bytes());
    assert!(headers.contains_key("x-cognigy-signature"), "signed anew");
    assert_eq!(headers["prevent-loop"], "true");
    is_problem(&ask(&server, "POST", &path, None), 404);
}

#[test]
fn pressed_twice_or_by_ten_at_once_each_entry_is_sent_once() {
    let seen = Downstream::start();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    for place in [
        "memory:".to_owned(),
        format!("jsonl:{}", file("entries.jsonl")),
        format!("sqlite:{}", file("entries.db")),
    ] {
        let server = operated(&seen, &["--dead-letters", &place]);
        let scope = place.split(':').next().unwrap();
        let events: Vec<_> = (0..4).map(|n| format!("evt_{scope}_{n}")).collect();
        let entries: Vec<_> = events
            .iter()
            .map(|id| dead_letter(&server, &seen, id, 400))
            .collect();
        seen.answer(200);
        let one = format!("/dead-letters/{}/redrive", text(&entries[0], "id"));
        std::thread::scope(|scope| {
            for n in 0..10 {
                let (server, one) = (&server, &one);
                scope.spawn(move || {
                    let many = ("/dead-letters/redrive", Some("{}"));
                    let (path, body) = if n % 2 == 0 { (&**one, None) } else { many };
                    let answer = ask(server, "POST", path, body);
                    assert!(matches!(answer.status, 202 | 404 | 409), "{answer:?}");
                });
            }
        });
        eventually("all are delivered", || {
            items(&server, "").is_empty().then_some(())
        });
        for id in &events {
            assert_eq!(
                arrivals(&seen, id),
                2,
                "{place}: {id}, refused and sent again"
            );
        }
    }
}

#[test]
fn entries_are_sent_again_by_filter_and_others_stay() {
    let seen = Downstream::start();
    let server = operated(&seen, &[]);
    for (n, status) in [400, 500, 400].into_iter().enumerate() {
        dead_letter(&server, &seen, &format!("evt_{n}"), status);
    }
    seen.answer(200);
    let path = "/dead-letters/redrive";
    for wrong in [
        r#"{"reason":"no_such_reason"}"#,
        r#"{"raeson":"rejected"}"#,
        r#"{"reason":7}"#,
        "[]",
        "7",
        "{",
    ] {
        is_problem(&ask(&server, "POST", path, Some(wrong)), 400);
    }
    let nothing = ask(&server, "POST", path, Some(r#"{"target":"elsewhere"}"#));
    assert_eq!(
        (nothing.status, &nothing.json()["matched"]),
        (202, &json!(0))
    );

    let some = ask(&server, "POST", path, Some(r#"{"reason":"rejected"}"#));
    assert_eq!((some.status, &some.json()["matched"]), (202, &json!(2)));
    eventually("two are delivered", || {
        (items(&server, "").len() == 1).then_some(())
    });
    assert_eq!(text(&items(&server, "")[0], "eventId"), "evt_1");
    assert_eq!(arrivals(&seen, "evt_1"), 1, "not asked for");

    // No body is no filter.
    let rest = ask(&server, "POST", path, Some(""));
    assert_eq!((rest.status, &rest.json()["matched"]), (202, &json!(1)));
    eventually("all are delivered", || {
        items(&server, "").is_empty().then_some(())
    });
}

#[test]
fn a_stored_event_is_replayed_although_it_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("gateway.db");
    let store = format!("sqlite:{}", database.display());
    let seen = Downstream::start();
    for store in ["memory:", &store] {
        let server = operated(&seen, &["--store", store]);
        let before = seen.got().len();
        let body = event("evt_1");
        let accepted = post(&server, body.as_bytes());
        result_of(&server, &task_id(&accepted));
        assert_eq!(post(&server, body.as_bytes()).json()["duplicate"], true);

        for _ in 0..2 {
            let replayed = ask(&server, "POST", "/webhooks/replay/evt_1", None);
            assert_eq!(replayed.status, 202, "{replayed:?}");
            assert_eq!(replayed.json()["status"], "queued");
            let task = task_id(&replayed);
            assert_ne!(task, task_id(&accepted), "a task of its own");
            let done = result_of(&server, &task).json();
            assert_eq!(done["nextNode"], "continue_dialog", "{done}");
        }
        let got = seen.got();
        assert_eq!(got.len(), before + 3);
        assert!(
            got[before..]
                .iter()
                .all(|(_, sent)| sent == body.as_bytes())
        );
        // To senders it is as known as before.
        assert_eq!(post(&server, body.as_bytes()).json()["duplicate"], true);

        // S4's replay is a GET.
        let got = ask(&server, "GET", "/webhooks/replay/evt_1", None);
        assert_eq!(got.status, 405, "{got:?}");
        for unknown in ["evt_2", "..%2fevt_1", "'%20OR%201=1", "%00", "%FF", "%25"] {
            let path = format!("/webhooks/replay/{unknown}");
            is_problem(&ask(&server, "POST", &path, None), 404);
        }
    }
}

#[test]
fn the_state_of_an_event_is_told_by_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("gateway.db").display());
    let seen = Downstream::start();
    for store in ["memory:", &store] {
        let server = operated(&seen, &["--store", store]);
        let state = |id: &str| ask(&server, "GET", &format!("/webhooks/events/{id}"), None);
        is_problem(&state("evt_1"), 404);

        let accepted = post(&server, event("evt_1").as_bytes());
        let task = task_id(&accepted);
        result_of(&server, &task);
        let told = state("evt_1");
        assert_eq!(told.status, 200, "{told:?}");
        let told = told.json();
        assert_eq!(
            (&told["eventId"], &told["status"]),
            (&json!("evt_1"), &json!("delivered"))
        );
        assert_eq!(told["attempts"], 1);
        assert_eq!(told["deliveries"][0]["taskId"], task);

        let entry = dead_letter(&server, &seen, "evt_2", 400);
        assert_eq!(state("evt_2").json()["status"], "dead-lettered");
        // Sent again, it is delivered.
        seen.answer(200);
        let path = format!("/dead-letters/{}/redrive", text(&entry, "id"));
        assert_eq!(ask(&server, "POST", &path, None).status, 202);
        eventually("it is delivered", || {
            (state("evt_2").json()["status"] == "delivered").then_some(())
        });

        for unknown in ["evt_3", "..%2fevt_1", "%00", "%FF", "%25"] {
            is_problem(&state(unknown), 404);
        }
        let stranger = ask_as(&server, "Bearer no", "GET", "/webhooks/events/evt_1", None);
        assert_eq!(stranger.status, 401);
    }
}

#[test]
fn an_event_that_left_for_others_is_not_replayed_and_its_repeat_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("gateway.db").display());
    let seen = Downstream::start();
    for store in ["memory:", &store] {
        let server = operated(&seen, &["--store", store, "--max-event-bytes", "1000"]);
        let body = event("evt_old");
        let accepted = post(&server, body.as_bytes());
        result_of(&server, &task_id(&accepted));
        for n in 0..8 {
            let accepted = post(&server, event(&format!("evt_{n}")).as_bytes());
            result_of(&server, &task_id(&accepted));
        }
        let path = "/webhooks/replay/evt_old";
        eventually("it leaves", || {
            (ask(&server, "POST", path, None).status == 404).then_some(())
        });
        let delivered = seen.got().len();
        assert_eq!(post(&server, body.as_bytes()).json()["duplicate"], true);
        assert_eq!(seen.got().len(), delivered);
        let newest = ask(&server, "POST", "/webhooks/replay/evt_7", None);
        assert_eq!(newest.status, 202, "{newest:?}");
        result_of(&server, &task_id(&newest));
        let page = get(&server, "/metrics").body;
        let told = "tower_webhook_troubles_total{part=\"accepted_events\"}";
        assert!(page.contains(told), "{page}");
    }
}

#[test]
fn a_triggered_object_is_delivered_and_nothing_else_is_taken() {
    let seen = Downstream::start();
    let server = operated(&seen, &["--max-body", "2000"]);
    let path = "/api/v2/webhooks/trigger";
    let payload = r#"{"id":"trg_1","intent":"greet","n":[1,2.50],"name":"Grüße"}"#;
    let queued = ask(&server, "POST", path, Some(payload));
    assert_eq!(queued.status, 202, "{queued:?}");
    assert_eq!(queued.json()["status"], "queued");
    let done = result_of(&server, &task_id(&queued)).json();
    assert_eq!(done["nextNode"], "continue_dialog", "{done}");
    let got = seen.got();
    let [(headers, body)] = &got[..] else {
        panic!("one delivery, not {}", got.len());
    };
    assert_eq!(body, payload.as_bytes(), "to the byte");
    assert_eq!(headers["content-type"], "application/json");
    assert!(headers.contains_key("idempotency-key"));
    assert!(headers.contains_key("x-cognigy-signature"));

    for wrong in ["", "[]", "7", "null", "\"text\"", "{", "{\"a\":}", "\u{0}"] {
        is_problem(&ask(&server, "POST", path, Some(wrong)), 400);
    }
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(2000));
    is_problem(&ask(&server, "POST", path, Some(&large)), 413);
    assert_eq!(
        ask(&server, "GET", path, None).status,
        405,
        "only POST triggers"
    );
    assert_eq!(seen.got().len(), 1, "no refusal was sent");
}

#[test]
fn the_task_of_nobody_is_not_found_however_it_is_guessed() {
    let seen = Downstream::start();
    let server = operated(&seen, &[]);
    let task = task_id(&post(&server, event("evt_1").as_bytes()));
    let last = task.chars().last().unwrap();
    let next = if last == '0' { '1' } else { '0' };
    let neighbour = format!("{}{next}", &task[..task.len() - 1]);
    let (upper, huge) = (task.to_uppercase(), "0".repeat(6000));
    let mut guesses = vec![neighbour, huge, format!("{task}0"), task[1..].to_owned()];
    guesses.extend(["evt_1", "1", "%00", "..%2f1", "%25"].map(str::to_owned));
    if upper != task {
        guesses.push(upper);
    }
    for guess in guesses {
        let path = format!("/webhooks/cognigy/status/{guess}");
        is_problem(&get(&server, &path), 404);
    }
}

#[test]
fn health_is_degraded_from_as_many_entries_as_is_said() {
    let seen = Downstream::start();
    let server = operated(&seen, &["--degraded-at", "2"]);
    let health = || get(&server, "/health").json();
    for (entries, status) in [(1, "healthy"), (2, "degraded"), (3, "degraded")] {
        dead_letter(&server, &seen, &format!("evt_{entries}"), 400);
        let health = eventually("it is counted", || {
            let health = health();
            (health["metrics"]["dead_letter_size"] == entries).then_some(health)
        });
        assert_eq!(health["status"], status, "{health}");
    }
    seen.answer(200);
    ask(&server, "POST", "/dead-letters/redrive", Some("{}"));
    eventually("it is well again", || {
        (health()["status"] == "healthy").then_some(())
    });
}

fn refused(flags: &[&str]) -> Output {
    let mut command = command();
    command.args(["--listen", "127.0.0.1:0", "--store", "memory:"]);
    command.args(flags).output().expect("it runs")
}

#[test]
fn a_place_that_cannot_be_used_ends_the_program_with_the_name_of_its_flag() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = format!("{}/no/such/folder/file", folder.path().display());
    let (jsonl, sqlite) = (format!("jsonl:{nowhere}"), format!("sqlite:{nowhere}"));
    for (flag, wrong) in [
        ("--dead-letters", "ftp://u:hunter2@host/"),
        ("--dead-letters", "nonsense"),
        ("--dead-letters", ""),
        ("--dead-letters", "jsonl:"),
        ("--dead-letters", "sqlite:"),
        ("--dead-letters", "sqlite::memory:"),
        ("--dead-letters", &jsonl),
        ("--dead-letters", &sqlite),
        // Not a target that the public may be sent to, without --allow-private.
        ("--dead-letters", "http://127.0.0.1:1/"),
        ("--dead-letters", "https://u:hunter2@example.com/"),
        ("--queue", "ftp://u:hunter2@host/"),
        ("--queue", "nonsense"),
        ("--queue", "jsonl:entries"),
        ("--queue", "sqlite:"),
        ("--queue", &sqlite),
        ("--operator-token", ""),
        ("--degraded-at", "-1"),
        ("--degraded-at", "many"),
    ] {
        let output = refused(&[flag, wrong]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flag} {wrong}: {said}");
        assert!(said.contains(flag), "{flag} {wrong}: {said}");
        assert!(!said.contains("hunter2"), "a secret: {said}");
        assert!(output.stdout.is_empty(), "{flag} {wrong}");
    }
}

#[test]
fn entries_in_a_file_are_lines_of_json_and_are_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("entries.jsonl");
    let place = format!("jsonl:{}", path.display());
    let seen = Downstream::start();
    let mut server = operated(&seen, &["--dead-letters", &place]);
    for n in 0..3 {
        dead_letter(&server, &seen, &format!("evt_{n}"), 400);
    }
    server.kill();
    let lines = std::fs::read_to_string(&path).unwrap();
    assert!(lines.ends_with('\n'), "the last line is whole");
    for line in lines.lines() {
        serde_json::from_str::<Value>(line).expect(line);
    }
    for n in 0..3 {
        assert!(lines.contains(&format!("evt_{n}")), "{lines}");
    }
    // A crash in the middle of a line.
    let torn = format!("{lines}{}", &lines[..lines.find('\n').unwrap() / 2]);
    std::fs::write(&path, torn).unwrap();

    let server = operated(&seen, &["--dead-letters", &place]);
    assert_eq!(items(&server, "").len(), 3);
    dead_letter(&server, &seen, "evt_after", 400);
    assert_eq!(items(&server, "").len(), 4);
    seen.answer(200);
    ask(&server, "POST", "/dead-letters/redrive", Some("{}"));
    eventually("all are delivered", || {
        items(&server, "").is_empty().then_some(())
    });
}

#[test]
fn entries_to_a_callback_are_posted_there_and_cannot_be_asked_for_here() {
    let (seen, callback) = (Downstream::start(), Downstream::start());
    let url = callback.url();
    let server = operated(&seen, &["--dead-letters", &url]);
    seen.answer(400);
    let accepted = post(&server, event("evt_1").as_bytes());
    result_of(&server, &task_id(&accepted));
    let (headers, body) = eventually("the callback is called", || {
        callback.got().into_iter().next()
    });
    assert!(
        headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("application/json")
    );
    let entry: Value = serde_json::from_slice(&body).expect("JSON");
    assert!(entry.to_string().contains("evt_1"), "{entry}");
    assert!(!entry.to_string().contains(SECRET));
    eventually("it is counted", || {
        let health = get(&server, "/health").json();
        (health["metrics"]["dead_letter_size"] == 1).then_some(())
    });
    for (method, path) in [
        ("GET", "/dead-letters".to_owned()),
        ("GET", format!("/dead-letters/{NOBODY}")),
        ("DELETE", format!("/dead-letters/{NOBODY}")),
        ("POST", "/dead-letters/redrive".to_owned()),
    ] {
        is_problem(&ask(&server, method, &path, None), 501);
    }
    assert_eq!(callback.got().len(), 1, "an entry is one entry");
}

#[test]
fn the_queue_can_be_in_memory_or_in_another_file_than_the_events() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| format!("sqlite:{}", folder.path().join(name).display());
    let seen = Downstream::start();
    for (store, queue) in [
        (file("a.db"), "memory:".to_owned()),
        (file("b.db"), file("jobs.db")),
        ("memory:".to_owned(), file("alone.db")),
    ] {
        let flags = ["--store", &store, "--queue", &queue];
        let mut server = operated(&seen, &flags);
        let accepted = post(&server, event("evt_1").as_bytes());
        let done = result_of(&server, &task_id(&accepted)).json();
        assert_eq!(
            done["nextNode"], "continue_dialog",
            "{store} {queue}: {done}"
        );
        let again = post(&server, event("evt_1").as_bytes());
        assert_eq!(again.json()["duplicate"], true, "{store} {queue}");

        if !queue.starts_with("sqlite:") {
            continue;
        }
        // Accepted, not delivered, and then killed: the file has it.
        seen.answer(503);
        let url = seen.url();
        let mut patient = vec!["--operator-token", TOKEN, "--downstream", &url];
        patient.extend(["--max-attempts", "10", "--base-delay-ms", "200"]);
        patient.extend(["--max-delay-ms", "200", "--breaker-failures", "1000"]);
        patient.extend(flags);
        server.kill();
        let mut server = gateway(&patient);
        let id = format!("evt_{}", folder.path().read_dir().unwrap().count());
        assert_eq!(post(&server, event(&id).as_bytes()).status, 200);
        eventually("it is tried", || (arrivals(&seen, &id) > 0).then_some(()));
        server.kill();
        seen.answer(200);
        let tried = arrivals(&seen, &id);
        let _server = gateway(&patient);
        eventually("it is delivered after the next start", || {
            (arrivals(&seen, &id) > tried).then_some(())
        });
    }
}

/// What the audit log of a store says, oldest first.
fn audited(store: &std::path::Path) -> Vec<String> {
    let query = "PRAGMA busy_timeout=5000; SELECT 'did ' || action || ' ' || subject FROM tower_webhook_audit ORDER BY row";
    let said = crate::foreign::run(
        "sqlite3",
        &["-readonly", store.to_str().unwrap(), query],
        b"",
    );
    let lines = said.lines().filter_map(|line| line.strip_prefix("did "));
    lines.map(str::to_owned).collect()
}

/// While another program holds the file of the audit log, an operator's actions are refused and not done, also where
/// dead letters and jobs are in another file that is free. Afterwards each is done once.
fn what_is_answered_503_is_not_done(apart: bool) {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = format!("sqlite:{}", folder.path().join("jobs.db").display());
    let store = folder.path().join("gateway.db");
    let store_flag = format!("sqlite:{}", store.display());
    let mut flags = vec!["--store", &store_flag];
    if apart {
        flags.extend(["--queue", &elsewhere, "--dead-letters", &elsewhere]);
    }
    let seen = Downstream::start();
    let server = operated(&seen, &flags);
    let letters = ["evt_1", "evt_2"]
        .map(|event| text(&dead_letter(&server, &seen, event, 400), "id").to_owned());
    seen.answer(200);
    let before = (seen.got().len(), audited(&store).len());
    let [discard, redrive] = [
        ("DELETE", format!("/dead-letters/{}", letters[0])),
        ("POST", format!("/dead-letters/{}/redrive", letters[1])),
    ];
    let acts = [
        discard,
        redrive,
        ("POST", "/webhooks/replay/evt_2".to_owned()),
        ("POST", "/api/v2/webhooks/trigger".to_owned()),
    ];
    let act = |(method, path): &(&str, String)| {
        let body = path.ends_with("trigger").then_some("{}");
        ask(&server, method, path, body)
    };

    let mut holder = crate::holder::Holder::start(&store);
    std::thread::scope(|scope| {
        let asked = acts.each_ref().map(|one| scope.spawn(move || act(one)));
        for (asked, what) in asked.into_iter().zip(&acts) {
            let answer = asked.join().unwrap();
            assert_eq!(answer.status, 503, "{what:?}: {answer:?}");
        }
    });
    holder.release();
    assert_eq!(audited(&store).len(), before.1);
    assert_eq!(seen.got().len(), before.0);
    assert_eq!(items(&server, "").len(), 2);

    for one in &acts {
        let answer = act(one);
        assert!([202, 204].contains(&answer.status), "{one:?}: {answer:?}");
    }
    eventually("all of it is done", || {
        (items(&server, "").is_empty() && seen.got().len() >= before.0 + 3).then_some(())
    });
    let said = audited(&store);
    assert_eq!(said.len(), before.1 + 4, "{said:?}");
    assert_eq!(said[before.1], format!("discard {}", letters[0]));
    assert_eq!(said[before.1 + 1], format!("redrive {}", letters[1]));
    assert_eq!(said[before.1 + 2], "replay evt_2");
    assert!(said[before.1 + 3].starts_with("trigger key:trigger:"));
    // Discarding twice changes nothing.
    assert_eq!(act(&acts[0]).status, 404);
    assert_eq!(seen.got().len(), before.0 + 3, "each once");
}

#[test]
fn what_is_answered_503_is_not_done_in_the_file_of_the_audit_log() {
    what_is_answered_503_is_not_done(false);
}

#[test]
fn what_is_answered_503_is_not_done_in_another_file() {
    what_is_answered_503_is_not_done(true);
}
