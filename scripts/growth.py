#!/usr/bin/env python3
"""What a node keeps and says, against the size of its network: `scripts/bench --growth`.

    growth.py SIMULATOR JSON SVG NODES...

Runs the simulator (topology internet, routing profile, the stand-in for cryptography) for each size, each in a
process of its own, prints a table, and draws it: a line that lies flat does not grow with the network.
"""
import json, math, subprocess, sys

# What is drawn: title, unit, colour.
PANELS = [
    ("items in a node's table", "", "#2563eb"),
    ("routing, idle", "bytes/s a node", "#059669"),
    ("all bytes, idle", "bytes/s a node", "#d97706"),
    ("memory", "KB a node", "#7c3aed"),
    ("time of the run", "s", "#64748b"),
]
WIDTH, HEIGHT, LEFT, TOP = 300, 200, 56, 44


def measure(simulator, nodes):
    """The figures of one size, in the order of the panels, and the share of pairs that reach each other."""
    words = "--topology internet --profile routing --crypto fast --seed 1 --pairs 500 --settle 60s --idle 30s --json"
    out = subprocess.run([simulator, *words.split(), "--nodes", str(nodes)], check=True, stdout=subprocess.PIPE).stdout
    run = json.loads(out)
    idle = run["phases"][-1]
    tried = [phase["pairs"] for phase in run["phases"]]
    return [
        idle["table"]["mean"],
        idle["routing_bytes_per_node_s"],
        idle["control_bytes_per_node_s"],
        run["peak_rss_bytes"] / nodes / 1000,
        run["wall_s"],
    ], 100 * sum(pairs["reached"] for pairs in tried) / sum(pairs["tried"] for pairs in tried)


def exponent(sizes, values):
    """k of the best N^k through the points, by least squares on logarithms."""
    xs, ys = [math.log(size) for size in sizes], [math.log(max(value, 1e-3)) for value in values]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((a - x) ** 2 for a in xs)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys)) / spread if spread else 0.0


def panel(at, sizes, values):
    """One chart: both axes logarithmic, three decades high, so that slopes can be compared."""
    title, unit, colour = PANELS[at]
    left, top = LEFT + at % 3 * (WIDTH + LEFT), TOP + at // 3 * (HEIGHT + 2 * TOP)
    low = math.floor(math.log10(max(min(values), 1e-3)))
    span = math.log10(sizes[-1] / sizes[0]) or 1
    x = lambda size: left + WIDTH * math.log10(size / sizes[0]) / span
    y = lambda value: top + HEIGHT * (1 - (math.log10(max(value, 10**low)) - low) / 3)
    out = [f'<text x="{left}" y="{top - 20}" font-weight="600">{title}</text>']
    out.append(f'<text x="{left}" y="{top - 6}" class="s">{unit or "items"}, N^{exponent(sizes, values):.2f}</text>')
    for step in range(4):
        line = top + HEIGHT * (1 - step / 3)
        out.append(f'<path d="M{left} {line:.1f}h{WIDTH}" stroke="#e5e7eb"/>')
        out.append(f'<text x="{left - 6}" y="{line + 4:.1f}" text-anchor="end" class="s">{10.0 ** (low + step):g}</text>')
    points = [(x(size), y(value)) for size, value in zip(sizes, values)]
    out.append(f'<path d="M{" L".join(f"{a:.1f} {b:.1f}" for a, b in points)}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for (a, b), size, value in zip(points, sizes, values):
        out.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{colour}"/>')
        out.append(f'<text x="{a:.1f}" y="{b - 8:.1f}" text-anchor="middle" class="s">{value:.3g}</text>')
        out.append(f'<text x="{a:.1f}" y="{top + HEIGHT + 16}" text-anchor="middle" class="s">{size:,}</text>')
    return out


def draw(sizes, columns):
    """The page."""
    width, height = LEFT + 3 * (WIDTH + LEFT), 2 * (HEIGHT + 2 * TOP)
    style = "text{font:13px sans-serif;fill:#111827}.s{font-size:11px;fill:#4b5563}"
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">']
    out.append(f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>')
    for at, values in enumerate(columns):
        out += panel(at, sizes, values)
    return "\n".join(out + ["</svg>"])


def main():
    """Runs, prints, draws."""
    simulator, json_file, svg_file, *sizes = sys.argv[1:]
    sizes = [int(size) for size in sizes]
    print(f"{'nodes':>7} {'items':>7} {'routing B/s':>12} {'all B/s':>8} {'KB a node':>10} {'run s':>7} {'reached %':>10}")
    rows = []
    for nodes in sizes:
        values, reached = measure(simulator, nodes)
        rows.append((values, reached))
        print("%7d %7.1f %12.1f %8.1f %10.1f %7.1f %10.2f" % (nodes, *values, reached), flush=True)
    columns = [[values[at] for values, _ in rows] for at in range(len(PANELS))]
    if len(sizes) > 1:
        print("grows as", "  ".join(f"{title}: N^{exponent(sizes, column):.2f}" for (title, _, _), column in zip(PANELS, columns)))
    names = ["items", "routing_bytes_per_node_s", "control_bytes_per_node_s", "kb_per_node", "wall_s"]
    if json_file:
        out = [dict(zip(names, values), nodes=nodes, reached_percent=reached) for nodes, (values, reached) in zip(sizes, rows)]
        open(json_file, "w").write(json.dumps({"growth": out}) + "\n")
    open(svg_file, "w").write(draw(sizes, columns))
    print("drawn in", svg_file)


main()
