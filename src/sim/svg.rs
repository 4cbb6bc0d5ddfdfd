//! The network, drawn: cables grey, cut ones dashed, dead nodes hollow, failed pairs red.

use std::fmt::Write;

use crate::scenario::Run;

/// Width and height, pixels.
const SIZE: f64 = 1000.0;
/// Empty space around it.
const MARGIN: f64 = 20.0;

/// The drawing of a run as it stands.
#[must_use]
pub fn draw(run: &Run) -> String {
    let mut svg = format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {SIZE} {SIZE}\">\n");
    svg.push_str("<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n");
    for (cable, [a, b]) in run.network.cables().into_iter().enumerate() {
        let dashed = if run.network.is_cut(cable) { " stroke-dasharray=\"4\"" } else { "" };
        line(&mut svg, run, (a, b), &format!("stroke=\"#999\"{dashed}"));
    }
    for &pair in &run.failed {
        line(&mut svg, run, pair, "stroke=\"red\" stroke-width=\"2\"");
    }
    for (i, host) in run.network.hosts().iter().enumerate() {
        let (x, y) = place(run, i);
        let fill = if host.is_alive() { "#2a6" } else { "white" };
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{fill}\" stroke=\"#444\"><title>{i} {}</title></circle>",
            host.peer
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// A line between two nodes.
fn line(svg: &mut String, run: &Run, (a, b): (usize, usize), style: &str) {
    let ((x1, y1), (x2, y2)) = (place(run, a), place(run, b));
    let _ = writeln!(svg, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>");
}

/// Where a node is drawn.
fn place(run: &Run, node: usize) -> (f64, f64) {
    let (x, y) = run.places[node];
    let scale = SIZE - 2.0 * MARGIN;
    (MARGIN + x * scale, MARGIN + y * scale)
}
