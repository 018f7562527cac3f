//! Who may know whom, checked on the source itself: layers do not know each other, what judges calls does
//! not know HTTP, no driver shows in the public API, and a member crate knows the library's public API alone.
//!
//! A failure names the file, what it names, and the rule.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};
use syn::{
    Attribute, File, ImplItem, Item, Meta, ReturnType, TraitItem, Type, UseTree, Visibility,
    visit::{self, Visit},
};

/// What every module may know.
const FOUNDATION: &[&str] = &[
    "attempt",
    "call",
    "body",
    "catch_panic",
    "clock",
    "error",
    "fields",
    "lease",
    "observe",
    "outcome",
    "peer",
    "problem",
    "target",
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
    "metrics",
    "retry",
    "signature",
];

/// Small types by which layers speak, owned by the module that inserts them: the ambient deadline and the error
/// of a call that it cut, and what a request carries that was verified.
const SPOKEN: &[(&str, &str)] = &[
    ("deadline", "Deadline"),
    ("deadline", "DeadlineExceeded"),
    ("signature", "Verified"),
];

/// These put layers together, or what they keep into one form.
const COMPOSERS: &[&str] = &["codec", "queue", "stack"];

/// Modules that serve gRPC calls and jobs too, so that only their part called `http` may name HTTP.
const WITHOUT_HTTP: &[&str] = &["circuit_breaker", "dead_letter", "metrics", "retry"];

/// Crates whose types may stand in a public signature: at 1.0, or named by the rule.
const MAY_SHOW: &[&str] = &[
    "axum",
    "axum_core",
    "bytes",
    "core",
    "http",
    "http_body",
    "serde",
    "serde_core",
    "serde_json",
    "std",
    "tokio",
    "tower",
    "tower_layer",
    "tower_service",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return found;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn parse(path: &Path) -> File {
    let text = fs::read_to_string(path).unwrap();
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string();
            condition == "test" || condition.starts_with("all (test") || condition == "loom"
        }
        _ => false,
    })
}

/// All paths of a file, tests left out: of `use` trees and of code.
#[derive(Default)]
struct Paths {
    found: BTreeSet<Vec<String>>,
}

impl Paths {
    fn of(file: &File) -> Self {
        let mut paths = Self::default();
        paths.visit_file(file);
        paths
    }

    fn tree(&mut self, before: &[String], tree: &UseTree) {
        let mut path = before.to_vec();
        match tree {
            UseTree::Path(next) => {
                path.push(next.ident.to_string());
                self.tree(&path, &next.tree);
            }
            UseTree::Name(name) => {
                path.push(name.ident.to_string());
                self.found.insert(path);
            }
            UseTree::Rename(name) => {
                path.push(name.ident.to_string());
                self.found.insert(path);
            }
            UseTree::Glob(_) => {
                path.push("*".to_owned());
                self.found.insert(path);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.tree(before, tree);
                }
            }
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.tree(&[], &item.tree);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter();
        let segments: Vec<String> = segments.map(|one| one.ident.to_string()).collect();
        self.found.insert(segments);
        visit::visit_path(self, path);
    }
}

/// The modules of a file of the library, from the crate's root on: `retry`, `http`.
fn modules(path: &Path) -> Vec<String> {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    let mut modules: Vec<String> = inside
        .with_extension("")
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    if modules
        .last()
        .is_some_and(|last| last == "mod" || last == "lib")
    {
        modules.pop();
    }
    modules
}

/// A path of the crate, from its root on; `None` for what is somebody else's.
fn resolved(path: &[String], modules: &[String]) -> Option<Vec<String>> {
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "super" => {
            let ups = path.iter().take_while(|one| *one == "super").count();
            let base = modules.len().checked_sub(ups)?;
            Some([&modules[..base], &path[ups..]].concat())
        }
        "self" => Some([modules, &path[1..]].concat()),
        _ => None,
    }
}

/// Files of tests inside a module.
fn is_test_file(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_str().unwrap();
    name == "tests" || name == "properties"
}

#[test]
fn layers_know_the_foundation_and_not_each_other() {
    let mut wrong = Vec::new();
    for file in sources(&root().join("src")) {
        let modules = modules(&file);
        let Some(home) = modules.first().filter(|_| !is_test_file(&file)) else {
            continue;
        };
        if COMPOSERS.contains(&home.as_str()) {
            continue;
        }
        // The presets that carry the vendor's name set up the layers.
        let is_preset = modules.starts_with(&["cognigy".to_owned(), "presets".to_owned()]);
        let known = FOUNDATION.contains(&home.as_str()) || LAYERS.contains(&home.as_str());
        assert!(known, "src/{home}: say in this test what it may know");
        for path in Paths::of(&parse(&file)).found {
            let Some(path) = resolved(&path, &modules) else {
                continue;
            };
            let Some(other) = path.first() else { continue };
            let is_layer = LAYERS.contains(&other.as_str());
            let composes = COMPOSERS.contains(&other.as_str());
            let spoken = SPOKEN
                .iter()
                .any(|(module, name)| path.len() > 1 && path[0] == *module && path[1] == *name);
            // At the root stand the layers again, and what belongs to nobody.
            let is_root_layer = path.len() == 1 && other.ends_with("Layer");
            let other_layer = is_layer || is_root_layer;
            if other != home && (composes || other_layer && !is_preset && !spoken) {
                let rule =
                    "a layer names another: they speak through `outcome`, `observe` and extensions";
                wrong.push(format!("{}: `{}`: {rule}", file.display(), path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn what_judges_calls_does_not_know_http() {
    let mut wrong = Vec::new();
    for file in sources(&root().join("src")) {
        let modules = modules(&file);
        let Some((home, rest)) = modules.split_first() else {
            continue;
        };
        // `callback` is the sink that posts to a server.
        let adapts = rest
            .iter()
            .any(|module| module == "http" || module == "callback");
        if !WITHOUT_HTTP.contains(&home.as_str()) || adapts || is_test_file(&file) {
            continue;
        }
        // Where a folder is entered, `http` is its own part.
        let enters = file.file_stem().is_some_and(|name| name == "mod");
        let has_http = enters
            && (file.with_file_name("http.rs").exists() || file.with_file_name("http").is_dir());
        for path in Paths::of(&parse(&file)).found {
            let names_http = match path.first().map(String::as_str) {
                // `mod http` beside this file, re-exported, is not the crate.
                Some("http") => !has_http,
                Some("http_body" | "http_body_util" | "hyper") => true,
                _ => false,
            };
            if names_http && path.len() > 1 {
                let rule = "HTTP is named in the part called `http` alone";
                wrong.push(format!("{}: `{}`: {rule}", file.display(), path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What the public items of a file show: the types of their signatures.
struct Shown<'a> {
    /// What names stand for here, by the `use` items.
    imported: &'a BTreeMap<String, Vec<String>>,
    crates: BTreeSet<String>,
}

impl<'ast> Visit<'ast> for Shown<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let first = path.segments.first().unwrap().ident.to_string();
        let owner = match self.imported.get(&first) {
            Some(full) => full[0].clone(),
            None if path.segments.len() > 1 => first,
            None => String::new(),
        };
        self.crates.insert(owner);
        visit::visit_path(self, path);
    }
}

fn imports(file: &File) -> BTreeMap<String, Vec<String>> {
    let mut names = BTreeMap::new();
    for item in &file.items {
        if let Item::Use(item) = item {
            let mut paths = Paths::default();
            paths.tree(&[], &item.tree);
            for path in paths.found {
                names.insert(path.last().unwrap().clone(), path);
            }
        }
    }
    names
}

const fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn signature(shown: &mut Shown<'_>, signature: &syn::Signature) {
    for input in &signature.inputs {
        if let syn::FnArg::Typed(input) = input {
            shown.visit_type(&input.ty);
        }
    }
    if let ReturnType::Type(_, output) = &signature.output {
        shown.visit_type(output);
    }
    shown.visit_generics(&signature.generics);
}

fn fields(shown: &mut Shown<'_>, fields: &syn::Fields, all: bool) {
    for field in fields {
        if all || is_public(&field.vis) {
            shown.visit_type(&field.ty);
        }
    }
}

fn show(shown: &mut Shown<'_>, items: &[Item]) {
    for item in items {
        match item {
            Item::Fn(item) if is_public(&item.vis) => signature(shown, &item.sig),
            Item::Struct(item) if is_public(&item.vis) => fields(shown, &item.fields, false),
            Item::Enum(item) if is_public(&item.vis) => {
                for variant in &item.variants {
                    fields(shown, &variant.fields, true);
                }
            }
            Item::Type(item) if is_public(&item.vis) => shown.visit_type(&item.ty),
            Item::Trait(item) if is_public(&item.vis) => {
                for item in &item.items {
                    if let TraitItem::Fn(item) = item {
                        signature(shown, &item.sig);
                    }
                }
            }
            Item::Impl(item) if !is_test(&item.attrs) => {
                // A trait of a driver for a type of ours shows the driver; so does `From<DriverError>`.
                let private = matches!(&*item.self_ty, Type::Path(path) if path.path.segments.len() == 1
                    && is_private(items, &path.path.segments[0].ident.to_string()));
                if private {
                    continue;
                }
                if let Some((_, of, _)) = &item.trait_ {
                    shown.visit_path(of);
                }
                for item in &item.items {
                    if let ImplItem::Fn(item) = item
                        && is_public(&item.vis)
                    {
                        signature(shown, &item.sig);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Whether a type is defined here and is not public.
fn is_private(items: &[Item], name: &str) -> bool {
    items.iter().any(|item| match item {
        Item::Struct(item) => item.ident == name && !is_public(&item.vis),
        Item::Enum(item) => item.ident == name && !is_public(&item.vis),
        _ => false,
    })
}

#[test]
fn no_driver_shows_in_the_public_api() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, dependencies) = manifest.split_once("\n[dependencies]\n").unwrap();
    let (dependencies, _) = dependencies.split_once("\n[").unwrap();
    let drivers: BTreeSet<String> = dependencies
        .lines()
        .filter_map(|line| line.split_once([' ', '.', '=']))
        .map(|(name, _)| name.replace('-', "_"))
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .filter(|name| !MAY_SHOW.contains(&name.as_str()))
        .collect();
    assert!(drivers.contains("moka"), "the manifest was not understood");

    let mut wrong = Vec::new();
    for file in sources(&root().join("src")) {
        let parsed = parse(&file);
        let imported = imports(&parsed);
        let mut shown = Shown {
            imported: &imported,
            crates: BTreeSet::new(),
        };
        show(&mut shown, &parsed.items);
        for name in shown.crates.intersection(&drivers) {
            wrong.push(format!(
                "{}: a public signature names `{name}`",
                file.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// `pub` and hidden is private by agreement: a member crate would have to be told of it.
#[test]
fn nothing_public_is_hidden() {
    for file in sources(&root().join("src")) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("doc(hidden)"), "{}", file.display());
    }
}

#[test]
fn a_member_knows_the_library_and_no_other_member() {
    let members = fs::read_dir(root().join("crates")).expect("the members are beside the library");
    let members: Vec<PathBuf> = members.map(|entry| entry.unwrap().path()).collect();
    assert!(members.len() >= 3, "{members:?}");
    let name_of = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    for member in &members {
        let name = name_of(member);
        let manifest = fs::read_to_string(member.join("Cargo.toml")).unwrap();
        let dependencies = manifest
            .split_once("\n[dependencies]\n")
            .map_or("", |(_, rest)| rest.split("\n[").next().unwrap());
        for other in &members {
            let other = name_of(other);
            let depends = dependencies.lines().any(|line| {
                let named = line.split([' ', '.', '=']).next().unwrap();
                named == other
            });
            assert!(
                !depends || name == "tower-webhook-gateway",
                "crates/{name} depends on {other}: a member knows the library alone"
            );
        }
        // A file of somebody else's would bring its private items.
        for file in sources(&member.join("src")) {
            let text = fs::read_to_string(&file).unwrap();
            let borrows = text.contains("#[path") || text.contains("include!(");
            assert!(!borrows, "{}: takes in another file", file.display());
        }
    }
}

#[test]
fn the_vendor_is_named_in_its_own_module() {
    let allowed = |file: &Path| {
        let modules = modules(file);
        // Its signature scheme stands among the schemes, as GitHub's and Stripe's do.
        let is_scheme = modules.starts_with(&["signature".to_owned(), "scheme".to_owned()]);
        modules.is_empty() || modules[0] == "cognigy" || is_scheme
    };
    for file in sources(&root().join("src")) {
        if allowed(&file) {
            continue;
        }
        for path in Paths::of(&parse(&file)).found {
            let names = path
                .iter()
                .any(|one| one.to_lowercase().contains("cognigy"));
            assert!(!names, "{}: `{}`", file.display(), path.join("::"));
        }
    }
}
