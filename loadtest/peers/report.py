"""Tables in Markdown and charts in SVG of what `run.py` measured."""

import statistics
from xml.sax.saxutils import escape

COLOURS = {
    "sockhop": "#0b6e4f",
    "socketioxide": "#c8553d",
    "socketioxide, axum": "#e39a88",
    "socket.io": "#e0a030",
    "python-socketio": "#4a6fa5",
    "floor": "#777777",
    "floor, coalescing": "#aaaaaa",
}


def values(results, scenario, server):
    """What was measured, by round."""
    key = scenario["key"]
    return {
        it["round"]: it[scenario["unit"]]
        for it in results
        if it["scenario"] == key and it["server"] == server and scenario["unit"] in it
    }


def middle(results, scenario, server):
    found = values(results, scenario, server).values()
    return statistics.median(found) if found else None


def shown(value, unit):
    if unit == "bytes":
        return f"{value / 1024:.2f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def cell(results, scenario, server):
    found = sorted(values(results, scenario, server).values())
    if not found:
        return "–"
    unit = scenario["unit"]
    low, high = shown(found[0], unit), shown(found[-1], unit)
    return f"{shown(statistics.median(found), unit)} ({low}–{high})"


def ratio(results, scenario, other):
    """The median over the rounds of what sockhop needs for each that the other needs."""
    own, others = values(results, scenario, "sockhop"), values(results, scenario, other)
    both = [own[it] / others[it] for it in own if others.get(it)]
    return statistics.median(both) if both else None


def best_peer(results, scenario, peers):
    found = {peer: middle(results, scenario, peer) for peer in peers}
    found = {peer: value for peer, value in found.items() if value is not None}
    return min(found, key=found.get) if found else None


def bar_cell(results, scenario):
    if not scenario["bar"]:
        return "–"
    against, limit = scenario["bar"]
    if against == "absolute":
        reached = middle(results, scenario, "sockhop")
        wanted = f"≤ {shown(limit, scenario['unit'])}"
    else:
        reached = ratio(results, scenario, against)
        wanted = f"≤ {limit:.2f} × {against}"
    if reached is None:
        return wanted
    verdict = "met" if reached <= limit else "**missed**"
    return f"{wanted}: {verdict}" if against == "absolute" else f"{wanted}: {reached:.2f}, {verdict}"


def text(name, scenarios, servers, floors, results):
    return table(scenarios, servers, floors, results) if name == "table" else series(
        scenarios, servers, results
    )


def table(scenarios, servers, floors, results):
    peers = [it for it in servers if it != "sockhop" and it not in floors]
    head = ["", *servers, "÷ floor", "÷ best peer", "bar"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for scenario in scenarios:
        if not any(values(results, scenario, it) for it in servers):
            continue
        best = best_peer(results, scenario, peers)
        floor = ratio(results, scenario, "floor") if scenario["unit"] != "bytes" else None
        over = ratio(results, scenario, best) if best else None
        unit = "KB" if scenario["unit"] == "bytes" else "µs"
        row = [f"{scenario['title']}, {unit}", *(cell(results, scenario, it) for it in servers)]
        row += [f"{it:.2f}" if it else "–" for it in (floor, over)]
        row.append(bar_cell(results, scenario))
        lines.append("| " + " | ".join(row) + " |")
    rounds = 1 + max((it["round"] for it in results), default=0)
    lines += ["", load(results, rounds)]
    return "\n".join(lines)


def load(results, rounds):
    busy = sorted(it["machine_busy"] for it in results if "machine_busy" in it)
    if not busy:
        return ""
    return (
        f"{rounds} rounds; median (lowest–highest). While this ran, {statistics.median(busy):.1f} "
        f"cores were busy, everything on the machine included ({busy[0]:.1f}–{busy[-1]:.1f})."
    )


SERIES = {
    "receivers": ("CPU of the server for each delivered message, two broadcasts in flight, µs",
                  "receivers"),
    "nodes": ("one broadcast at a time, with several nodes on one Redis, 1,000 receivers in all, µs", "nodes"),
    "idle": ("memory of an idle WebSocket connection, KB", "connections"),
}


def series(scenarios, servers, results):
    parts = []
    for kind, (title, axis) in SERIES.items():
        steps = [it for it in scenarios if it["series"] == kind]
        rows = [it for it in servers if any(values(results, step, it) for step in steps)]
        if not rows:
            continue
        head = [title, *(f"{step['title']:,} {axis}" for step in steps)]
        parts += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for server in rows:
            cells = (cell(results, step, server) for step in steps)
            parts.append("| " + " | ".join([server, *cells]) + " |")
        parts.append("")
    singles = [it for it in scenarios if it["series"] in ("starve", "idle-cpu")]
    rows = [it for it in servers if any(values(results, single, it) for single in singles)]
    if rows:
        parts += [
            "| with 15,000 connections | echo while the room is broadcast to: p50, ms | p99, ms "
            "| broadcasts/s | CPU while idle, % of a core |",
            "|---|---|---|---|---|",
        ]
        for server in rows:
            parts.append("| " + " | ".join([server, *starved(singles, server, results)]) + " |")
        parts.append("")
    rounds = 1 + max((it["round"] for it in results), default=0)
    return "\n".join([*parts, load(results, rounds)])


def starved(singles, server, results):
    starve, idle = singles
    p50 = {**starve, "unit": "p50_ms"}
    # The scenario broadcasts for five seconds and half a second of warm-up.
    rate = middle(results, {**starve, "unit": "broadcasts"}, server)
    return [
        cell(results, p50, server),
        cell(results, starve, server),
        f"{rate / 5.5:.1f}" if rate else "–",
        cell(results, idle, server),
    ]


def write(docs, name, body, scenarios, servers, results):
    folder = docs / "performance"
    folder.mkdir(exist_ok=True)
    pictures = []
    if name == "table":
        picture = bars(scenarios, servers, results)
        (folder / "table.svg").write_text(picture)
        pictures.append("![The same as a chart](performance/table.svg)")
    else:
        for kind, (title, axis) in SERIES.items():
            steps = [it for it in scenarios if it["series"] == kind]
            if any(values(results, step, "sockhop") for step in steps):
                picture = lines_chart(title, axis, steps, servers, results)
                (folder / f"{kind}.svg").write_text(picture)
                pictures.append(f"![{title}](performance/{kind}.svg)")
    path = docs / "performance.md"
    page = path.read_text()
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = page.split(begin, 1)
    _, after = rest.split(end, 1)
    inside = "\n\n".join([begin, body, *pictures, end])
    path.write_text(before + inside + after)


def svg(width, height, parts):
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def label(x, y, words, anchor="start", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {extra}>{escape(words)}</text>'


def bars(scenarios, servers, results):
    """One panel for each row; bars that do not fit are cut off and say so with their figure."""
    parts, y, left, width = [], 10, 140, 420
    for scenario in scenarios:
        found = {it: middle(results, scenario, it) for it in servers}
        found = {it: value for it, value in found.items() if value}
        if "sockhop" not in found:
            continue
        ranked = sorted(found.values())
        scale = min(ranked[-1], 3 * ranked[len(ranked) // 2])
        unit = "KB" if scenario["unit"] == "bytes" else "µs of CPU"
        y += 16
        parts.append(label(8, y, f"{scenario['title']}, {unit}", extra='font-weight="bold"'))
        y += 6
        for server, value in found.items():
            length = max(1.0, width * min(1.0, value / scale))
            parts.append(label(left - 6, y + 11, server, "end"))
            parts.append(
                f'<rect x="{left}" y="{y}" width="{length:.1f}" height="14" '
                f'fill="{COLOURS[server]}"/>'
            )
            cut = " (cut off)" if value > scale else ""
            parts.append(label(left + length + 5, y + 11, shown(value, scenario["unit"]) + cut))
            y += 17
        y += 8
    return svg(left + width + 130, y + 8, parts)


def lines_chart(title, axis, steps, servers, results):
    """Steps at equal distances, the value from zero."""
    width, height, left, bottom = 560, 250, 50, 40
    found = {it: [middle(results, step, it) for step in steps] for it in servers}
    found = {it: row for it, row in found.items() if any(row)}
    own = [value for value in found["sockhop"] if value]
    top = max(
        (value for row in found.values() for value in row if value and value <= 12 * max(own)),
    ) * 1.1
    parts = [label(8, 18, title, extra='font-weight="bold"')]
    place = lambda index, value: (
        left + (width - left - 20) * (index + 0.5) / len(steps),
        height - bottom - (height - bottom - 60) * value / top,
    )
    for share in (0, 0.5, 1):
        _, y = place(0, top * share)
        parts.append(f'<line x1="{left}" x2="{width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(label(left - 6, y + 4, shown(top * share, steps[0]["unit"]), "end"))
    for index, step in enumerate(steps):
        x, _ = place(index, 0)
        parts.append(label(x, height - bottom + 18, f"{step['title']:,}", "middle"))
    parts.append(label(width, height - 6, axis, "end"))
    for number, (server, row) in enumerate(found.items()):
        points = [place(at, value) for at, value in enumerate(row) if value and value <= top]
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        colour = COLOURS[server]
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        parts.append(label(8 + 92 * number, 36, "■ " + server, extra=f'fill="{colour}" font-size="10"'))
    return svg(width + 10, height, parts)
