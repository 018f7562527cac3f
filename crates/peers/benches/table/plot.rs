//! The table as bars, for the project's README. It brings its own background, so that it can be read on a
//! light page and on a dark one.

use crate::{
    measure::Kind,
    report::{Table, added},
    rows::ROWS,
};
use std::fmt::Write as _;

/// The rows that are drawn, in this order: the left column first.
const DRAWN: [&str; 8] = [
    "breaker",
    "breaker_100000_keys",
    "retry",
    "metrics",
    "deliver_dead_letters",
    "verify_github",
    "verify_standard_webhooks",
    "idempotency",
];

const WIDTH: usize = 960;
const COLUMN: usize = WIDTH / 2;
/// Where the bars of a column begin, and how long the longest of each row is.
const BARS: usize = 240;
const LONGEST: f64 = 165.0;
const LINE: usize = 19;
const TITLE: usize = 22;
const GAP: usize = 16;
const TOP: usize = 62;

const STYLE: &str = "\
.page{fill:#ffffff}.text{fill:#1f2328}.faint{fill:#59636e}.ours{fill:#0969da}.peer{fill:#afb8c1}\
@media(prefers-color-scheme:dark){\
.page{fill:#0d1117}.text{fill:#f0f6fc}.faint{fill:#9198a1}.ours{fill:#4493f8}.peer{fill:#656c76}}";

/// Each row has a scale of its own.
pub fn draw(table: &Table) -> String {
    let mut bars = String::new();
    let mut bottom = TOP;
    for (column, names) in DRAWN.chunks(DRAWN.len().div_ceil(2)).enumerate() {
        let mut y = TOP;
        for name in names {
            y = draw_row(&mut bars, table, name, column * COLUMN, y);
        }
        bottom = bottom.max(y);
    }
    let height = bottom + 24;
    let (base, run) = (bottom + 8, escaped(&table.run));
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img" aria-label="What each layer adds to a call, beside its rivals" font-family="sans-serif" font-size="12">
<style>{STYLE}</style>
<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>
<text class="text" x="16" y="26" font-size="16" font-weight="bold">What a layer adds to a call that succeeds, in nanoseconds</text>
<text class="faint" x="16" y="44">over the same call without it; each group has a scale of its own; shorter is better</text>
{bars}<text class="faint" x="16" y="{base}" font-size="10">{run}</text>
</svg>
"#
    )
}

/// Draws a row below `y`, and returns where it ends.
fn draw_row(bars: &mut String, table: &Table, name: &str, x: usize, mut y: usize) -> usize {
    let figures = table.row(name, false);
    let title = ROWS.iter().find(|row| row.0 == name).unwrap().1;
    let longest = figures.iter().map(|(_, over)| over.least);
    let longest = longest.fold(1.0, f64::max);
    y += TITLE;
    writeln!(
        bars,
        r#"<text class="text" x="{}" y="{}" font-weight="bold">{}</text>"#,
        x + 16,
        y - 8,
        escaped(title)
    )
    .unwrap();
    for (one, over) in figures {
        let class = if one.kind == Kind::Ours {
            "ours"
        } else {
            "peer"
        };
        let length = (over.least.max(0.0) / longest * LONGEST).max(1.0);
        let (from, line) = (x + BARS, y + 13);
        #[allow(clippy::cast_precision_loss)]
        let end = from as f64 + length + 6.0;
        writeln!(
            bars,
            r#"<text class="text" x="{}" y="{line}" text-anchor="end">{}</text><rect class="{class}" x="{from}" y="{}" width="{length:.1}" height="14"/><text class="text" x="{end:.1}" y="{line}">{}</text>"#,
            from - 8,
            escaped(&one.variant),
            y + 2,
            added(over.least)
        )
        .unwrap();
        y += LINE;
    }
    y + GAP
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
