"""The time line of a drain as SVG, in the colours of the fleet page; light or dark as the reader's system is."""

WIDTH = 860
LEFT, RIGHT = 250, 34
ROW = 30
# Milliseconds that the drawing spans, and where the deadline stands in it.
SPAN, DEADLINE = 2_600, 2_450

# What happens when, in milliseconds: the words, the bars (from, to, colour).
ROWS = [
    ("SIGTERM: not ready, beats stop", [(0, 14, "mark")]),
    ("state “draining” is published", [(10, 40, "say")]),
    ("consumers are cancelled", [(10, 60, "cancel")]),
    ("what has not started goes back", [(60, 110, "back")]),
    ("running deliveries finish", [(0, 700, "finish"), (0, 1_250, "finish"), (0, 1_960, "finish")]),
    ("each is acknowledged", [(700, 730, "settle"), (1_250, 1_280, "settle"), (1_960, 1_990, "settle")]),
    ("channels close: every ack arrived", [(1_990, 2_080, "settle")]),
    ("handlers are released", [(2_080, 2_150, "release")]),
    ("the drain report; exit code 0", [(2_150, 2_200, "say")]),
]

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #12201f }
  .soft { fill: #4a5c59; font-size: 12px }
  .line { stroke: #d3dcd7 } .deadline { stroke: #b0241c; stroke-dasharray: 5 4 } .warn { fill: #b0241c; font-size: 12px }
  .ground { fill: #fcfdfc; stroke: #d3dcd7 }
  .mark { fill: #b0241c } .say { fill: #235f9e } .cancel { fill: #8a9aa6 } .back { fill: #3a86b8 }
  .finish { fill: #1c8f84 } .settle { fill: #7d57a8 } .release { fill: #b38a3c }
  @media (prefers-color-scheme: dark) {
    text { fill: #e3edea } .soft { fill: #9fb3af } .line, .ground { stroke: #21343a } .ground { fill: #101b1e }
    .deadline { stroke: #ff8478 } .warn { fill: #ff8478 } .mark { fill: #ff8478 } .say { fill: #7db4f2 }
    .cancel { fill: #74879a } .back { fill: #6db3e0 } .finish { fill: #37a898 } .settle { fill: #b48ae0 }
    .release { fill: #c9a45c }
  }
"""


def at(ms):
    return LEFT + (WIDTH - LEFT - RIGHT) * ms / SPAN


def drawing():
    top = 40
    height = top + ROW * len(ROWS) + 14
    parts = []
    for index, (words, bars) in enumerate(ROWS):
        middle = top + ROW * index + ROW / 2
        parts.append(f'<text x="{LEFT - 14}" y="{middle + 4.5:.1f}" text-anchor="end">{words}</text>')
        parts.append(f'<line class="line" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{middle}" y2="{middle}"/>')
        # Deliveries that run at once lie one below the other.
        several = len({start for start, _, _ in bars}) < len(bars)
        for place, (start, end, kind) in enumerate(bars):
            thick = 6 if several else 12
            y = middle - (3 * 8 - 2) / 2 + place * 8 if several else middle - thick / 2
            width = max(4, at(end) - at(start))
            parts.append(f'<rect class="{kind}" x="{at(start):.1f}" y="{y:.1f}" width="{width:.1f}" height="{thick}" rx="2"/>')
    deadline = at(DEADLINE)
    parts.append(f'<line class="deadline" x1="{deadline:.1f}" x2="{deadline:.1f}" y1="32" y2="{height - 10}"/>')
    parts.append(f'<text class="warn" x="{deadline:.1f}" y="24" text-anchor="end">the deadline, drain.grace later</text>')
    parts.append(f'<text class="soft" x="{LEFT}" y="24">the drain begins</text>')
    body = "\n  ".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        f'aria-label="A drain from its signal to its report: nothing new is taken, what has not started goes back at once, '
        f'running deliveries finish and are acknowledged, and the channels close before the deadline">\n'
        f"  <style>{STYLE}</style>\n"
        f'  <rect class="ground" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="10"/>\n  {body}\n</svg>\n'
    )
