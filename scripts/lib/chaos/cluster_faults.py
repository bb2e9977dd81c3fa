"""What is done to the nodes of a cluster."""

from __future__ import annotations



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


def last(scene) -> int:
    """How many nodes may have faults: of a quorum queue all, of a classic queue those that it is not on."""
    return 3 if scene.kind == "quorum" else 2


