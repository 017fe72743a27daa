"""Bar charts as SVG: readable on light and dark pages, without any library."""

from html import escape
from math import ceil, floor, log10

COLORS = {
    "bare": "#8b949e", "passthrough_ll": "#b1a7c9", "plain": "#2da44e", "sealed": "#2f6fdd",
    "writeback": "#79a8f0", "compressed": "#1b9aaa", "sealed-compressed": "#6f5bd6", "gocryptfs": "#d97706",
    "securefs": "#c2410c", "encfs": "#b45309", "cryfs": "#92400e",
}
LEFT, WIDTH, BAR, GAP, ROW_GAP, TOP = 190, 820, 11, 2, 22, 46
# Room for the figures beside the longest bar.
RIGHT = 230
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .small { font-size: 10px; fill: #57606a }
  .title { font-size: 14px; font-weight: 600 }
  .one { stroke: #57606a; stroke-dasharray: 2 4; opacity: 0.6 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9da7b3 } .one { stroke: #9da7b3 }
  }
"""


def ratio_chart(title, rows, limit=5.0):
    """Rows of (label, [(contender, ratio to the best peer, value text)]).

    Bars longer than `limit` are cut, with the figure beside them.
    """
    scale = (WIDTH - LEFT - RIGHT) / limit
    parts, y = [], TOP
    for label, bars in rows:
        height = len(bars) * (BAR + GAP)
        parts.append(f'<text x="{LEFT - 8}" y="{y + height / 2 + 4:.0f}" text-anchor="end">'
                     f"{escape(label)}</text>")
        for contender, ratio, value in bars:
            length = max(min(ratio, limit) * scale, 1)
            cut = " »" if ratio > limit else ""
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="1.5" '
                         f'fill="{COLORS.get(contender, "#8b949e")}"/>')
            parts.append(f'<text class="small" x="{LEFT + length + 5:.1f}" y="{y + BAR - 2}">'
                         f"{escape(contender)} {escape(value)} ({ratio:.2f}×){cut}</text>")
            y += BAR + GAP
        y += ROW_GAP
    one = LEFT + scale
    frame = (f'<text class="title" x="8" y="20">{escape(title)}</text>'
             f'<text class="small" x="{one:.0f}" y="{TOP - 8}" text-anchor="middle">'
             f"best peer = 1</text>"
             f'<line class="one" x1="{one:.1f}" x2="{one:.1f}" y1="{TOP - 4}" y2="{y - ROW_GAP}"/>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" '
            f'role="img" aria-label="{escape(title)}"><style>{STYLE}</style>{frame}'
            f'{"".join(parts)}</svg>\n')


def curve_chart(title, unit, curves):
    """Curves of {contender: [(label, value)]} over equally spaced labels, on a logarithmic scale."""
    values = [value for points in curves.values() for _, value in points if value > 0]
    labels = max(curves.values(), key=len)
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    high = max(high, low + 1)
    left, right, top, bottom, height = 70, 640, 40, 250, 290

    def place(index, value):
        x = left + 20 + index * (right - left - 40) / max(len(labels) - 1, 1)
        y = bottom - (log10(max(value, 10**low)) - low) / (high - low) * (bottom - top)
        return x, y

    parts = [f'<text class="title" x="8" y="20">{escape(title)}</text>']
    for power in range(low, high + 1):
        _, y = place(0, 10.0**power)
        parts.append(f'<line class="one" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
                     f'<text class="small" x="{left - 6}" y="{y + 3:.1f}" text-anchor="end">'
                     f"{10.0**power:g} {unit}</text>")
    for index, (label, _) in enumerate(labels):
        parts.append(f'<text class="small" x="{place(index, 1)[0]:.0f}" y="{bottom + 18}" '
                     f'text-anchor="middle">{escape(label)}</text>')
    for row, (contender, points) in enumerate(curves.items()):
        color = COLORS.get(contender, "#8b949e")
        spots = [place(index, value) for index, (_, value) in enumerate(points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in spots]
        y = top + 12 + row * 18
        parts.append(f'<rect x="{right + 20}" y="{y - 9}" width="10" height="10" fill="{color}"/>'
                     f'<text x="{right + 36}" y="{y}">{escape(contender)}</text>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" role="img" aria-label="{escape(title)}"><style>{STYLE}</style>'
            f'{"".join(parts)}</svg>\n')
