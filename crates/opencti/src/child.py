"""The Python side of Tidegate's OpenCTI worker: it splits bundles and imports objects with pycti.

Started as `python3 -I -c <this text> serve|work <socket> <name>`. The first line of standard input is a JSON
object with the settings and a secret. Requests and answers are JSON lines on a connection to the abstract socket;
standard output and standard error are log lines.

`serve` imports pycti once and forks a child for each name that it is asked for. `work` is one such child without a
server. A child does one request at a time, decides nothing, waits for nothing but the platform, and dies with its
parent.
"""

import ctypes
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import threading

PR_SET_PDEATHSIG = 1
STACK_BYTES = 512 << 20
RECURSION_LIMIT = 30_000
TEXT_LIMIT = 200_000


def die_with_parent():
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


class Channel:
    """JSON lines on a connection to the worker."""

    def __init__(self, address, hello):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect("\0" + address)
        self.lines = self.socket.makefile("rb", buffering=1 << 16)
        self.send(hello)

    def send(self, message):
        line = json.dumps(message, allow_nan=False, separators=(",", ":"))
        self.socket.sendall(line.encode("ascii") + b"\n")


def authorities(settings):
    """What `requests` verifies certificates with. Additional authorities go to a file in memory: the file system
    may be read-only."""
    more = settings["ca_certificates"]
    if more is None:
        return settings["verify"]
    text = more
    for path in (settings["verify"], "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"):
        if isinstance(path, str) and os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                text = file.read() + "\n" + more
            break
    descriptor = os.memfd_create("authorities", 0)
    with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
        file.write(text)
    return f"/proc/self/fd/{descriptor}"


class Child:
    """Does requests, one after the other."""

    def __init__(self, settings, verify, channel):
        self.settings = settings
        self.verify = verify
        self.channel = channel
        self.clients = {}
        self.response = None

    def run(self):
        for line in self.channel.lines:
            request = json.loads(line)
            del line
            answer = {"id": request["id"]}
            self.response = None
            try:
                getattr(self, "do_" + request["do"])(request)
                answer["done"] = True
            except (Exception, SystemExit) as error:
                answer["failed"] = self.describe(error)
            del request
            answer["memory"] = memory()
            self.channel.send(answer)

    def do_split(self, request):
        from pycti.utils.opencti_stix2_splitter import OpenCTIStix2Splitter
        from pycti.utils.opencti_stix2_utils import OpenCTIStix2Utils

        bundle = request["bundle"]
        bundle["id"] = request["bundle_id"]
        version = request["event_version"]
        splitter = OpenCTIStix2Splitter()
        _, incompatible, bundles = splitter.split_bundle_with_expectations(bundle, False, version)
        number = request["id"]
        if request["parts"]:
            # What is incompatible is a part, too: whoever imports it finds that out again, and tells the work.
            for element in incompatible:
                bundles.append(splitter.stix2_create_bundle(bundle["id"], element["nb_deps"], [element], False, version))
            for part in bundles:
                self.channel.send({"id": number, "part": part})
            return
        for element in incompatible:
            self.channel.send({"id": number, "incompatible": True, "element": element["id"], "item": element})
        for part in bundles:
            for item in part["objects"]:
                references = OpenCTIStix2Utils.compute_object_refs_number(item)
                self.channel.send({"id": number, "references": references, "element": item["id"], "item": item})

    def do_import(self, request):
        api = self.client(request["connector"], request["token"])
        headers = request["headers"]
        api.request_headers.update(headers)
        api.draft_id = headers["opencti-draft-id"] or ""
        api.stix2.import_item(
            request["item"], request["update"], request["types"], None, request["bundle_id"]
        )

    def client(self, connector, token):
        """pycti caches labels and the like by client, so each connector has its own."""
        known = self.clients.get(connector)
        if known is not None and known[0] == token:
            return known[1]
        from pycti import OpenCTIApiClient

        api = OpenCTIApiClient(
            self.settings["url"],
            token,
            self.settings["log_level"],
            self.verify,
            json_logging=self.settings["json_logging"],
            custom_headers=self.settings["custom_headers"],
            requests_timeout=self.settings["requests_timeout"],
            perform_health_check=False,
            provider=self.settings["provider"],
        )
        api.session.hooks["response"].append(self.note)
        self.clients[connector] = (token, api)
        return api

    def note(self, response, *_args, **_kwargs):
        self.response = response

    def describe(self, error):
        """The signs of a failure; what they mean is decided elsewhere."""
        sign = {
            "classes": [base.__name__ for base in type(error).__mro__[:-1]],
            "text": str(error)[:TEXT_LIMIT],
        }
        cause = error.args[0] if error.args else None
        response = self.response
        if isinstance(cause, dict) and "name" in cause:
            sign["name"] = str(code_of(response, cause) or cause["name"])
            sign["status"] = 200
        elif response is not None:
            is_its_text = isinstance(cause, str) and response.status_code != 200 and cause == response.text
            if is_its_text or "JSONDecodeError" in sign["classes"]:
                sign["status"] = response.status_code
                sign["retry_after"] = response.headers.get("Retry-After")
        return sign


def code_of(response, cause):
    """The code of a GraphQL error that has no name. Older versions of pycti take its message for the name."""
    try:
        error = response.json()["errors"][0]
        if not error.get("name") and error["message"] == cause["error_message"]:
            return error["extensions"]["code"]
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        pass
    return None


def memory():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def work(settings, verify, address, name):
    hello = {"secret": settings["secret"], "name": name, "pid": os.getpid()}
    hello.update(versions())
    child = Child(settings, verify, Channel(address, hello))
    # The splitter recurses once for each reference of a chain.
    sys.setrecursionlimit(RECURSION_LIMIT)
    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(target=child.run)
    thread.start()
    thread.join()


def serve(settings, verify, address, name):
    hello = {"secret": settings["secret"], "name": name, "pid": os.getpid()}
    hello.update(versions())
    channel = Channel(address, hello)
    channel.socket.setblocking(False)
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    # What is there now is shared by all children: collecting garbage would copy it.
    gc.collect()
    gc.freeze()
    children = {}
    waiting = b""
    while True:
        readable, _, _ = select.select([channel.socket, wake], [], [])
        if wake in readable:
            os.read(wake, 4096)
        reap(children, channel)
        if channel.socket not in readable:
            continue
        received = channel.socket.recv(1 << 16)
        if not received:
            return
        *lines, waiting = (waiting + received).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if "kill" in request:
                pid = children.get(request["kill"])
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
            elif fork(request["fork"], children, channel) == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                channel.socket.close()
                os.close(wake)
                os.close(woken)
                die_with_parent()
                work(settings, verify, address, request["fork"])
                return


def fork(name, children, channel):
    try:
        pid = os.fork()
    except OSError as error:
        answer(channel, {"failed": name, "error": str(error)})
        return None
    if pid > 0:
        children[name] = pid
    return pid


def reap(children, channel):
    for name, pid in list(children.items()):
        reaped, status = os.waitpid(pid, os.WNOHANG)
        if reaped == pid:
            del children[name]
            answer(channel, {"died": name, "status": os.waitstatus_to_exitcode(status)})


def answer(channel, message):
    channel.socket.setblocking(True)
    channel.send(message)
    channel.socket.setblocking(False)


def versions():
    import pycti

    return {"pycti": pycti.__version__, "python": sys.version.split()[0]}


def main():
    die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    role, address, name = sys.argv[1:4]
    settings = json.loads(sys.stdin.readline())
    # pycti would write these to a temporary folder, and register handlers of signals.
    os.environ.pop("HTTPS_CA_CERTIFICATES", None)
    verify = authorities(settings)
    (serve if role == "serve" else work)(settings, verify, address, name)


main()
