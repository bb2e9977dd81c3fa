"""The fleet page in Chromium, photographed while workers drain."""

import base64

from fleet.page import Page
from fleet.scene import until

WIDTH, HEIGHT = 1280, 1180
WORKERS, NODES = 24, 10
# As many drains make a timeline worth looking at.
DRAINS = 8
# The share of messages that a fleet of this size settles at, with some room.
STEADY = 0.15

COUNT = "return document.querySelectorAll('#lanes .lane.clean').length"
DRAINING = "return document.querySelectorAll('.item.draining .of').length > 0"


def photograph(scene):
    """The page as WebP, by theme."""
    simulated = scene.start(
        "simulate", "--json", "--url", scene.url, "--workers", str(WORKERS), "--nodes", str(NODES), "--load", "0.6",
        "--duration", "1h", "--drain-rate", "10",
    )
    until("the workers run", lambda: scene.summary()["workers"]["running"] >= WORKERS - 2)
    with Page(f"{scene.http}/") as page:
        page.emulate("Emulation.setDeviceMetricsOverride", width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False)
        page.load()
        # The filter that loading sets is for measurements.
        page.run("const filter = document.querySelector('#filter'); filter.value = ''; filter.dispatchEvent(new Event('input'));")
        page.emulate("Emulation.setScrollbarsHidden", hidden=True)
        # The messages of the start are a minute old then.
        until("figures are those of a fleet that runs", lambda: scene.summary()["messages"]["share"] < STEADY)
        until("drains are drawn", lambda: page.run(COUNT) >= DRAINS)
        pictures = {}
        for theme in ("light", "dark"):
            page.emulate("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
            until("a worker drains", lambda: page.run(DRAINING))
            shot = page.emulate("Page.captureScreenshot", format="webp", quality=90)
            pictures[theme] = base64.b64decode(shot["data"])
    simulated.end()
    return pictures
