//! What the public items of a crate show: the types, traits and bounds of their signatures.

use crate::tree::{Module, Segments, Tree, is_public, leaves, named, paths_in_macro, segments};
use std::collections::BTreeSet;
use syn::{
    Attribute, Block, Expr, Fields, ImplItem, Item, ItemImpl, ItemMacro, Macro, Token,
    punctuated::Punctuated,
    visit::{self, Visit},
};

/// The places where something public shows a type of one of these crates.
pub(crate) fn shown(tree: &Tree, drivers: &BTreeSet<String>) -> BTreeSet<String> {
    let mut wrong = BTreeSet::new();
    for module in tree.modules() {
        let mut shown = Shown {
            tree,
            module,
            paths: BTreeSet::new(),
        };
        for item in &module.items {
            shown.item(item);
        }
        for path in shown.paths {
            if drivers.contains(&path[0]) {
                let (file, path) = (module.file.display(), path.join("::"));
                wrong.insert(format!("{file}: `{path}`: a driver in the public API"));
            }
        }
    }
    wrong
}

struct Shown<'a> {
    tree: &'a Tree,
    module: &'a Module,
    paths: BTreeSet<Segments>,
}

impl Shown<'_> {
    fn path(&mut self, path: &[String]) {
        self.paths
            .extend(self.tree.resolve(&self.module.path, path));
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::Use(item) if is_public(&item.vis) => {
                for leaf in leaves(item) {
                    self.path(&leaf.path);
                }
            }
            // A name from a glob cannot be told: a driver's are imported by name.
            Item::Use(item) => {
                for leaf in leaves(item).iter().filter(|leaf| leaf.is_glob()) {
                    self.path(&leaf.path);
                }
            }
            Item::ExternCrate(item) if is_public(&item.vis) => {
                self.path(&[String::new(), item.ident.to_string()]);
            }
            Item::Fn(item) if is_public(&item.vis) => self.visit_signature(&item.sig),
            Item::Const(item) if is_public(&item.vis) => self.visit_type(&item.ty),
            Item::Static(item) if is_public(&item.vis) => self.visit_type(&item.ty),
            Item::Type(item) if is_public(&item.vis) => self.visit_item_type(item),
            Item::Trait(item) if is_public(&item.vis) => self.visit_item_trait(item),
            Item::Enum(item) if is_public(&item.vis) => {
                self.derives(&item.attrs);
                self.visit_item_enum(item);
            }
            Item::Struct(item) if is_public(&item.vis) => {
                self.derives(&item.attrs);
                self.visit_generics(&item.generics);
                self.fields(&item.fields);
            }
            Item::Union(item) if is_public(&item.vis) => {
                self.derives(&item.attrs);
                self.visit_generics(&item.generics);
                self.fields(&Fields::Named(item.fields.clone()));
            }
            Item::Impl(item) => self.implementation(item),
            // What it makes may be public, unless it makes no items.
            Item::Macro(item) if item.ident.is_none() || makes_items(item) => {
                self.visit_macro(&item.mac);
            }
            _ => {}
        }
    }

    fn fields(&mut self, fields: &Fields) {
        for field in fields.iter().filter(|field| is_public(&field.vis)) {
            self.visit_type(&field.ty);
        }
    }

    fn derives(&mut self, attributes: &[Attribute]) {
        for attribute in attributes
            .iter()
            .filter(|one| one.path().is_ident("derive"))
        {
            let derived = Punctuated::<syn::Path, Token![,]>::parse_terminated;
            for path in attribute.parse_args_with(derived).unwrap() {
                self.visit_path(&path);
            }
        }
    }

    /// A trait of a driver for a type of ours shows the driver; so does a trait of ours for a driver's type, and
    /// `From<DriverError>`.
    fn implementation(&mut self, item: &ItemImpl) {
        let is_private =
            |path: &syn::Path| self.tree.is_private(&self.module.path, &segments(path));
        let of = item.trait_.as_ref().map(|(_, path, _)| path);
        if named(&item.self_ty).is_some_and(is_private) || of.is_some_and(is_private) {
            return;
        }
        self.visit_generics(&item.generics);
        self.visit_type(&item.self_ty);
        if let Some(of) = of {
            self.visit_path(of);
        }
        let shows = |visibility| of.is_some() || is_public(visibility);
        for item in &item.items {
            match item {
                ImplItem::Fn(item) if shows(&item.vis) => self.visit_signature(&item.sig),
                ImplItem::Const(item) if shows(&item.vis) => self.visit_type(&item.ty),
                ImplItem::Type(item) => self.visit_impl_item_type(item),
                ImplItem::Macro(item) => self.visit_macro(&item.mac),
                _ => {}
            }
        }
    }
}

/// Whether somebody else can use a macro, or it has words that items have.
fn makes_items(item: &ItemMacro) -> bool {
    let mut attributes = item.attrs.iter();
    let is_exported = attributes.any(|one| one.path().is_ident("macro_export"));
    let words = paths_in_macro(&item.mac);
    is_exported
        || ["impl", "pub"]
            .iter()
            .any(|word| words.contains(&vec![(*word).to_owned()]))
}

impl<'ast> Visit<'ast> for Shown<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.path(&segments(path));
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast Macro) {
        for path in paths_in_macro(item) {
            // A name alone may be a variable, unless it is brought in.
            let found = self.tree.resolve(&self.module.path, &path).into_iter();
            self.paths.extend(found.filter(|path| path.len() > 1));
        }
    }

    // How it is done is not shown.
    fn visit_attribute(&mut self, _: &'ast Attribute) {}
    fn visit_block(&mut self, _: &'ast Block) {}
    fn visit_expr(&mut self, _: &'ast Expr) {}
}

/// `pub` and hidden is private by agreement: a member crate would have to be told of it.
pub(crate) fn hides(file: &syn::File) -> bool {
    struct Hides(bool);
    impl<'ast> Visit<'ast> for Hides {
        fn visit_attribute(&mut self, attribute: &'ast Attribute) {
            if let syn::Meta::List(list) = &attribute.meta {
                let words = list.tokens.to_string();
                let mut words = words.split(|one: char| !one.is_alphanumeric());
                let is_doc = ["doc", "cfg_attr"]
                    .iter()
                    .any(|one| list.path.is_ident(one));
                self.0 |= is_doc && words.any(|word| word == "hidden");
            }
        }
    }
    let mut hides = Hides(false);
    hides.visit_file(file);
    hides.0
}

/// Whether a file takes in another one by its place: it would bring its private items.
pub(crate) fn borrows(file: &syn::File) -> bool {
    struct Borrows(bool);
    impl<'ast> Visit<'ast> for Borrows {
        fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
            for attribute in &item.attrs {
                let words = match &attribute.meta {
                    syn::Meta::List(list) => list.tokens.to_string(),
                    meta => segments(meta.path()).concat(),
                };
                let mut words = words.split(|one: char| !one.is_alphanumeric());
                self.0 |= words.any(|word| word == "path");
            }
            visit::visit_item_mod(self, item);
        }
        fn visit_macro(&mut self, item: &'ast Macro) {
            let last = item.path.segments.last();
            self.0 |= last.is_some_and(|last| last.ident == "include");
        }
    }
    let mut borrows = Borrows(false);
    borrows.visit_file(file);
    borrows.0
}

/// Whether a file of tests takes in a file of somebody's `src`: it would test private items, and fix them.
pub(crate) fn takes_source(file: &syn::File) -> bool {
    struct Takes(bool);
    impl Takes {
        fn text(&mut self, text: &str) {
            self.0 |= text.split(['/', '\\', '"']).any(|part| part == "src");
        }
    }
    impl<'ast> Visit<'ast> for Takes {
        fn visit_attribute(&mut self, attribute: &'ast Attribute) {
            match &attribute.meta {
                syn::Meta::List(list) if list.path.is_ident("cfg_attr") => {
                    self.text(&list.tokens.to_string());
                }
                syn::Meta::NameValue(value) if value.path.is_ident("path") => {
                    if let Expr::Lit(literal) = &value.value
                        && let syn::Lit::Str(text) = &literal.lit
                    {
                        self.text(&text.value());
                    }
                }
                _ => {}
            }
        }
        fn visit_macro(&mut self, item: &'ast Macro) {
            let last = item.path.segments.last();
            if last.is_some_and(|last| last.ident == "include") {
                self.text(&item.tokens.to_string());
            }
        }
    }
    let mut takes = Takes(false);
    takes.visit_file(file);
    takes.0
}

mod finds {
    use super::{Tree, borrows, hides, shown, takes_source};

    fn found(code: &str) -> Vec<String> {
        let drivers = ["moka", "tracing"].map(str::to_owned).into();
        shown(&Tree::of(code), &drivers).into_iter().collect()
    }

    #[test]
    fn every_way_to_show_a_driver() {
        for code in [
            // Re-exported.
            "pub use moka;",
            "pub use moka::Cache;",
            "pub use moka::{sync::{Cache as C}};",
            "pub use moka::sync::*;",
            "use moka as m; pub use m::Cache;",
            "pub extern crate moka;",
            "extern crate moka as m; pub fn f(_: m::Cache) {}",
            // In signatures.
            "pub fn f(_: &mut Vec<moka::Cache>) {}",
            "pub fn f() -> Option<moka::Cache> { None }",
            "pub fn f(_: impl Fn(moka::Cache)) {}",
            "pub fn f() -> impl moka::Policy { }",
            "pub fn f(_: &dyn moka::Policy) {}",
            "pub fn f<T: moka::Policy>(_: T) {}",
            "pub fn f<T>(_: T) where Vec<T>: moka::Policy {}",
            "pub fn f(_: <moka::Cache as Iterator>::Item) {}",
            "pub const A: Option<moka::Cache> = None;",
            "pub static A: Option<moka::Cache> = None;",
            "pub type A = moka::Cache;",
            "pub type A<T: moka::Policy> = Vec<T>;",
            // In types and traits.
            "pub struct A { pub a: moka::Cache }",
            "pub struct A(u8, pub moka::Cache);",
            "pub struct A<T: moka::Policy>(T);",
            "pub struct A<T = moka::Cache>(T);",
            "pub enum A { B(moka::Cache) }",
            "pub enum A<T> where T: moka::Policy { B(T) }",
            "pub union A { pub a: moka::Cache }",
            "#[derive(Clone, moka::Evict)] pub struct A;",
            "use moka::Evict; #[derive(Evict)] pub enum A {}",
            "pub trait A: moka::Policy {}",
            "pub trait A<T: moka::Policy> {}",
            "pub trait A where Self: moka::Policy {}",
            "pub trait A { type B: moka::Policy; }",
            "pub trait A { type B<T: moka::Policy>; }",
            "pub trait A { const B: moka::Cache; }",
            "pub trait A { fn f(&self, _: moka::Cache); }",
            "pub trait A { fn f() -> moka::Cache { todo!() } }",
            // By what is implemented.
            "pub struct A; impl moka::Policy for A {}",
            "pub struct A; impl From<moka::Error> for A {}",
            "pub struct A; impl Iterator for A { type Item = moka::Cache; }",
            "pub struct A; impl Iterator for &A { type Item = moka::Cache; }",
            "pub struct A; impl B for A { const C: moka::Cache = 1; }",
            "pub struct A; impl A { pub fn f(_: moka::Cache) {} }",
            "pub struct A; impl A { pub const C: Option<moka::Cache> = None; }",
            "pub struct A<T>(T); impl<T: moka::Policy> A<T> {}",
            "pub struct A<T>(T); impl<T> Clone for A<T> where T: moka::Policy {}",
            "pub struct A<T>(T); impl A<moka::Cache> {}",
            "pub trait A {} impl A for moka::Cache {}",
            "pub trait A {} impl<T: moka::Policy> A for T {}",
            // Through other names and modules.
            "use moka::Cache; pub fn f(_: Cache) {}",
            "use ::moka::sync as s; pub fn f(_: s::Cache) {}",
            "type C = moka::Cache; pub fn f(_: C) {}",
            "mod a { pub(crate) type C = Vec<moka::Cache>; } pub fn f(_: a::C) {}",
            "mod a { pub(crate) use moka::Cache; } use a::*; pub fn f(_: Cache) {}",
            "type B = A; pub struct A; impl From<moka::Error> for B {}",
            "mod a { mod b { pub use moka::Cache; } }",
            "use moka::Cache; pub mod a { use super::Cache as C; pub fn f(_: C) {} }",
            "pub mod a { pub mod b { pub fn f(_: moka::Cache) {} } }",
            "#[cfg(not(test))] pub mod a { pub fn f(_: moka::Cache) {} }",
            "mod a { pub struct A; } impl From<moka::Error> for a::A {}",
            "use moka::sync::*; pub fn f(_: Cache) {}",
            "#[macro_export] macro_rules! m { () => { moka::Cache } }",
            "macro_rules! m { ($a:ty) => { impl From<moka::Error> for $a {} } }",
            "macro_rules! m { () => { pub fn f(_: moka::Cache) {} } }",
            "make! { pub struct A(moka::Cache); }",
            "use moka::Cache; from!(Cache);",
        ] {
            let found = found(code);
            assert!(
                found.iter().any(|one| one.contains("`moka")),
                "{code}: {found:?}"
            );
        }
    }

    #[test]
    fn nothing_where_a_driver_is_not_shown() {
        for code in [
            "use moka::Cache; pub struct A { a: Cache } impl A { fn f(_: Cache) {} pub fn g() { Cache::new(); } }",
            "pub(crate) use moka::Cache; pub(crate) fn f(_: Cache) {}",
            "struct A; impl From<moka::Error> for A {} impl A { pub fn f(_: moka::Cache) {} }",
            "mod a { pub(crate) struct A; } impl From<moka::Error> for a::A {}",
            "trait A {} impl A for moka::Cache {}",
            "pub trait A { fn f() { moka::Cache::new(); } }",
            "pub const A: usize = moka::SIZE;",
            "#[tracing::instrument] pub fn f() { tracing::info!(\"\"); }",
            "macro_rules! tell { () => { tracing::info!() } }",
            "#[cfg(test)] mod tests { pub use moka::Cache; }",
            "mod moka { pub struct Cache; } pub use moka::Cache;",
        ] {
            assert_eq!(found(code), [""; 0], "{code}");
        }
    }

    #[test]
    fn what_is_hidden() {
        let hides = |code: &str| hides(&syn::parse_file(code).unwrap());
        for code in [
            "#[doc(hidden)] pub fn f() {}",
            "#[doc(inline, hidden)] pub use a::B;",
            "#![doc(hidden)]",
            "#[cfg_attr(unix, doc(hidden))] pub fn f() {}",
            "pub struct A { #[doc( hidden )] pub a: u8 }",
            "impl A { #[doc(hidden)] pub fn f() {} }",
        ] {
            assert!(hides(code), "{code}");
        }
        assert!(!hides(
            "/// A `doc(hidden)` item.\n#[doc(inline)] pub use a::hidden;"
        ));
    }

    #[test]
    fn source_that_tests_take_in() {
        let takes = |code: &str| takes_source(&syn::parse_file(code).unwrap());
        for code in [
            "#[path = \"../../../src/retry/budget.rs\"] mod budget;",
            "#[path = \"../src/writer.rs\"] mod writer;",
            "#[path = r\"..\\..\\src\\a.rs\"] mod a;",
            "mod b { #[path = \"../../other/src/a.rs\"] mod a; }",
            "fn f() { #[path = \"../src/a.rs\"] mod a; }",
            "#[cfg_attr(unix, path = \"../src/a.rs\")] mod a;",
            "include!(\"../src/a.rs\");",
            "include!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/src/a.rs\"));",
        ] {
            assert!(takes(code), "{code}");
        }
        for code in [
            "#[path = \"../../../tests/support/child.rs\"] mod child;",
            "/// Of `src/a.rs`.\nmod src; const A: &str = include_str!(\"../src/a.sql\");",
        ] {
            assert!(!takes(code), "{code}");
        }
    }

    #[test]
    fn what_is_borrowed() {
        let borrows = |code: &str| borrows(&syn::parse_file(code).unwrap());
        for code in [
            "#[path = \"../a.rs\"] mod a;",
            "#[cfg_attr(unix, path = \"a.rs\")] mod a;",
            "mod b { #[path=\"a.rs\"] mod a; }",
            "include!(\"a.rs\");",
            "fn f() { std::include!(\"a.rs\") }",
        ] {
            assert!(borrows(code), "{code}");
        }
        assert!(!borrows(
            "#[cfg(unix)] mod path; const A: &str = include_str!(\"a.sql\");"
        ));
    }
}
