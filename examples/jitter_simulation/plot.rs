//! Line plots as SVG in the text colour of the page, without a blank line, so that Markdown can contain
//! them.

use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 45.0;
const COLOURS: [&str; 7] = [
    "#888888", "#b07aa1", "#f28e2b", "#edc948", "#4e79a7", "#59a14f", "#e15759",
];

pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A plot of `lines`; both axes begin at zero.
pub(crate) fn draw(
    title: &str,
    across: &str,
    up: &str,
    lines: &[Line],
) -> Result<String, std::fmt::Error> {
    let all = || lines.iter().flat_map(|line| line.points.iter());
    let x_max = nice(all().map(|point| point.0).fold(1.0, f64::max));
    let y_max = nice(all().map(|point| point.1).fold(1.0, f64::max));
    let x = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * value / x_max;
    let y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / y_max;
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);

    let mut svg = String::new();
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{title}" font-family="sans-serif" font-size="12" fill="currentColor">"#
    )?;
    writeln!(
        svg,
        r#"<text x="{LEFT}" y="18" font-size="14">{title}</text>"#
    )?;
    writeln!(
        svg,
        r#"<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="currentColor"/>"#
    )?;
    for tick in 0..=4 {
        let (part_x, part_y) = (x_max * f64::from(tick) / 4.0, y_max * f64::from(tick) / 4.0);
        writeln!(
            svg,
            r#"<text x="{:.0}" y="{:.0}" text-anchor="middle">{part_x:.0}</text>"#,
            x(part_x),
            bottom + 16.0
        )?;
        writeln!(
            svg,
            r#"<text x="{:.0}" y="{:.0}" text-anchor="end">{part_y:.0}</text>"#,
            LEFT - 6.0,
            y(part_y) + 4.0
        )?;
    }
    writeln!(
        svg,
        r#"<text x="{:.0}" y="{:.0}" text-anchor="middle">{across}</text>"#,
        LEFT.midpoint(right),
        HEIGHT - 8.0
    )?;
    writeln!(
        svg,
        r#"<text x="14" y="{:.0}" text-anchor="middle" transform="rotate(-90 14 {:.0})">{up}</text>"#,
        TOP.midpoint(bottom),
        TOP.midpoint(bottom)
    )?;
    // Labels beside the ends of their lines, moved apart if they would overlap.
    let mut names: Vec<_> = lines.iter().enumerate().collect();
    let end = |line: &Line| line.points.last().map_or(0.0, |point| point.1);
    names.sort_by(|(_, one), (_, other)| end(other).total_cmp(&end(one)));
    let mut free = TOP;
    for (number, line) in names {
        let colour = COLOURS[number % COLOURS.len()];
        let points: Vec<_> = line
            .points
            .iter()
            .map(|&(across, up)| format!("{:.1},{:.1}", x(across), y(up)))
            .collect();
        writeln!(
            svg,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#,
            points.join(" ")
        )?;
        let at = (y(end(line)) + 4.0).max(free);
        free = at + 14.0;
        writeln!(
            svg,
            r#"<text x="{:.0}" y="{at:.0}" fill="{colour}">{}</text>"#,
            right + 8.0,
            line.name
        )?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// The next number above `value` that is one of 1, 2, 4 or 8 times a power of ten.
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 8.0, 10.0]
        .map(|step| step * power)
        .into_iter()
        .find(|&nice| nice >= value)
        .unwrap_or(value)
}
