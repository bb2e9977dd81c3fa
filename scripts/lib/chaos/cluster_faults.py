"""What is done to the nodes of a cluster."""

from __future__ import annotations

import time

CUT_OFF = 150.0  # seconds: after 130 s or so the broker gives what the node holds to others
NOTICED = 90.0  # seconds until a worker must say that it cannot consume: RabbitMQ itself needs 75 s



def declare_elsewhere(scene):
    """The queues' home is the last node, which has no faults: a classic queue would be down with its node."""
    connection = scene.broker.nodes[2].connect()
    channel = connection.channel()
    for queue in (scene.queue, scene.queue + ".dead"):
        arguments = {"x-queue-type": scene.kind}
        if scene.kind == "quorum":
            arguments |= {"x-delivery-limit": -1} if scene.chosen.image.find(":3") < 0 else {}
        channel.queue_declare(queue, durable=True, arguments=arguments)
    connection.close()


def node_killed(scene):
    """One node after the other is killed with SIGKILL."""
    while scene.time_left():
        scene.pause(1, 3)
        node = scene.random.choice(scene.broker.nodes[: last(scene)])
        node.kill()
        scene.pause(1, 4)
        node.start()
        scene.restarts += 1


def node_paused(scene):
    """One node after the other stands still."""
    while scene.time_left():
        scene.pause(0.5, 2)
        node = scene.random.choice(scene.broker.nodes[: last(scene)])
        node.pause()
        scene.pause(2, 8)
        node.unpause()
        scene.restarts += 1


def node_cut_off(scene):
    """A node is cut off from the other nodes, while its clients still reach it."""
    while scene.time_left():
        scene.pause(1, 2)
        node = scene.random.choice(scene.broker.nodes[:2])
        node.cut_off()
        scene.pause(10, 20)
        node.join_again()
        scene.pause(2, 4)
        scene.restarts += 1


def consumer_cut_off(scene):
    """The node that the only worker consumes from is cut off for 150 s. The worker must not call itself ready for long."""
    cut_off_from_worker(scene).join_again()
    scene.pause(3, 4)


def cut_off_from_worker(scene):
    """The node, cut off until something runs again or the time is over."""
    scene.pause(2, 3)
    worker = scene.workers[0]
    host = worker.lines('"purpose":"consume"')[-1]["host"]
    node = next(one for one in scene.broker.nodes if one.host == host)
    node.cut_off()
    scene.pause(3, 3)
    begun, ran, ready = time.monotonic(), len(scene.service.runs), 0.0
    while len(scene.service.runs) == ran and time.monotonic() < begun + CUT_OFF:
        if worker.ready():
            ready = time.monotonic() - begun
        time.sleep(0.5)
    stalled = time.monotonic() - begun
    scene.note = "nothing ran for %.0f s; the worker called itself ready for %.0f s of it" % (stalled, ready)
    if ready > NOTICED:
        scene.faults.append(scene.note)
    return node


def only_host_cut_off(scene):
    """As before, but the worker knows no other host: it goes on once that node is back."""
    node = cut_off_from_worker(scene)
    ran = len(scene.service.runs)
    node.join_again()
    back = time.monotonic()
    while len(scene.service.runs) == ran and time.monotonic() < back + CUT_OFF:
        time.sleep(0.5)
    scene.note += ", and %.0f s after its return" % (time.monotonic() - back)


def last(scene) -> int:
    """How many nodes may have faults: of a quorum queue all, of a classic queue those that it is not on."""
    return 3 if scene.kind == "quorum" else 2


