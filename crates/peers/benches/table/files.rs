//! Where the table is kept.

use crate::{plot, report::Table};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const BEGIN: &str = "<!-- table -->\n";
const END: &str = "<!-- end of table -->\n";

pub struct Files {
    data: PathBuf,
    plot: PathBuf,
    page: PathBuf,
}

impl Files {
    pub fn of_project() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self {
            data: here.join("table.csv"),
            plot: here.join("table.svg"),
            page: here.join("../../benches/README.md"),
        }
    }

    pub fn table(&self) -> Table {
        Table::of_data(&fs::read_to_string(&self.data).unwrap())
    }

    pub fn write(&self, table: &Table) {
        fs::write(&self.data, table.data()).unwrap();
        // From the data as it is kept, so that it can be drawn again.
        self.draw(&self.table());
    }

    pub fn draw(&self, table: &Table) {
        fs::write(&self.plot, plot::draw(table)).unwrap();
        fs::write(&self.page, self.page_with(table)).unwrap();
    }

    /// Whether plot and page are those of the data.
    #[allow(dead_code, reason = "a test uses it")]
    pub fn agree(&self) -> bool {
        let table = self.table();
        let is = |file, text: String| fs::read_to_string(file).unwrap() == text;
        is(&self.plot, plot::draw(&table)) && is(&self.page, self.page_with(&table))
    }

    fn page_with(&self, table: &Table) -> String {
        let page = fs::read_to_string(&self.page).unwrap();
        let (head, rest) = page.split_once(BEGIN).unwrap();
        let (_, tail) = rest.split_once(END).unwrap();
        format!("{head}{BEGIN}{}{END}{tail}", table.markdown())
    }
}

/// When and on what this runs.
pub fn run_of(before: Option<&str>) -> String {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        let output = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        output.unwrap_or_else(|_| "unknown".to_owned())
    };
    let date = said("date", &["-u", "+%F"]);
    let rustc = said("rustc", &["--version"]);
    let rustc = rustc.split(" (").next().unwrap().to_owned();
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(": "));
    let model = model.map_or(std::env::consts::ARCH, |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let sha = if has_sha() { "with" } else { "without" };
    let before = before.map_or_else(String::new, |revision| format!("; before: {revision}"));
    format!("{date}, {model}, {cores} cores, {sha} SHA instructions, {rustc}{before}")
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_sha() -> bool {
    std::arch::is_x86_feature_detected!("sha")
}

#[cfg(target_arch = "aarch64")]
fn has_sha() -> bool {
    std::arch::is_aarch64_feature_detected!("sha2")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn has_sha() -> bool {
    false
}
