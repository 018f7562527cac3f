//! Which module may know which: of this crate, and of others.

use crate::tree::{Module, Segments, Tree};
use std::collections::BTreeSet;
use syn::visit::{self, Visit};

/// What every module may know.
const FOUNDATION: &[&str] = &[
    "attempt",
    "call",
    "body",
    "catch_panic",
    "clock",
    "context",
    "credentials",
    "error",
    "extract",
    "fields",
    "json",
    "lease",
    "observe",
    "original_uri",
    "outcome",
    "peer",
    "percent",
    "problem",
    "race",
    "refusal",
    "target",
    "unbuilt",
];

/// Middleware. None of these may know another one.
const LAYERS: &[&str] = &[
    "circuit_breaker",
    "cognigy",
    "dead_letter",
    "deadline",
    "failover",
    "fallback",
    "grpc",
    "idempotency",
    "loop_guard",
    "metrics",
    "retry",
    "signature",
];

/// Small types by which layers speak, owned by the module that inserts them: the ambient deadline and the error
/// of a call that it cut, and what a request carries that was verified.
const SPOKEN: &[[&str; 3]] = &[
    ["crate", "deadline", "Deadline"],
    ["crate", "deadline", "DeadlineExceeded"],
    ["crate", "signature", "Verified"],
];

/// These put layers together, or what they keep into one form, or show them.
const COMPOSERS: &[&str] = &["codec", "guide", "queue", "stack", "transport"];

/// Modules that serve gRPC calls and jobs too, so that only their part called `http` may name HTTP.
const WITHOUT_HTTP: &[&str] = &["circuit_breaker", "dead_letter", "metrics", "retry"];

/// Crates that speak HTTP, or show the types of `http` as their own.
const HTTP: &[&str] = &[
    "axum",
    "axum_core",
    "h2",
    "http",
    "http_body",
    "http_body_util",
    "httpdate",
    "hyper",
    "hyper_util",
    "reqwest",
    "tower_http",
];

/// On these everything stands, so they stand on little: `http`, `bytes` and `std`.
const LOWEST: &[&str] = &["body", "lease", "observe", "outcome"];

/// What one of the lowest modules needs beside that, with its reason.
pub(crate) const BEYOND: &[(&str, &[&str])] = &[
    // Bodies implement the trait that `http` has for them, by hand.
    ("body", &["http_body", "pin_project"]),
    // One budget for all bodies, with a fair wait.
    ("body::budget", &["tokio"]),
    // Two layers that read bodies, under a time limit.
    ("body::buffer", &["tokio", "tower_layer", "tower_service"]),
    ("body::peek", &["tokio", "tower_layer", "tower_service"]),
    // What these layers ask of the service inside.
    ("body::takes", &["tower_service"]),
    // The observer that every layer has.
    ("observe::trace", &["tracing"]),
    // A `Retry-After` with a date.
    ("outcome::hint", &["httpdate"]),
    // The errors of tower's own layers.
    ("outcome::errors", &["tower"]),
];

/// Crates that write logs.
const LOGS: &[&str] = &["log", "tracing", "tracing_core"];

const VENDOR: &str = "cognigy";

fn starts_with(path: &[String], with: &[&str]) -> bool {
    path.len() >= with.len() && path.iter().zip(with).all(|(one, other)| one == other)
}

/// The first step on the way of a path that `wrong` finds, told with the rule.
fn offence(
    tree: &Tree,
    module: &Module,
    path: &[String],
    rule: &str,
    wrong: impl Fn(&[String]) -> bool,
) -> Option<String> {
    let steps = tree.resolve(&module.path, path);
    let step = steps.iter().find(|step| wrong(step))?.join("::");
    Some(format!("{}: `{step}`: {rule}", module.file.display()))
}

/// Layers know the foundation and not each other.
pub(crate) fn layers(tree: &Tree) -> BTreeSet<String> {
    let mut wrong = BTreeSet::new();
    for module in tree.modules() {
        let Some(home) = module.path.first().map(String::as_str) else {
            continue;
        };
        if COMPOSERS.contains(&home) {
            continue;
        }
        if !FOUNDATION.contains(&home) && !LAYERS.contains(&home) {
            let file = module.file.display();
            wrong.insert(format!("{file}: say in this test what `{home}` may know"));
        }
        // The presets that carry the vendor's name set up the layers.
        let is_preset = starts_with(&module.path, &[VENDOR, "presets"]);
        for path in module.paths() {
            let steps = tree.resolve(&module.path, &path);
            let is_spoken = |step: &Segments| SPOKEN.iter().any(|with| starts_with(step, with));
            if steps.iter().any(is_spoken) {
                continue;
            }
            let rule =
                "a layer names another: they speak through `outcome`, `observe` and extensions";
            wrong.extend(offence(tree, module, &path, rule, |step| {
                let Some(other) = step.get(1).filter(|_| step[0] == "crate") else {
                    return false;
                };
                let other = other.as_str();
                let is_other_layer = LAYERS.contains(&other) && !is_preset;
                other != home && (COMPOSERS.contains(&other) || is_other_layer)
            }));
        }
    }
    wrong
}

/// What judges calls does not know HTTP.
pub(crate) fn without_http(tree: &Tree) -> BTreeSet<String> {
    let mut wrong = BTreeSet::new();
    for module in tree.modules() {
        let Some((home, inside)) = module.path.split_first() else {
            continue;
        };
        if !WITHOUT_HTTP.contains(&home.as_str()) || inside.iter().any(|one| one == "http") {
            continue;
        }
        let rule = "HTTP is named in the part called `http` alone";
        for path in module.paths() {
            wrong.extend(offence(tree, module, &path, rule, |step| {
                step.len() > 1 && HTTP.contains(&step[0].as_str())
            }));
        }
    }
    wrong
}

/// What the lowest modules name of the crate's `dependencies` beside `http` and `bytes`: the module, the crate, and
/// the offence in words.
pub(crate) fn lowest(tree: &Tree, dependencies: &BTreeSet<String>) -> Vec<[String; 3]> {
    let mut found = Vec::new();
    for module in tree.modules() {
        let home = module.path.first();
        if !home.is_some_and(|home| LOWEST.contains(&home.as_str())) {
            continue;
        }
        for path in module.paths() {
            for step in tree.resolve(&module.path, &path) {
                let is_free = step[0] == "http" || step[0] == "bytes";
                if step.len() > 1 && !is_free && dependencies.contains(&step[0]) {
                    let rule = "the lowest modules know `http`, `bytes` and `std` alone";
                    let (file, named) = (module.file.display(), step.join("::"));
                    let words = format!("{file}: `{named}`: {rule}");
                    found.push([module.path.join("::"), step[0].clone(), words]);
                }
            }
        }
    }
    found
}

/// Whether `BEYOND` lets this module name this crate.
pub(crate) fn is_beyond(module: &str, dependency: &str, (of, crates): (&str, &[&str])) -> bool {
    let inside = module.strip_prefix(of);
    inside.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        && crates.contains(&dependency)
}

/// The vendor is named in its own module alone, and where its signature scheme stands among the schemes, as
/// GitHub's and Stripe's do.
pub(crate) fn vendor(tree: &Tree) -> BTreeSet<String> {
    struct Names(BTreeSet<String>);
    impl<'ast> Visit<'ast> for Names {
        fn visit_ident(&mut self, ident: &'ast syn::Ident) {
            self.0.insert(ident.to_string());
        }
        fn visit_macro(&mut self, item: &'ast syn::Macro) {
            let paths = crate::tree::paths_in_macro(item);
            self.0.extend(paths.into_iter().flatten());
            visit::visit_macro(self, item);
        }
        fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
    }
    let mut wrong = BTreeSet::new();
    for module in tree.modules() {
        let is_scheme = starts_with(&module.path, &["signature", "scheme"]);
        if module.path.is_empty() || module.path[0] == VENDOR || is_scheme {
            continue;
        }
        let mut names = Names(module.path.iter().cloned().collect());
        for item in &module.items {
            names.visit_item(item);
        }
        let of_vendor = |name: &&String| name.to_lowercase().contains(VENDOR);
        for name in names.0.iter().filter(of_vendor) {
            let file = module.file.display();
            wrong.insert(format!("{file}: `{name}`: the vendor has a module"));
        }
    }
    wrong
}

/// What happens is told as an `Event`, to all observers: `tracing` is one of them, in `observe`.
pub(crate) fn logs(tree: &Tree) -> BTreeSet<String> {
    let mut wrong = BTreeSet::new();
    for module in tree.modules() {
        if module.path.first().is_some_and(|home| home == "observe") {
            continue;
        }
        let rule = "events go to the observers, and `observe` alone knows `tracing`";
        for path in module.paths() {
            wrong.extend(offence(tree, module, &path, rule, |step| {
                step.len() > 1 && LOGS.contains(&step[0].as_str())
            }));
        }
    }
    wrong
}

mod finds {
    use super::{LOWEST, Tree, WITHOUT_HTTP, layers, logs, lowest, vendor, without_http};

    /// Everything of the layers that a text may name.
    const OTHERS: &str = r"
        pub use self::retry::RetryLayer;
        mod retry { pub struct RetryLayer; pub struct Budget; pub mod inner { pub fn f() {} } }
        mod stack {}
        mod deadline { mod header { pub struct Deadline; } pub use header::Deadline; pub struct Other; }
    ";

    fn text(code: &str) -> Tree {
        Tree::of(&format!("{OTHERS} {code}"))
    }

    #[test]
    fn a_layer_that_names_another() {
        for (code, named) in [
            ("use crate::retry::Budget;", "crate::retry::Budget"),
            (
                "pub use super::retry::{Budget as B};",
                "crate::retry::Budget",
            ),
            (
                "use crate as lib; fn f(_: lib::retry::Budget) {}",
                "crate::retry::Budget",
            ),
            (
                "use crate::{self as lib}; type B = lib::retry::Budget;",
                "crate::retry::Budget",
            ),
            (
                "use super::*; fn f(_: retry::Budget) {}",
                "crate::retry::Budget",
            ),
            (
                "fn f() { crate::retry::inner::f(); }",
                "crate::retry::inner::f",
            ),
            (
                "fn f() { assert_eq!(1, crate::retry::ONE); }",
                "crate::retry::ONE",
            ),
            (
                "mod inner { use super::super::retry::*; }",
                "crate::retry::*",
            ),
            (
                "mod inner { mod more { use super::super::super::retry::Budget; } }",
                "crate::retry::Budget",
            ),
            ("impl crate::RetryLayer {}", "crate::retry::RetryLayer"),
            ("trait A: crate::retry::Budget {}", "crate::retry::Budget"),
            ("use crate::stack;", "crate::stack"),
            ("use crate::deadline::Other;", "crate::deadline::Other"),
        ] {
            let found = layers(&text(&format!("mod metrics {{ {code} }}")));
            let named = format!("`{named}`");
            assert!(
                found.iter().any(|one| one.contains(&named)),
                "{code}: {found:?}"
            );
        }
        let found = layers(&text("mod body { use crate::retry::Budget; }"));
        assert_eq!(found.len(), 1, "the foundation knows no layer: {found:?}");
        let found = layers(&text("mod new { }"));
        assert!(
            found.first().is_some_and(|one| one.contains("`new`")),
            "{found:?}"
        );
    }

    #[test]
    fn a_layer_that_names_none() {
        for code in [
            "use crate::outcome::Outcome; use super::body; use self::inner::A; mod inner { pub struct A; }",
            "use crate::deadline::Deadline; fn f(_: Deadline) {}",
            "mod retry {} use self::retry::X;",
            "#[cfg(test)] mod tests { use crate::retry::Budget; }",
        ] {
            let code = format!("mod body {{}} mod outcome {{}} mod metrics {{ {code} }}");
            let found = layers(&text(&code));
            assert!(found.is_empty(), "{code}: {found:?}");
        }
        let preset = "mod cognigy { mod presets { use crate::retry::Budget; } }";
        assert!(layers(&text(preset)).is_empty());
    }

    #[test]
    fn http_where_calls_are_judged() {
        for home in WITHOUT_HTTP {
            for code in [
                "use http::Request;",
                "pub use http as h;",
                "fn f() -> http::StatusCode { todo!() }",
                "fn f() { matches!(1, http::StatusCode::OK); }",
                "mod http {} use ::http::Request;",
                "mod inner { use axum_core::extract::Request; }",
                "use crate::call::Call;",
            ] {
                let others = "mod call { pub type Call = Box<hyper::Request<()>>; }";
                let code = format!("{others} mod {home} {{ {code} }}");
                assert!(!without_http(&Tree::of(&code)).is_empty(), "{code}");
            }
            for code in [
                "mod http { use http::Request; }",
                "mod http {} use self::http::X; use http::Y;",
            ] {
                let found = without_http(&Tree::of(&format!("mod {home} {{ {code} }}")));
                assert!(found.is_empty(), "{code}: {found:?}");
            }
        }
    }

    #[test]
    fn what_the_lowest_name() {
        let dependencies = ["bytes", "http", "serde", "tokio"];
        let dependencies = dependencies.map(str::to_owned).into();
        for home in LOWEST {
            for code in [
                "use tokio::time;",
                "pub use tokio as t;",
                "fn f() { tokio::spawn(async {}); }",
                "fn f() { println!(\"{}\", tokio::time::Instant::now()); }",
                "mod inner { use ::tokio::*; }",
                "fn f(_: impl serde::Serialize) {}",
            ] {
                let found = lowest(
                    &Tree::of(&format!("mod {home} {{ {code} }}")),
                    &dependencies,
                );
                assert!(
                    found
                        .iter()
                        .any(|one| one[1] == "tokio" || one[1] == "serde"),
                    "{code}: {found:?}"
                );
            }
            let code =
                "use bytes::Bytes; use http::Request; use std::fmt; fn f(tokio: T) { tokio; }";
            let found = lowest(
                &Tree::of(&format!("mod {home} {{ {code} }}")),
                &dependencies,
            );
            assert!(found.is_empty(), "{found:?}");
        }
    }

    #[test]
    fn logs_beside_the_observers() {
        for code in [
            "use tracing::info;",
            "use tracing as t;",
            "fn f() { tracing::warn!(\"\"); }",
            "fn f() { ::tracing::Span::current(); }",
            "#[tracing::instrument] fn f() {}",
            "fn f() { log::warn!(\"\"); }",
            "fn f() { select! { _ = a => tracing::info!() } }",
        ] {
            for code in [code.to_owned(), format!("mod queue {{ {code} }}")] {
                assert!(!logs(&Tree::of(&code)).is_empty(), "{code}");
            }
            let code = format!("mod observe {{ mod trace {{ {code} }} }}");
            assert!(logs(&Tree::of(&code)).is_empty(), "{code}");
        }
        for code in [
            "fn f(log: Log) { log.write(); }",
            "mod log { pub fn f() {} } fn f() { log::f(); }",
            "#[cfg(test)] mod tests { use tracing::Level; }",
        ] {
            assert!(logs(&Tree::of(code)).is_empty(), "{code}");
        }
    }

    #[test]
    fn the_vendor_elsewhere() {
        for code in [
            "mod retry { fn cognigy_hex() {} }",
            "mod retry { struct CognigyBody; }",
            "mod my_cognigy {}",
        ] {
            assert!(!vendor(&Tree::of(code)).is_empty(), "{code}");
        }
        for code in [
            "mod cognigy { struct Cognigy; }",
            "mod signature { mod scheme { mod cognigy {} } }",
        ] {
            assert!(vendor(&Tree::of(code)).is_empty(), "{code}");
        }
    }
}
