"""The figures as one SVG picture that reads in light and in dark."""

from __future__ import annotations

import math
from html import escape

import matrix
from matrix import MAIN, TIDEGATE, Scenario
from results import Results

WIDTH = 920
LEFT = 230  # where the bars begin
BAR, GAP = 16, 10
# What a colour stands for; a hollow mark is a consumer that acknowledges each delivery.
COLOURS = {"tidegate": "us", "c": "c", "lapin": "lapin", "pika": "pika", "celery": "celery"}
STYLE = """
  svg { color-scheme: light dark; --ink: #1b2733; --dim: #5b6b7a; --line: #d5dde4; --ground: #ffffff;
    --us: #0b7f83; --c: #4a6fb5; --lapin: #c2611d; --pika: #8a4fbf; --celery: #4d8a2c }
  @media (prefers-color-scheme: dark) {
    svg { --ink: #e4ebf1; --dim: #9fb0bf; --line: #33404c; --ground: #10171e;
      --us: #35c9c0; --c: #84a8f0; --lapin: #f39a58; --pika: #c394f2; --celery: #93cf70 } }
  .ground { fill: var(--ground) } .grid { stroke: var(--line); stroke-width: 1 }
  .one { stroke: var(--dim); stroke-width: 1.5 } .spread { stroke: var(--ink); stroke-width: 1.5 }
  text { font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: var(--ink) }
  text.title { font-size: 16px; font-weight: 600 } text.dim { fill: var(--dim); font-size: 12px }
  text.strong { font-weight: 600 } .end { text-anchor: end } .middle { text-anchor: middle }
  .range { stroke-width: 2; opacity: .45 } .hollow { fill: var(--ground); stroke-width: 2 }
"""


class Drawing:
    def __init__(self):
        self.parts: list[str] = []
        self.y = 0.0

    def add(self, name: str, text: str | None = None, **attributes) -> None:
        written = " ".join('%s="%s"' % (key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
        self.parts.append("<%s %s/>" % (name, written) if text is None else "<%s %s>%s</%s>" % (name, written, escape(text), name))

    def text(self, x: float, y: float, text: str, kind: str = "") -> None:
        self.add("text", text, x=round(x, 1), y=round(y, 1), class_=kind)

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str, style: str = "") -> None:
        attributes = {"style": style} if style else {}
        self.add("line", x1=round(x1, 1), y1=round(y1, 1), x2=round(x2, 1), y2=round(y2, 1), class_=kind, **attributes)

    def svg(self) -> str:
        height = round(self.y + 16)
        head = (
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" '
            'aria-label="Messages a second and processor time of Tidegate and other consumers">'
        ) % (WIDTH, height, WIDTH, height)
        ground = '<rect class="ground" width="100%" height="100%" rx="8"/>'
        return "\n".join([head, "<style>%s</style>" % STYLE, ground, *self.parts, "</svg>", ""])


def colour(consumer: matrix.Consumer) -> str:
    return "var(--%s)" % COLOURS[consumer.name.split("-")[0]]


def plain(label: str) -> str:
    return label.replace("`", "")


def draw(results: Results) -> str:
    drawing = Drawing()
    bars(drawing, results, "rate", "Messages a second", "256 B, classic queue, prefetch 200; the line is the spread", ",.0f", True)
    bars(drawing, results, "cpu_us", "Processor time a message, µs", "the consumer's own, same runs; logarithmic", ".1f", False)
    dots(drawing, results)
    return drawing.svg()


def heading(drawing: Drawing, title: str, note: str) -> None:
    drawing.y += 34
    drawing.text(20, drawing.y, title, "title")
    drawing.text(WIDTH - 20, drawing.y, note, "dim end")
    drawing.y += 14


def bars(drawing: Drawing, results: Results, field: str, title: str, note: str, form: str, linear: bool) -> None:
    values = [(each, results.spread(MAIN, each, field)) for each in matrix.CONSUMERS]
    values = [(each, spread) for each, spread in values if spread]
    if not values:
        return
    heading(drawing, title, note)
    values.sort(key=lambda pair: pair[1].median, reverse=linear)
    most, width = max(spread.most for _, spread in values), WIDTH - LEFT - 90

    def x(value: float) -> float:
        share = value / most if linear else math.log10(max(1.0, value)) / math.log10(max(10.0, most))
        return LEFT + width * share

    for each, spread in values:
        y = drawing.y
        drawing.text(LEFT - 10, y + 13, plain(each.label), "end strong" if each is TIDEGATE else "end")
        drawing.add("rect", x=LEFT, y=y, width=round(max(1, x(spread.median) - LEFT), 1), height=BAR, rx=3, style="fill:%s" % colour(each))
        if spread.count > 1:
            drawing.line(x(spread.least), y + BAR / 2, x(spread.most), y + BAR / 2, "spread")
        drawing.text(max(x(spread.most), x(spread.median)) + 8, y + 13, format(spread.median, form), "strong" if each is TIDEGATE else "")
        drawing.y += BAR + GAP


def dots(drawing: Drawing, results: Results) -> None:
    keys = sorted(results.keys())
    peers = [each for each in matrix.CONSUMERS if each is not TIDEGATE]
    marks = {key: [(each, results.ratio(key, each, "rate")) for each in peers] for key in keys}
    found = [ratio for row in marks.values() for _, ratio in row if ratio]
    if not found:
        return
    heading(drawing, "Tidegate's messages a second by each peer's", "right of 1 it is faster; logarithmic")
    low = min(0.5, min(ratio.least for ratio in found))
    high = max(4.0, max(ratio.most for ratio in found))
    left, right = LEFT + 10, WIDTH - 40

    def x(value: float) -> float:
        return left + (right - left) * math.log(value / low) / math.log(high / low)

    legend(drawing, peers)
    top, row = drawing.y, 22
    bottom = top + row * len(keys)
    for tick in (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64):
        if low <= tick <= high:
            drawing.line(x(tick), top, x(tick), bottom, "one" if tick == 1 else "grid")
            drawing.text(x(tick), bottom + 16, "%g ×" % tick, "dim middle")
    for key in keys:
        y = drawing.y + row / 2
        drawing.text(LEFT - 10, y + 4, str(Scenario(*key, 0, 0)), "end")
        for each, ratio in marks[key]:
            if ratio:
                drawing.line(x(ratio.least), y, x(ratio.most), y, "range", "stroke:%s" % colour(each))
        for each, ratio in marks[key]:
            if ratio:
                mark(drawing, each, x(ratio.median), y)
        drawing.y += row
    drawing.y += 20


def mark(drawing: Drawing, each: matrix.Consumer, x: float, y: float) -> None:
    hollow = not each.multiple and each.name != matrix.CELERY_PREFORK.name
    style = ("stroke:%s" if hollow else "fill:%s") % colour(each)
    drawing.add("circle", cx=round(x, 1), cy=round(y, 1), r=5, class_="hollow" if hollow else "", style=style)


def legend(drawing: Drawing, peers: list[matrix.Consumer]) -> None:
    x, drawing.y = 24.0, drawing.y + 8
    for each in peers:
        label = plain(each.label)
        wide = 26 + 6.6 * len(label)
        if x + wide > WIDTH - 20:
            x, drawing.y = 24.0, drawing.y + 20
        mark(drawing, each, x, drawing.y)
        drawing.text(x + 11, drawing.y + 4, label, "dim")
        x += wide
    drawing.y += 18
