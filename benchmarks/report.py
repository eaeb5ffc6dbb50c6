"""Formats the measurements as a Markdown table and as a bar chart."""

import statistics
from typing import Any

Row = dict[str, Any]  # one measurement: server, workload, round, and what load.py returns
HEAD = ("workload", "server", "requests/s", "p50 ms", "p99 ms", "server CPU µs", "database CPU µs", "todo_api / this")
STYLE = """text { font: 13px system-ui, sans-serif; fill: #1f2328 } .value { fill: #59636e }
.b0 { fill: #0969da } .b1 { fill: #8c959f } .b2 { fill: #1a7f37 } .b3 { fill: #bf8700 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .value { fill: #9198a1 } .b0 { fill: #4493f8 } .b2 { fill: #3fb950 } }"""


def median(rows: list[Row], server: str, workload: str, what: str) -> float:
    values: list[float] = [row[what] for row in rows if (row["server"], row["workload"]) == (server, workload)]
    return statistics.median(values)


def ratios(rows: list[Row], server: str, workload: str) -> list[float]:
    """Return for each round the requests per second of the first server divided by those of this server."""
    rates = {(row["server"], row["round"]): row["rate"] for row in rows if row["workload"] == workload}
    rounds = sorted({row["round"] for row in rows})
    return [rates[rows[0]["server"], each] / rates[server, each] for each in rounds]


def names(rows: list[Row], what: str) -> list[str]:
    return list(dict.fromkeys(row[what] for row in rows))


def table(rows: list[Row]) -> str:
    whats = [what for what in ("rate", "p50", "p99", "server_cpu", "database_cpu") if what in rows[0]]
    lines = [HEAD[: 2 + len(whats)] + HEAD[-1:], ("---",) * 2 + ("---:",) * (len(whats) + 1)]
    for workload in names(rows, "workload"):
        for server in names(rows, "server"):
            medians = [f"{median(rows, server, workload, what):.{1 if what in ('p50', 'p99') else 0}f}" for what in whats]
            paired = ratios(rows, server, workload)
            ratio = f"{statistics.median(paired):.2f} ({min(paired):.2f} to {max(paired):.2f})"
            lines.append((workload, server, *medians, ratio if server != rows[0]["server"] else ""))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def chart(rows: list[Row]) -> str:
    """Return an SVG bar chart of the requests per second that is readable on light and dark pages."""
    servers, workloads = names(rows, "server"), names(rows, "workload")
    most = max(median(rows, server, workload, "rate") for server in servers for workload in workloads)
    parts, y = [], 28
    for number, server in enumerate(servers):
        parts.append(f'<rect class="b{number}" x="{90 + number * 135}" y="4" width="12" height="12"/>')
        parts.append(f'<text x="{108 + number * 135}" y="15">{server}</text>')
    for workload in workloads:
        parts.append(f'<text x="82" y="{y + 10 * len(servers) + 4}" text-anchor="end">{workload}</text>')
        for number, server in enumerate(servers):
            rate = median(rows, server, workload, "rate")
            width = round(480 * rate / most)
            parts.append(f'<rect class="b{number}" x="90" y="{y}" width="{width}" height="16"/>')
            parts.append(f'<text class="value" x="{96 + width}" y="{y + 13}">{rate:.0f}</text>')
            y += 20
        y += 14
    size = f'width="640" height="{y}" viewBox="0 0 640 {y}"'
    label = 'role="img" aria-label="Requests per second"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {label}>', f"<style>{STYLE}</style>", *parts, "</svg>\n"])
