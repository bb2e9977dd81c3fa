"""The samples of a long run as one SVG picture that reads in light and in dark."""

from __future__ import annotations

WIDTH, PANEL, LEFT, RIGHT, TOP = 920, 130, 70, 20, 46
PANELS = [("memory", "Resident memory, MB", 1024), ("descriptors", "Open descriptors", 1), ("threads", "Threads", 1)]
STYLE = """
  svg { color-scheme: light dark; --ink: #1b2733; --dim: #5b6b7a; --line: #d5dde4; --ground: #ffffff; --us: #0b7f83; --mark: #c2611d }
  @media (prefers-color-scheme: dark) {
    svg { --ink: #e4ebf1; --dim: #9fb0bf; --line: #33404c; --ground: #10171e; --us: #35c9c0; --mark: #f39a58 } }
  .ground { fill: var(--ground) } .grid { stroke: var(--line) } .mark { stroke: var(--mark); opacity: .35 }
  .curve { fill: none; stroke: var(--us); stroke-width: 2; stroke-linejoin: round }
  text { font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: var(--ink) }
  text.title { font-weight: 600 } text.dim { fill: var(--dim); font-size: 12px } .end { text-anchor: end } .middle { text-anchor: middle }
"""


def draw(samples, marks) -> str:
    """`samples`: with `minute` and the keys of the panels. `marks`: minutes and names of the faults."""
    last = max(samples[-1].minute, 0.1)
    height = TOP + len(PANELS) * (PANEL + 34) + 20
    parts = ['<rect class="ground" width="100%" height="100%" rx="8"/>',
             '<text class="dim" x="%d" y="22">One worker under steady load; each thin line is a fault (%d of them)</text>' % (LEFT, len(marks))]
    for index, (key, title, unit) in enumerate(PANELS):
        parts += panel([(one.minute, getattr(one, key) / unit) for one in samples], marks, title, TOP + index * (PANEL + 34), last)
    step = next(step for step in (1, 2, 5, 10, 30, 60, 600) if last / step <= 10)
    for minute in range(0, int(last) + 1, step):
        parts.append('<text class="dim middle" x="%.1f" y="%d">%d min</text>' % (across(minute, last), height - 12, minute))
    head = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" ' \
           'aria-label="Memory, descriptors and threads of a worker over time">' % (WIDTH, height, WIDTH, height)
    return "\n".join([head, "<style>%s</style>" % STYLE, *parts, "</svg>", ""])


def across(minute, last) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * minute / last


def panel(points, marks, title, top, last) -> list:
    most = ceiling(max(value for _, value in points) * 1.15)
    bottom = top + 14 + PANEL

    def down(value):
        return bottom - PANEL * value / most

    parts = ['<text class="title" x="%d" y="%d">%s</text>' % (LEFT, top + 4, title)]
    for value in (0, most / 2, most):
        parts.append('<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>' % (LEFT, WIDTH - RIGHT, down(value), down(value)))
        parts.append('<text class="dim end" x="%d" y="%.1f">%g</text>' % (LEFT - 8, down(value) + 4, value))
    for minute, _ in marks:
        parts.append('<line class="mark" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>' % (across(minute, last), across(minute, last), top + 14, bottom))
    curve = " ".join("%.1f,%.1f" % (across(minute, last), down(value)) for minute, value in points)
    parts.append('<polyline class="curve" points="%s"/>' % curve)
    return parts


def ceiling(value) -> float:
    """The next number that reads well."""
    for step in (2, 4, 10, 20, 40, 60, 80, 100, 200, 400, 1000):
        if value <= step:
            return step
    return round(value, -3) + 1000
