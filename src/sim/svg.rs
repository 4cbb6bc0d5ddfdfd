//! The network, drawn: cables grey, cut ones dashed, links that nodes opened themselves blue; nodes green, those behind
//! a NAT yellow, liars black, dead ones hollow; landmarks orange and larger; failed pairs red. A legend beside it has the
//! figures of the last phase.

use std::fmt::Write;

use crate::report::{Phase, Report};
use crate::scenario::Run;

/// Width and height of the drawing, pixels.
const SIZE: f64 = 1000.0;
/// Empty space around it.
const MARGIN: f64 = 20.0;
/// Width of the legend beside it.
const LEGEND: f64 = 330.0;
/// Height of a line of the legend.
const LINE: f64 = 22.0;
/// Radius of a node where there are few; many get smaller ones.
const RADIUS: f64 = 5.0;
/// The smallest radius.
const RADIUS_MIN: f64 = 1.2;
/// A landmark's radius is larger by this factor.
const LANDMARK: f64 = 1.8;

/// What there is to draw, as the legend shows it.
const KINDS: [(&str, &str); 5] = [
    ("#2a6", "node"),
    ("#e80", "landmark"),
    ("#cb2", "node behind a NAT"),
    ("#222", "liar"),
    ("white", "node that is off"),
];

/// The drawing of a run as it stands; the figures are there if its checks held.
#[must_use]
pub fn draw(run: &Run, report: Option<&Report>) -> String {
    let width = SIZE + LEGEND;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {SIZE}\" font-family=\"sans-serif\">\n"
    );
    svg.push_str("<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<g stroke-opacity=\"0.6\">\n");
    for (cable, ends) in run.network.cables().into_iter().enumerate() {
        let dashed = if run.network.is_cut(cable) { " stroke-dasharray=\"4\"" } else { "" };
        line(&mut svg, run, ends.into(), &format!("stroke=\"#999\"{dashed}"));
    }
    for ends in run.network.direct_links() {
        line(&mut svg, run, ends.into(), "stroke=\"#26c\"");
    }
    svg.push_str("</g>\n");
    let radius = (RADIUS * (200.0 / real(run.network.hosts().len())).sqrt()).clamp(RADIUS_MIN, RADIUS);
    // Landmarks last, so that nothing hides them.
    for landmarks in [false, true] {
        let some = (0..run.network.hosts().len()).filter(|&host| is_landmark(run, host) == landmarks);
        some.for_each(|host| circle(&mut svg, run, host, if landmarks { radius * LANDMARK } else { radius }));
    }
    for &pair in &run.failed {
        line(&mut svg, run, pair, "stroke=\"red\" stroke-width=\"2\"");
    }
    legend(&mut svg, run, report);
    svg.push_str("</svg>\n");
    svg
}

/// Whether a machine's node is a landmark.
fn is_landmark(run: &Run, host: usize) -> bool {
    run.network.node(host).is_some_and(|node| node.landmarks().1)
}

/// The colour of a machine.
fn fill(run: &Run, host: usize) -> &'static str {
    let machine = &run.network.hosts()[host];
    match (machine.is_alive(), machine.lie(), is_landmark(run, host)) {
        (false, ..) => KINDS[4].0,
        (true, Some(_), _) => KINDS[3].0,
        (true, None, true) => KINDS[1].0,
        (true, None, false) if machine.reach.is_natted() => KINDS[2].0,
        (true, None, false) => KINDS[0].0,
    }
}

/// A node.
fn circle(svg: &mut String, run: &Run, host: usize, radius: f64) {
    let ((x, y), peer) = (place(run, host), run.network.hosts()[host].peer);
    let fill = fill(run, host);
    let _ = writeln!(
        svg,
        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"{fill}\" stroke=\"#444\" stroke-width=\"0.5\"><title>{host} {peer}</title></circle>"
    );
}

/// A line between two nodes.
fn line(svg: &mut String, run: &Run, (a, b): (usize, usize), style: &str) {
    let ((x1, y1), (x2, y2)) = (place(run, a), place(run, b));
    let _ = writeln!(svg, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>");
}

/// What the colours mean, and the figures.
fn legend(svg: &mut String, run: &Run, report: Option<&Report>) {
    let mut at = MARGIN + LINE;
    let mut text = |svg: &mut String, x: f64, words: &str| {
        let _ = writeln!(svg, "<text x=\"{:.0}\" y=\"{at:.0}\" font-size=\"14\">{words}</text>", SIZE + x);
        at += LINE;
        at
    };
    text(svg, 0.0, &format!("{}, seed {}", run.options.topology.as_str(), run.options.seed));
    for (fill, what) in KINDS {
        let y = text(svg, 20.0, what) - LINE - 5.0;
        let _ =
            writeln!(svg, "<circle cx=\"{:.0}\" cy=\"{y:.0}\" r=\"6\" fill=\"{fill}\" stroke=\"#444\"/>", SIZE + 8.0);
    }
    for (colour, what) in [("#999", "cable"), ("#26c", "link that nodes opened"), ("red", "pair not reached")] {
        let y = text(svg, 20.0, what) - LINE - 5.0;
        let (from, to) = (SIZE, SIZE + 15.0);
        let _ = writeln!(svg, "<path d=\"M{from} {y:.0}H{to}\" stroke=\"{colour}\" stroke-width=\"2\"/>");
    }
    let Some(report) = report else { return };
    let Some(phase) = report.phases.last() else { return };
    for figure in figures(report, phase) {
        text(svg, 0.0, &figure);
    }
}

/// The figures of a run and of its last phase.
fn figures(report: &Report, phase: &Phase) -> Vec<String> {
    let converged = phase.converged_s.map_or("not yet".to_owned(), |time| format!("after {time} s"));
    vec![
        format!("{} nodes, {} links, phase {}", report.nodes, report.links, phase.name),
        format!("{} of {} pairs, {} first try", phase.pairs.reached, phase.pairs.tried, phase.pairs.first_try),
        format!("stretch {}, 99 % below {}", phase.stretch.mean, phase.stretch.p99),
        format!("{} landmarks", phase.table.landmarks),
        format!("table {}, at most {}", phase.table.mean, phase.table.max),
        format!("{} bytes/s a node", phase.control_bytes_per_node_s),
        format!("converged {converged}"),
        format!("{} KiB a node", report.bytes_per_node >> 10),
    ]
}

/// Where a node is drawn.
fn place(run: &Run, node: usize) -> (f64, f64) {
    let (x, y) = run.places[node];
    let scale = SIZE - 2.0 * MARGIN;
    (MARGIN + x * scale, MARGIN + y * scale)
}

/// A count as a number to divide by.
fn real(count: usize) -> f64 {
    f64::from(u32::try_from(count.max(1)).unwrap_or(u32::MAX))
}
