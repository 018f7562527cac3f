//! What was measured, as text.

use crate::{
    measure::{Kind, Row},
    rows::ROWS,
};
use std::fmt::Write as _;

/// What was measured of one variant.
pub struct Line {
    pub row: String,
    pub variant: String,
    pub kind: Kind,
    pub least: f64,
    pub median: f64,
}

pub struct Table {
    pub lines: Vec<Line>,
}

impl Table {
    pub fn of(rows: &[Row]) -> Self {
        let mut lines = Vec::new();
        for row in rows {
            for variant in &row.variants {
                let mut nanos = variant.nanos.clone();
                nanos.sort_by(f64::total_cmp);
                lines.push(Line {
                    row: row.name.to_owned(),
                    variant: variant.name.to_owned(),
                    kind: variant.kind,
                    least: nanos[0],
                    median: nanos[nanos.len() / 2],
                });
            }
        }
        Self { lines }
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, title, _) in ROWS {
            let mut bare = None;
            for line in self.lines.iter().filter(|line| line.row == *name) {
                if bare.is_none() {
                    let heading = format!("{name}: {title}");
                    writeln!(text, "\n{heading:56} {:>8} {:>8}", "least", "median").unwrap();
                }
                let (least, median) = (line.least, line.median);
                write!(text, "  {:54} {least:8.1} {median:8.1}", line.variant).unwrap();
                match (line.kind, bare) {
                    (Kind::Bare, _) | (_, None) => bare = Some(line),
                    (_, Some(bare)) => {
                        let (least, median) = (least - bare.least, median - bare.median);
                        write!(text, " {least:+8.1} {median:+8.1}").unwrap();
                    }
                }
                text.push('\n');
            }
        }
        text
    }
}
