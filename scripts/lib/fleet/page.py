"""The fleet program's page in Chromium, driven by Debian's chromedriver over HTTP (W3C WebDriver)."""

import json
import shutil
import subprocess
import tempfile
import time
import urllib.request

ARGUMENTS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe", "--window-size=1440,900",
]

# Notes when the row of a worker that is paused has been painted, and how long the page was busy at a stretch.
WATCH = """
window.painted = {};
window.tasks = [];
new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map((entry) => entry.duration)))
  .observe({ type: "longtask" });
const look = () => {
  for (const link of document.querySelectorAll(".item.paused a.name")) {
    const id = link.title;
    if (id in window.painted) continue;
    window.painted[id] = null;
    requestAnimationFrame(() => setTimeout(() => { window.painted[id] = Date.now(); }));
  }
};
new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true });
"""


def available():
    return bool(shutil.which("chromium") and shutil.which("chromedriver"))


class Page:
    """The page at `url`; the browser ends when this is left."""

    def __init__(self, url):
        self.url = url

    def __enter__(self):
        self.profile = tempfile.mkdtemp(prefix="tidegate-measure-page-")
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
        try:
            self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _open(self):
        # "ChromeDriver was started successfully on port 40123."
        line = next(line for line in self.driver.stdout if "successfully on port" in line)
        self.server = f"http://127.0.0.1:{line.rsplit(' ', 1)[1].strip().rstrip('.')}"
        options = {"args": [*ARGUMENTS, f"--user-data-dir={self.profile}"], "binary": shutil.which("chromium")}
        wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}}
        self.session = f"/session/{self._ask('POST', '/session', wanted)['sessionId']}"

    def __exit__(self, *_):
        if hasattr(self, "session"):
            try:
                self._ask("DELETE", self.session)
            except OSError:
                pass
        self.driver.terminate()
        self.driver.wait()
        shutil.rmtree(self.profile, ignore_errors=True)

    def _ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.server + path, method=method, data=data)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def emulate(self, command, **parameters):
        """A command of Chromium's own protocol."""
        return self._ask("POST", f"{self.session}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def run(self, script):
        return self._ask("POST", f"{self.session}/execute/sync", {"script": script, "args": []})

    def until(self, script, limit=60):
        end = time.monotonic() + limit
        while time.monotonic() < end:
            found = self.run(script)
            if found:
                return found
            time.sleep(0.02)
        raise TimeoutError(f"waited {limit} s for {script}")

    def load(self):
        """Milliseconds from the start of the navigation to the drawn list."""
        self._ask("POST", f"{self.session}/url", {"url": self.url})
        drawn = self.until("return document.querySelectorAll('.item a.name').length > 5 && performance.now();")
        self.run(WATCH)
        # Workers that were lost stand above those that are paused, and only what is in sight is drawn.
        self.run("const filter = document.querySelector('#filter'); filter.value = 'sim-'; filter.dispatchEvent(new Event('input'));")
        return drawn

    def painted(self, worker):
        """When the worker's row, now paused, was painted: seconds since the Unix epoch."""
        return self.until(f"return window.painted[{json.dumps(worker)}] ?? null;", 30) / 1000

    def longest_task(self):
        """Milliseconds: the longest that the page was busy at a stretch since it was asked last; 0 below 50."""
        tasks = self.run("return window.tasks.splice(0);")
        return max(tasks, default=0)

    def heap_mb(self):
        return self.run("return performance.memory.usedJSHeapSize;") / 1e6
