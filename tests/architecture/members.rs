//! Which package of the workspace needs which, as cargo understands the manifests.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

/// What every member may need.
const LIBRARY: &str = "tower-webhook";
/// Composes the other members.
const GATEWAY: &str = "tower-webhook-gateway";
/// Measures them.
const BENCHES: &str = "tower-webhook-benches";

/// What the library needs, each with its reason. A driver of a database or a broker belongs into a crate of its own.
const NEEDED: &[(&str, &str)] = &[
    (
        "aws_lc_rs",
        "HMAC where the processor has no SHA extensions",
    ),
    (
        "axum",
        "the URI that the caller of a nested router requested, and its `Json`",
    ),
    ("axum_core", "extractors"),
    ("bytes", "bodies"),
    ("data_encoding", "base64 and hex of signatures and ids"),
    ("ed25519_dalek", "signatures of Standard Webhooks `v1a`"),
    ("fastrand", "jitter"),
    ("getrandom", "ids that nobody can guess"),
    ("h2", "the meaning of its errors"),
    ("hmac", "signatures"),
    ("http", "requests and responses"),
    ("http_body", "bodies"),
    ("httpdate", "a `Retry-After` with a date"),
    ("hyper", "the meaning of its errors"),
    ("hyper_util", "the meaning of its errors"),
    ("jiff", "timestamps of RFC 3339"),
    ("metrics", "the facade"),
    ("moka", "the store in memory"),
    ("p256", "signatures of SendGrid"),
    ("pin_project", "futures and bodies without `unsafe`"),
    ("reqwest", "the meaning of its errors"),
    ("serde", "records and events"),
    ("serde_json", "records and events"),
    ("serde_json_canonicalizer", "fingerprints of RFC 8785"),
    (
        "serde_path_to_error",
        "the field that makes an event invalid",
    ),
    ("sfv", "the structured fields of RFC 9421"),
    ("sha1", "signatures of senders that have nothing better"),
    ("sha2", "signatures and fingerprints"),
    ("subtle", "comparisons in constant time"),
    ("tokio", "timers, locks, tasks"),
    ("tonic", "the body that a channel takes"),
    ("tower", "the meaning of its errors"),
    ("tower_layer", "the trait"),
    ("tower_service", "the trait"),
    ("tracing", "the observer that is always present"),
    ("zeroize", "secrets"),
];

#[derive(serde::Deserialize)]
pub(crate) struct Workspace {
    pub(crate) packages: Vec<Package>,
}

#[derive(serde::Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
    /// The registries that it may go to; none in the list where it is not published.
    publish: Option<Vec<String>>,
}

/// In whichever table it stands: for tests, for a build, for one platform, under another name.
#[derive(serde::Deserialize)]
struct Dependency {
    name: String,
    rename: Option<String>,
    /// Nothing for what the code itself needs.
    kind: Option<String>,
}

#[derive(serde::Deserialize)]
struct Target {
    src_path: PathBuf,
}

impl Workspace {
    pub(crate) fn read(folder: &Path) -> Self {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
            .current_dir(folder)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(crate) fn library(&self) -> &Package {
        let mut packages = self.packages.iter();
        packages.find(|package| package.name == LIBRARY).unwrap()
    }

    /// Dependencies of the library that the list does not have, and entries of the list that it does without.
    pub(crate) fn unlisted(&self) -> BTreeSet<String> {
        let needed = self.library().dependencies();
        let listed: BTreeSet<_> = NEEDED.iter().map(|(name, _)| (*name).to_owned()).collect();
        let new = needed.difference(&listed);
        let new =
            new.map(|name| format!("`{name}`: say in this test what the library needs it for"));
        let gone = listed.difference(&needed);
        let gone =
            gone.map(|name| format!("the library does without `{name}`: take it off the list"));
        new.chain(gone).collect()
    }

    /// Members that need another one, and the library that needs any.
    pub(crate) fn wrong(&self) -> BTreeSet<String> {
        let mut wrong = BTreeSet::new();
        for package in &self.packages {
            for dependency in &package.dependencies {
                let mut members = self.packages.iter();
                let Some(needed) = members.find(|one| one.name == dependency.name) else {
                    continue;
                };
                let may = match package.name.as_str() {
                    // `publish = false` keeps it out of what is shipped.
                    GATEWAY | BENCHES => needed.publish.is_none(),
                    LIBRARY => false,
                    _ => needed.name == LIBRARY,
                };
                if !may {
                    wrong.insert(format!(
                        "{}: `{}`: a member knows the library alone, and the library no member",
                        package.manifest_path.display(),
                        needed.name
                    ));
                }
            }
            for target in &package.targets {
                // A file of somebody else's would bring its private items.
                let inside = target.src_path.strip_prefix(package.folder());
                if inside.is_ok_and(|path| path.iter().all(|part| part != "..")) {
                    continue;
                }
                let (of, path) = (&package.name, target.src_path.display());
                wrong.insert(format!("{of}: `{path}` is outside of its folder"));
            }
        }
        wrong
    }
}

impl Package {
    /// Whether it is a library that is published: not the gateway, which is a program.
    pub(crate) fn is_library(&self) -> bool {
        self.publish.is_none() && self.name != GATEWAY
    }

    pub(crate) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap()
    }

    /// What its code needs, by the names that code has for it.
    pub(crate) fn dependencies(&self) -> BTreeSet<String> {
        let needed = self.dependencies.iter().filter(|one| one.kind.is_none());
        needed
            .map(|one| one.rename.as_ref().unwrap_or(&one.name).replace('-', "_"))
            .collect()
    }
}

mod finds {
    use super::{GATEWAY, LIBRARY, Workspace};
    use std::{collections::BTreeSet, fs};

    /// A workspace of the library, two members and the gateway, each with these lines in its manifest.
    fn workspace(library: &str, member: &str, gateway: &str) -> Workspace {
        let root = tempfile::tempdir().unwrap();
        let package = |name: &str, folder: &str, more: &str| {
            let folder = root.path().join(folder);
            fs::create_dir_all(folder.join("src")).unwrap();
            fs::write(folder.join("src/lib.rs"), "").unwrap();
            let manifest = format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\n{more}\n");
            fs::write(folder.join("Cargo.toml"), manifest).unwrap();
        };
        let members = "[workspace]\nmembers = [\"crates/*\"]\n[workspace.dependencies]\nother = { path = \"crates/other\" }";
        package(LIBRARY, "", &format!("{library}\n{members}"));
        package("member", "crates/member", member);
        package("other", "crates/other", "");
        package("peers", "crates/peers", "publish = false");
        package(GATEWAY, "crates/gateway", gateway);
        Workspace::read(root.path())
    }

    #[test]
    fn a_member_that_needs_another() {
        for lines in [
            "[dependencies]\nother = { path = \"../other\" }",
            "[dependencies.other]\npath = \"../other\"",
            "[dependencies]\nother.workspace = true",
            "[dependencies]\nstores = { package = \"other\", path = \"../other\" }",
            "[dependencies]\nother = { path = \"../other\", optional = true }",
            "[dev-dependencies]\nother = { path = \"../other\" }",
            "[build-dependencies]\nother = { path = \"../other\" }",
            "[target.'cfg(unix)'.dependencies]\nother = { path = \"../other\" }",
            "[target.'cfg(windows)'.dev-dependencies]\nstores = { package = \"other\", path = \"../other\" }",
        ] {
            let found = workspace("", lines, "").wrong();
            let named = |one: &String| one.contains("crates/member/") && one.contains("`other`");
            assert!(
                found.len() == 1 && found.iter().any(named),
                "{lines}: {found:?}"
            );
        }
    }

    #[test]
    fn a_member_that_is_of_somebody_elses_file() {
        let found = workspace("", "[lib]\npath = \"../other/src/lib.rs\"", "").wrong();
        assert!(
            found.len() == 1 && found.iter().any(|one| one.starts_with("member: ")),
            "{found:?}"
        );
    }

    #[test]
    fn the_library_and_the_gateway() {
        let library = "[dev-dependencies]\nother = { path = \"crates/other\" }";
        assert_eq!(workspace(library, "", "").wrong().len(), 1);
        let of_library = "[dependencies]\ntower-webhook = { path = \"../..\" }";
        let of_other = "[dependencies]\nother = { path = \"../other\" }";
        assert_eq!(workspace("", of_library, of_other).wrong(), BTreeSet::new());
        let of_peers = "[dev-dependencies]\npeers = { path = \"../peers\" }";
        assert_eq!(workspace("", "", of_peers).wrong().len(), 1);
    }

    #[test]
    fn a_dependency_that_is_not_listed() {
        let wrong = |lines: &str| workspace(lines, "", "").unlisted();
        for lines in [
            "[dependencies]\nrusqlite = \"0.40\"",
            "[dependencies]\nrusqlite = { version = \"0.40\", optional = true }",
            "[target.'cfg(unix)'.dependencies]\nrusqlite = \"0.40\"",
        ] {
            let found = wrong(lines);
            let is_new = |one: &String| one.starts_with("`rusqlite`: ");
            assert!(found.iter().any(is_new), "{lines}: {found:?}");
        }
        let found = wrong("[dev-dependencies]\nrusqlite = \"0.40\"\n[dependencies]\nbytes = \"1\"");
        let of = |name: &str| found.iter().any(|one| one.contains(&format!("`{name}`")));
        assert!(of("moka") && !of("bytes") && !of("rusqlite"), "{found:?}");
    }

    #[test]
    fn what_code_needs_is_found_in_every_table() {
        let lines = "[dependencies]\na-b = \"1\"\n[dependencies.c]\nversion = \"1\"\n\
            [target.'cfg(unix)'.dependencies]\nd = { package = \"moka\", version = \"1\" }\n\
            [dev-dependencies]\ne = \"1\"";
        let found = workspace(lines, "", "").library().dependencies();
        assert_eq!(found, ["a_b", "c", "d"].map(str::to_owned).into());
    }
}
