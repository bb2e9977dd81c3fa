"""A broker in a container, the fleet program, simulations, real workers: started, and ended."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
TOKEN = "measured-and-thrown-away"
WAIT = 180


def until(what, probe, limit=WAIT):
    """The first true answer of `probe`, which is asked for at most `limit` seconds."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        found = probe()
        if found:
            return found
        time.sleep(0.05)
    raise TimeoutError(f"waited {limit} s: {what}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A `tidegate` process; its log, as JSON, is read."""

    def __init__(self, program, arguments):
        command = [program, "--log-format", "json", "--log", "info", *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stderr:
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                self.lines.append({"message": line.strip()})

    def logged(self, message, limit=WAIT):
        def probe():
            found = [line for line in self.lines if line.get("message") == message]
            if not found and self.process.poll() is not None:
                raise RuntimeError(f"it has ended: {self.lines[-3:]}")
            return found

        return until(f"{message!r} is logged", probe, limit)[0]

    def end(self, how=signal.SIGTERM, limit=60):
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def finished(self):
        """Ends it in order; the JSON that it prints."""
        self.end(limit=300)
        return json.load(self.process.stdout)

    def processor_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self):
        """Resident now, and at most, in MB."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            lines = dict(line.split(":", 1) for line in status if ":" in line)
        return tuple(int(lines[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))


class Scene:
    """Everything that is measured; ended when left."""

    def __init__(self, chosen):
        self.chosen = chosen
        self.directory = tempfile.mkdtemp(prefix="tidegate-measure-")
        self.container = f"tidegate-measure-{os.getpid()}"
        self.started = []
        self.amqp_port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.amqp_port}/%2f"

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self):
        publish = f"127.0.0.1:{self.amqp_port}:5672"
        self.docker("run", "--detach", "--name", self.container, "--publish", publish, self.chosen.image)
        until("the broker takes connections", self._broker_answers)
        self.start_fleet()

    def start_fleet(self):
        """A fleet program that has read the log to its end."""
        self.fleet = self.start("fleet", "-c", self.config("fleet.toml", self._fleet_config()))
        address = self.fleet.logged("http server is listening")["address"]
        self.http = f"http://{address}"
        self.fleet.logged("the log is read to its end")

    def _broker_answers(self):
        command = ["docker", "exec", self.container, "rabbitmqctl", "await_startup", "--timeout", "5"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _fleet_config(self):
        return f'[broker]\nurl = "{self.url}"\n[fleet]\nhttp = "127.0.0.1:0"\ntoken = "{TOKEN}"\n'

    def __exit__(self, *_):
        for process in reversed(self.started):
            process.end(limit=20)
        subprocess.run(["docker", "rm", "--force", "--volumes", self.container], capture_output=True, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def docker(self, *arguments):
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"docker {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    def config(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def start(self, *arguments):
        process = Process(self.chosen.bin, arguments)
        self.started.append(process)
        return process

    def simulate(self, load):
        chosen = self.chosen
        return self.start(
            "simulate", "--json", "--url", self.url, "--workers", str(chosen.workers), "--nodes",
            str(chosen.nodes), "--load", str(load), "--duration", "3h",
        )

    def worker(self, name):
        """A real worker that has nothing to do."""
        text = (
            f'[broker]\nurl = "{self.url}"\n[worker]\nname = "{name}"\nhttp = "off"\n'
            f'[[node]]\nqueue = "{name}"\ntype = "classic"\nhandler = {{ log = {{}} }}\n'
        )
        worker = self.start("worker", "-c", self.config(f"{name}.toml", text))
        worker.id = worker.logged("worker starting")["worker"]
        worker.logged("worker running")
        return worker

    def enable_events(self):
        """Turns the broker's event exchange on; the fleet program finds it by itself."""
        self.docker("exec", self.container, "rabbitmq-plugins", "enable", "rabbitmq_event_exchange")
        until("the fleet program hears events", lambda: self.summary()["broker"]["events"])

    def summary(self):
        with urllib.request.urlopen(f"{self.http}/api/v1/summary", timeout=30) as answer:
            return json.load(answer)

    def workers(self):
        """Every worker, as the API shows it."""
        with urllib.request.urlopen(f"{self.http}/api/v1/workers?limit=10000", timeout=30) as answer:
            return json.load(answer)["workers"]

    def watch(self, shown):
        """Tells the fleet program what a page shows: the list of all, and these workers on the screen."""
        body = json.dumps({"all": True, "workers": sorted(shown)}).encode()
        request = urllib.request.Request(
            f"{self.http}/api/v1/watch", method="POST", data=body, headers={"content-type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=30).close()

    def command(self, worker, word):
        request = urllib.request.Request(
            f"{self.http}/api/v1/workers/{worker}/{word}", method="POST", data=b"",
            headers={"authorization": f"Bearer {TOKEN}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
