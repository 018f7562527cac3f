//! Packages of strangers: fresh ones that depend on this crate, and are built as theirs are.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A package whose manifest has these parts beside its name. `tower-webhook` and its members are taken from here.
pub struct Package {
    pub folder: PathBuf,
    target: PathBuf,
}

impl Package {
    pub fn new(name: &str, manifest: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let tests = env::current_exe().expect("a test knows where it is");
        let mut folders = tests.ancestors();
        let target = folders.nth(3).expect("target/<profile>/deps/test");
        let folder = target.join("packages").join(name);
        fs::create_dir_all(folder.join("src")).expect("the target folder is writable");
        let manifest = format!(
            "[package]\nname = \"{name}\"\nedition = \"2024\"\n\n{manifest}\n\n[workspace]\n\n\
             [lints.rust]\nwarnings = \"deny\"\n\n\
             [profile.dev]\ndebug = \"line-tables-only\"\n\n\
             [patch.crates-io]\n\
             tower-webhook = {{ path = '{}' }}\n\
             tower-webhook-sqlite = {{ path = '{}' }}\n",
            root.display(),
            root.join("crates/tower-webhook-sqlite").display(),
        );
        fs::write(folder.join("Cargo.toml"), manifest).expect("it is writable");
        // The versions that everything else is tested with.
        fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).expect("it is there");
        Self {
            folder,
            target: target.to_owned(),
        }
    }

    /// Runs cargo in it.
    pub fn cargo(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO"))
            .args(args)
            .current_dir(&self.folder)
            // What the workspace has built with the same profile and features is not built again.
            .env("CARGO_TARGET_DIR", &self.target)
            .output()
            .expect("cargo starts")
    }

    /// The program that it was built into.
    pub fn program(&self) -> PathBuf {
        let name = self.folder.file_name().expect("its name");
        self.target.join("debug").join(name)
    }
}
