//! What was measured: kept between runs, told as text, as data and as the Markdown table.

use crate::{
    measure::{Kind, Row},
    rows::ROWS,
};
use std::{fmt::Write as _, path::Path};

/// The turns of one variant, in one build of the library.
struct Sample {
    row: String,
    variant: String,
    kind: Kind,
    /// Nanoseconds for a call, for each round.
    nanos: Vec<f64>,
}

/// What runs of one build measured.
#[derive(Default)]
pub struct Samples(Vec<Sample>);

impl Samples {
    pub fn of(rows: Vec<Row>) -> Self {
        let rows = rows.into_iter();
        let samples = rows.flat_map(|row| {
            let sample = move |(variant, kind, nanos)| Sample {
                row: row.name.to_owned(),
                variant,
                kind,
                nanos,
            };
            row.measured().map(sample)
        });
        Self(samples.collect())
    }

    /// One line for each variant, to be appended to those of other runs.
    pub fn lines(&self) -> String {
        let mut lines = String::new();
        for one in &self.0 {
            write!(lines, "{};{};{}", one.row, one.variant, one.kind.name()).unwrap();
            for nanos in &one.nanos {
                write!(lines, ";{nanos:.2}").unwrap();
            }
            lines.push('\n');
        }
        lines
    }

    /// All runs whose lines are in the file.
    pub fn read(file: &Path) -> Self {
        let mut samples = Self::default();
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let mut parts = line.split(';');
            let mut next = || parts.next().unwrap().to_owned();
            let (row, variant, kind) = (next(), next(), Kind::of(&next()));
            let nanos = parts.map(|nanos| nanos.parse::<f64>().unwrap());
            let known = samples.0.iter_mut();
            let mut known = known.filter(|one| (&one.row, &one.variant) == (&row, &variant));
            if let Some(known) = known.next() {
                known.nanos.extend(nanos);
                continue;
            }
            samples.0.push(Sample {
                row,
                variant,
                kind,
                nanos: nanos.collect(),
            });
        }
        samples
    }

    fn figures(self, before: bool) -> impl Iterator<Item = Figure> {
        let of_interest = move |one: &Sample| !before || one.kind != Kind::Peer;
        let samples = self.0.into_iter().filter(of_interest);
        samples.map(move |mut one| {
            one.nanos.sort_by(f64::total_cmp);
            Figure {
                row: one.row,
                variant: one.variant,
                kind: one.kind,
                before,
                least: one.nanos[0],
                median: one.nanos[one.nanos.len() / 2],
                turns: one.nanos.len(),
            }
        })
    }
}

/// What was measured of one variant.
pub struct Figure {
    pub row: String,
    pub variant: String,
    pub kind: Kind,
    /// Measured in the build that the others are compared with.
    before: bool,
    /// Nanoseconds for a call.
    least: f64,
    median: f64,
    turns: usize,
}

/// Nanoseconds that a variant takes longer than its baseline.
#[derive(Clone, Copy)]
pub struct Over {
    pub least: f64,
    pub median: f64,
}

pub struct Table {
    /// When and on what it was measured.
    pub run: String,
    figures: Vec<Figure>,
}

impl Table {
    pub fn new(run: String, before: Option<Samples>, now: Samples) -> Self {
        let before = before.unwrap_or_default().figures(true);
        Self {
            run,
            figures: before.chain(now.figures(false)).collect(),
        }
    }

    /// The table in the form in which it is kept.
    pub fn data(&self) -> String {
        let mut data = format!(
            "# {}\nrow;variant;kind;build;least_ns;median_ns;turns\n",
            self.run
        );
        for one in &self.figures {
            let build = if one.before { "before" } else { "now" };
            let (row, variant, kind, turns) = (&one.row, &one.variant, one.kind.name(), one.turns);
            let (least, median) = (one.least, one.median);
            writeln!(
                data,
                "{row};{variant};{kind};{build};{least:.1};{median:.1};{turns}"
            )
            .unwrap();
        }
        data
    }

    pub fn of_data(data: &str) -> Self {
        let mut lines = data.lines();
        let run = lines.next().unwrap().trim_start_matches("# ").to_owned();
        let figures = lines.skip(1).map(|line| {
            let parts: Vec<_> = line.split(';').collect();
            let [row, variant, kind, build, least, median, turns] = parts[..] else {
                panic!("seven columns: {line}");
            };
            Figure {
                row: row.to_owned(),
                variant: variant.to_owned(),
                kind: Kind::of(kind),
                before: build == "before",
                least: least.parse().unwrap(),
                median: median.parse().unwrap(),
                turns: turns.parse().unwrap(),
            }
        });
        let figures = figures.collect();
        Self { run, figures }
    }

    /// The figures of a row that are no baseline, with what they are over the baseline before them.
    pub fn row(&self, row: &str, before: bool) -> Vec<(&Figure, Over)> {
        let mut over = Vec::new();
        let mut bare = None;
        let figures = self.figures.iter();
        for one in figures.filter(|one| (&*one.row, one.before) == (row, before)) {
            match (one.kind, bare) {
                (Kind::Bare, _) => bare = Some(one),
                (_, None) => panic!("{row} begins with a baseline"),
                (_, Some(bare)) => {
                    let (least, median) = (one.least - bare.least, one.median - bare.median);
                    over.push((one, Over { least, median }));
                }
            }
        }
        over
    }

    /// What ours adds in this row.
    pub fn ours(&self, row: &str, before: bool) -> Option<Over> {
        let row = self.row(row, before).into_iter();
        let mut ours = row.filter(|(one, _)| one.kind == Kind::Ours);
        ours.next().map(|(_, over)| over)
    }

    /// What ours is compared with in this row: what all rivals add together, because one alone may add next to
    /// nothing; without a rival, the baseline.
    #[allow(dead_code, reason = "a test uses it")]
    pub fn beside(&self, row: &str) -> f64 {
        let rivals = self.row(row, false).into_iter();
        let rivals = rivals.filter(|(one, _)| one.kind == Kind::Peer);
        let rivals: f64 = rivals.map(|(_, over)| over.least).sum();
        let mut figures = self.figures.iter();
        let bare = figures.find(|one| one.row == row && !one.before).unwrap();
        if rivals > 0.0 { rivals } else { bare.least }
    }

    /// For the terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, title, _) in ROWS {
            let figures = || self.figures.iter().filter(|one| one.row == *name);
            if figures().next().is_none() {
                continue;
            }
            let heading = format!("{name}: {title}");
            writeln!(text, "\n{heading:70} {:>8} {:>8}", "least", "median").unwrap();
            let over = [self.row(name, true), self.row(name, false)].concat();
            for one in figures() {
                let build = if one.before { ", before" } else { "" };
                let variant = format!("{}{build}", one.variant);
                write!(text, "  {variant:68} {:8.1} {:8.1}", one.least, one.median).unwrap();
                if let Some((_, over)) = over.iter().find(|(other, _)| std::ptr::eq(*other, one)) {
                    write!(text, " {:+8.1} {:+8.1}", over.least, over.median).unwrap();
                }
                text.push('\n');
            }
        }
        text
    }

    /// For `benches/README.md`.
    pub fn markdown(&self) -> String {
        let before = self.figures.iter().any(|one| one.before);
        let mut text = format!("{}\n\n", self.run);
        text.push_str(if before {
            "| nanoseconds over the baseline, least / median | baseline | before | now | beside |\n\
             | --- | --- | --- | --- | --- |\n"
        } else {
            "| nanoseconds over the baseline, least / median | baseline | ours | beside |\n\
             | --- | --- | --- | --- |\n"
        });
        for (name, title, _) in ROWS {
            let figures = || {
                self.figures
                    .iter()
                    .filter(|one| one.row == *name && !one.before)
            };
            let Some(bare) = figures().next() else {
                continue;
            };
            let cell = |over: Option<Over>| {
                over.map_or_else(String::new, |over| {
                    format!("{} / {}", added(over.least), added(over.median))
                })
            };
            let bare = format!("{}: {:.0} / {:.0}", bare.variant, bare.least, bare.median);
            let was = if before {
                format!(" {} |", cell(self.ours(name, true)))
            } else {
                String::new()
            };
            let ours = cell(self.ours(name, false));
            let peers = self.row(name, false).into_iter();
            let peers = peers.filter(|(one, _)| one.kind == Kind::Peer);
            let peers = peers.map(|(one, over)| format!("{} {}", one.variant, cell(Some(over))));
            let peers = peers.collect::<Vec<_>>().join("; ");
            writeln!(text, "| {title} | {bare} |{was} {ours} | {peers} |").unwrap();
        }
        text
    }
}

/// A difference in nanoseconds: a tenth matters only where it is small.
pub fn added(nanos: f64) -> String {
    if nanos.abs() < 9.95 {
        format!("{nanos:+.1}")
    } else {
        format!("{nanos:+.0}")
    }
}
