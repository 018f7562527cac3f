//! The modules of a crate, and what the names in them stand for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};
use syn::{
    Attribute, Item, ItemMod, Macro, Meta, Type, UseTree, Visibility,
    buffer::{Cursor, TokenBuffer},
    visit::{self, Visit},
};

/// The segments of a path as it is written. `::http::Request` begins with an empty one.
///
/// Resolved, it begins with the name of a crate, and with `crate` where that is this one.
pub(crate) type Segments = Vec<String>;

/// Aliases that lead round in a circle end here.
const LONGEST: usize = 16;

/// A crate without what only its tests see.
#[derive(Default)]
pub(crate) struct Tree {
    /// Under one path there are several modules where a feature chooses among them.
    modules: BTreeMap<Segments, Vec<Module>>,
}

/// A module, in a file of its own or inline.
pub(crate) struct Module {
    /// From the root of the crate on: `retry`, `http`.
    pub(crate) path: Segments,
    pub(crate) file: PathBuf,
    /// All but the modules in it.
    pub(crate) items: Vec<Item>,
    /// What a name stands for that is defined elsewhere: by `use`, `extern crate` and `type`.
    names: BTreeMap<String, BTreeSet<Segments>>,
    /// What is defined here, and whether it is public. Aliases are not: they lead to what is.
    own: BTreeMap<String, bool>,
    globs: BTreeSet<Segments>,
}

impl Tree {
    /// The crate whose root is this file.
    pub(crate) fn load(root: &Path) -> Self {
        let mut tree = Self::default();
        let folder = root.parent().unwrap();
        tree.add(Vec::new(), root, folder, parse(root).items);
        tree
    }

    /// A crate that is written in one text, its modules inline.
    pub(crate) fn of(text: &str) -> Self {
        let mut tree = Self::default();
        let items = syn::parse_file(text).unwrap().items;
        tree.add(Vec::new(), Path::new("text"), Path::new(""), items);
        tree
    }

    fn add(&mut self, path: Segments, file: &Path, folder: &Path, items: Vec<Item>) {
        let seen = items.into_iter().filter(|item| !is_test(attributes(item)));
        let (modules, items): (Vec<_>, Vec<_>) =
            seen.partition(|item| matches!(item, Item::Mod(_)));
        let mut children = BTreeSet::new();
        for item in modules {
            let Item::Mod(ItemMod {
                attrs,
                ident,
                content,
                ..
            }) = item
            else {
                continue;
            };
            let name = ident.to_string();
            children.insert(name.clone());
            let moved = attrs.iter().any(|one| one.path().is_ident("path"));
            assert!(!moved, "{}: `{name}` has a path", file.display());
            let inner = [&path[..], std::slice::from_ref(&name)].concat();
            let inner_folder = folder.join(&name);
            if let Some((_, items)) = content {
                self.add(inner, file, &inner_folder, items);
            } else {
                let beside = folder.join(format!("{name}.rs"));
                let inside = inner_folder.join("mod.rs");
                let file = if beside.exists() { beside } else { inside };
                self.add(inner, &file, &inner_folder, parse(&file).items);
            }
        }
        let module = Module::new(path.clone(), file.to_owned(), items, &children);
        self.modules.entry(path).or_default().push(module);
    }

    pub(crate) fn modules(&self) -> impl Iterator<Item = &Module> {
        self.modules.values().flatten()
    }

    fn at(&self, path: &[String]) -> &[Module] {
        self.modules.get(path).map_or(&[], Vec::as_slice)
    }

    fn defines(&self, module: &[String], name: &str) -> bool {
        self.modules
            .contains_key(&[module, &[name.to_owned()]].concat())
            || self
                .at(module)
                .iter()
                .any(|module| module.names.contains_key(name) || module.own.contains_key(name))
    }

    /// A path from the root of this crate or of another on, where no glob has to be asked.
    fn anchored(&self, from: &[String], path: &[String]) -> Option<Segments> {
        let here = |base: &[String], rest: &[String]| {
            let root = ["crate".to_owned()];
            [&root[..], base, rest].concat()
        };
        match path.first()?.as_str() {
            "" => Some(path[1..].to_vec()),
            "crate" => Some(path.to_vec()),
            "self" => Some(here(from, &path[1..])),
            "super" => {
                let ups = path.iter().take_while(|one| *one == "super").count();
                let base = from.len().checked_sub(ups)?;
                Some(here(&from[..base], &path[ups..]))
            }
            name if self.defines(from, name) => Some(here(from, path)),
            _ => None,
        }
    }

    /// What a path in the module `from` may stand for: each step on the way through re-exports and aliases.
    pub(crate) fn resolve(&self, from: &[String], path: &[String]) -> BTreeSet<Segments> {
        let mut found = BTreeSet::new();
        let mut open = self.absolute(from, path);
        while let Some(path) = open.pop() {
            if path.first().is_none_or(|one| one != "crate") {
                found.insert(path);
                continue;
            }
            if path.len() > LONGEST || !found.insert(path.clone()) {
                continue;
            }
            for end in 1..path.len() {
                open.extend(self.step(&path[1..end], &path[end..]));
            }
        }
        found
    }

    /// Where the names of a module lead, for what `rest` names in it.
    fn step(&self, path: &[String], rest: &[String]) -> Vec<Segments> {
        let name = &rest[0];
        let is_module = self.modules.contains_key(&[path, &rest[..1]].concat());
        let mut found = Vec::new();
        for module in self.at(path) {
            if !self.defines(path, name) {
                found.extend(self.through_globs(module, rest));
            }
            // An import beside a module of its name is no module.
            let names = module
                .names
                .get(name)
                .filter(|_| !is_module || rest.len() == 1);
            for target in names.into_iter().flatten() {
                let targets = self.absolute(path, target).into_iter();
                found.extend(targets.map(|target| [&target[..], &rest[1..]].concat()));
            }
        }
        found
    }

    fn absolute(&self, from: &[String], path: &[String]) -> Vec<Segments> {
        if let Some(path) = self.anchored(from, path) {
            return vec![path];
        }
        let by_glob: Vec<_> = self
            .at(from)
            .iter()
            .flat_map(|module| self.through_globs(module, path))
            .collect();
        // What nobody here defines is another crate, or a name of the language.
        if by_glob.is_empty() {
            vec![path.to_vec()]
        } else {
            by_glob
        }
    }

    fn through_globs(&self, module: &Module, path: &[String]) -> Vec<Segments> {
        let targets = module.globs.iter();
        let targets = targets.filter_map(|glob| self.anchored(&module.path, glob));
        targets
            .filter(|target| target[0] == "crate" && self.defines(&target[1..], &path[0]))
            .map(|target| [&target[..], path].concat())
            .collect()
    }

    /// Whether a path stands for an item of this crate that is not public.
    pub(crate) fn is_private(&self, from: &[String], path: &[String]) -> bool {
        self.resolve(from, path).iter().any(|path| {
            let Some((name, module)) = path.split_last() else {
                return false;
            };
            let modules = module.split_first().filter(|(first, _)| *first == "crate");
            modules.is_some_and(|(_, module)| {
                let modules = self.at(module).iter();
                modules
                    .filter_map(|module| module.own.get(name))
                    .any(|public| !public)
            })
        })
    }
}

impl Module {
    fn new(path: Segments, file: PathBuf, items: Vec<Item>, children: &BTreeSet<String>) -> Self {
        let mut module = Self {
            path,
            file,
            items: Vec::new(),
            names: BTreeMap::new(),
            own: BTreeMap::new(),
            globs: BTreeSet::new(),
        };
        for item in &items {
            module.note(item, children);
        }
        module.items = items;
        module
    }

    fn note(&mut self, item: &Item, children: &BTreeSet<String>) {
        let (name, public) = match item {
            Item::Use(item) => {
                for leaf in leaves(item) {
                    match leaf.name {
                        Some(name) => self.stands_for(name, leaf.path, children),
                        None => {
                            self.globs.insert(leaf.path);
                        }
                    }
                }
                return;
            }
            Item::ExternCrate(item) => {
                let name = item.rename.as_ref().map_or(&item.ident, |(_, name)| name);
                let path = vec![String::new(), item.ident.to_string()];
                self.stands_for(name.to_string(), path, children);
                return;
            }
            Item::Type(item) => {
                for path in paths_of(|paths| paths.visit_type(&item.ty)) {
                    self.stands_for(item.ident.to_string(), path, children);
                }
                return;
            }
            Item::Struct(item) => (&item.ident, &item.vis),
            Item::Enum(item) => (&item.ident, &item.vis),
            Item::Union(item) => (&item.ident, &item.vis),
            Item::Trait(item) => (&item.ident, &item.vis),
            Item::Fn(item) => (&item.sig.ident, &item.vis),
            Item::Const(item) => (&item.ident, &item.vis),
            Item::Static(item) => (&item.ident, &item.vis),
            _ => return,
        };
        let public = is_public(public) || self.own.get(&name.to_string()) == Some(&true);
        self.own.insert(name.to_string(), public);
    }

    fn stands_for(&mut self, name: String, mut path: Segments, children: &BTreeSet<String>) {
        // `use http;` does not mean itself.
        if path[0] == name && !children.contains(&name) {
            path.insert(0, String::new());
        }
        self.names.entry(name).or_default().insert(path);
    }

    /// All paths that its code names, of `use` items and inside macros too.
    pub(crate) fn paths(&self) -> BTreeSet<Segments> {
        paths_of(|paths| {
            for item in &self.items {
                paths.visit_item(item);
            }
        })
    }
}

/// One name that a `use` item brings in; none for `*`.
pub(crate) struct Leaf {
    pub(crate) path: Segments,
    name: Option<String>,
}

impl Leaf {
    pub(crate) const fn is_glob(&self) -> bool {
        self.name.is_none()
    }
}

pub(crate) fn leaves(item: &syn::ItemUse) -> Vec<Leaf> {
    fn walk(before: &[String], tree: &UseTree, found: &mut Vec<Leaf>) {
        let with = |name: &syn::Ident| {
            let mut path = before.to_vec();
            // `use a::{self}` is `use a`.
            if name != "self" || before.is_empty() {
                path.push(name.to_string());
            }
            path
        };
        match tree {
            UseTree::Path(next) => walk(
                &[before, &[next.ident.to_string()]].concat(),
                &next.tree,
                found,
            ),
            UseTree::Name(name) => {
                let path = with(&name.ident);
                let name = path.last().cloned();
                found.push(Leaf { path, name });
            }
            UseTree::Rename(name) => found.push(Leaf {
                path: with(&name.ident),
                name: Some(name.rename.to_string()),
            }),
            UseTree::Glob(_) => found.push(Leaf {
                path: before.to_vec(),
                name: None,
            }),
            UseTree::Group(group) => {
                for tree in &group.items {
                    walk(before, tree, found);
                }
            }
        }
    }
    let mut found = Vec::new();
    let before = item.leading_colon.map(|_| String::new());
    walk(before.as_slice(), &item.tree, &mut found);
    found
}

pub(crate) fn segments(path: &syn::Path) -> Segments {
    let colon = path.leading_colon.map(|_| String::new());
    let segments = path.segments.iter().map(|one| one.ident.to_string());
    colon.into_iter().chain(segments).collect()
}

/// The paths in the tokens of a macro: names, with `::` between them.
pub(crate) fn paths_in_macro(item: &Macro) -> BTreeSet<Segments> {
    fn walk(mut cursor: Cursor<'_>, found: &mut BTreeSet<Segments>) {
        let mut path = Segments::new();
        // Whether the last was `::`.
        let mut joined = false;
        while !cursor.eof() {
            if let Some((ident, next)) = cursor.ident() {
                if !joined {
                    found.insert(std::mem::take(&mut path));
                }
                path.push(ident.to_string());
                (cursor, joined) = (next, false);
                continue;
            }
            let colons = cursor.punct().filter(|(punct, _)| punct.as_char() == ':');
            let colons = colons.and_then(|(_, next)| next.punct());
            if let Some((_, next)) = colons.filter(|(punct, _)| punct.as_char() == ':') {
                if path.is_empty() {
                    path.push(String::new());
                }
                (cursor, joined) = (next, true);
                continue;
            }
            found.insert(std::mem::take(&mut path));
            joined = false;
            if let Some((inner, _, _, next)) = cursor.any_group() {
                walk(inner, found);
                cursor = next;
            } else {
                cursor = cursor.token_tree().unwrap().1;
            }
        }
        found.insert(path);
    }
    let mut found = BTreeSet::new();
    let tokens = TokenBuffer::new2(item.tokens.clone());
    walk(tokens.begin(), &mut found);
    found.remove(&Segments::new());
    found
}

/// The paths of what `look` visits.
fn paths_of(look: impl FnOnce(&mut Paths)) -> BTreeSet<Segments> {
    let mut paths = Paths::default();
    look(&mut paths);
    paths.0
}

#[derive(Default)]
struct Paths(BTreeSet<Segments>);

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        for leaf in leaves(item) {
            // A name alone would pass for a variable.
            let end = if leaf.name.is_some() { "self" } else { "*" };
            let alone = leaf.name.is_none() || leaf.path.len() == 1;
            let end = alone.then(|| end.to_owned());
            self.0.insert(leaf.path.into_iter().chain(end).collect());
        }
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        let name = item.ident.to_string();
        self.0.insert(vec![String::new(), name, "self".to_owned()]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.insert(segments(path));
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast Macro) {
        self.0.extend(paths_in_macro(item));
        visit::visit_macro(self, item);
    }
}

pub(crate) const fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

pub(crate) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string();
            condition == "test" || condition.starts_with("all (test") || condition == "loom"
        }
        _ => false,
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// A type without the references around it, where it is a path.
pub(crate) fn named(of: &Type) -> Option<&syn::Path> {
    match of {
        Type::Path(path) if path.qself.is_none() => Some(&path.path),
        Type::Reference(to) => named(&to.elem),
        Type::Paren(inner) => named(&inner.elem),
        _ => None,
    }
}

pub(crate) fn parse(path: &Path) -> syn::File {
    let name = path.display();
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"));
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// All files of Rust in a folder.
pub(crate) fn sources(folder: &Path) -> Vec<PathBuf> {
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

mod finds {
    use super::{Segments, Tree};

    fn segments(path: &str) -> Segments {
        let segments = path.split("::").filter(|_| !path.is_empty());
        segments.map(str::to_owned).collect()
    }

    #[track_caller]
    fn leads(text: &str, from: &str, path: &str, to: &str) {
        let from = segments(from);
        let found = Tree::of(text).resolve(&from, &segments(path));
        assert!(found.contains(&segments(to)), "{found:?}");
    }

    #[test]
    fn where_a_name_leads() {
        leads("use moka::Cache;", "", "Cache", "moka::Cache");
        let text = "mod a { pub use moka::Cache as C; } mod b { use super::a::C; }";
        leads(text, "b", "C", "crate::a::C");
        leads(text, "b", "C", "moka::Cache");
        leads(text, "b", "self::C", "moka::Cache");
        let text = "mod a { pub use ::moka::{self as m, sync::*}; mod b { use super::*; } }";
        leads(text, "a::b", "m::Cache", "moka::Cache");
        let text = "mod a { use http; mod b { mod http {} } }";
        leads(text, "a", "http::Request", "http::Request");
        leads(text, "a::b", "http::Request", "crate::a::b::http::Request");
        leads(text, "a::b", "::http::Request", "http::Request");
        let text = "mod a { type Map = Vec<moka::Cache>; } mod b { use crate::a::*; }";
        leads(text, "b", "Map", "moka::Cache");
    }

    #[test]
    fn every_path_that_code_names() {
        let text = r"
            use a::{b as c, d::*}; use e; extern crate f;
            fn x(y: g::H) -> impl i::J where K: l::M { matches!(n::O, [p::Q(_)]); vec![::r::S] }
            #[cfg(test)] impl t::U {} #[cfg(test)] use v::W; fn z() { #[cfg(test)] use v::W; }
        ";
        let tree = Tree::of(text);
        let found: Vec<_> = tree.modules().flat_map(super::Module::paths).collect();
        let found: Vec<_> = found.iter().map(|path| path.join("::")).collect();
        for path in [
            "a::b",
            "a::d::*",
            "e::self",
            "::f::self",
            "g::H",
            "i::J",
            "l::M",
            "n::O",
            "p::Q",
            "::r::S",
        ] {
            assert!(found.iter().any(|one| one == path), "{path}: {found:?}");
        }
        assert!(
            !found
                .iter()
                .any(|path| path.contains("::U") || path.contains("::W")),
            "{found:?}"
        );
    }
}
