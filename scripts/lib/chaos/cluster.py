"""Three RabbitMQ nodes in containers. The network between the nodes is not that of the clients, so that a node can be cut
off from the others while its clients still reach it."""

from __future__ import annotations

import os
import random
import tempfile
import time
import uuid
from pathlib import Path

import pika

from broker import Container, Node, docker

NAMES = ("n1", "n2", "n3")


class ClusterNode(Container):
    """One node. `peer`: its address for the other nodes; `host`: for clients."""

    port = 5672

    def __init__(self, cluster, name, peer, host):
        self.cluster, self.name, self.peer, self.host = cluster, name, peer, host

    def cut_off(self):
        """The other nodes do not reach it any more; clients do."""
        docker("network", "disconnect", self.cluster.peers, self.id)

    def join_again(self):
        self.cluster.connect_peer(self)


class Cluster:
    """The cluster. For clients it is one broker."""

    port = 5672

    def __init__(self, image: str):
        self.name = "chaos-%s" % uuid.uuid4().hex[:8]
        self.peers = self.name + "-peers"
        self.nodes, self.networks = [], []
        try:
            self._begin(image)
        except BaseException:
            self.remove()
            raise

    def _begin(self, image):
        base = "10.%d.%d" % (random.randrange(200, 250), random.randrange(256))
        # Without an address of the host in it no packet takes a detour over the host.
        docker("network", "create", "--opt", "com.docker.network.bridge.inhibit_ipv4=true", "--subnet", base + ".0/28", self.peers)
        self.networks.append(self.peers)
        for index, name in enumerate(NAMES):
            # A network of its own for the clients of each node: on a common one the nodes would find each other by name.
            network, first = "%s-%s" % (self.name, name), 16 + 8 * index
            docker("network", "create", "--subnet", "%s.%d/29" % (base, first), network)
            self.networks.append(network)
            self.nodes.append(ClusterNode(self, name, "%s.%d" % (base, 3 + index), "%s.%d" % (base, first + 2)))
        for node in self.nodes:
            self._create(image, node)
        for node in self.nodes:
            node.await_up()
        end = time.monotonic() + 120
        while any(self.nodes[0].control("cluster_status").count("rabbit@%s: RabbitMQ" % name) == 0 for name in NAMES):
            if time.monotonic() > end:
                raise RuntimeError("the nodes did not form a cluster")
            time.sleep(0.5)

    def _create(self, image, node):
        network = "%s-%s" % (self.name, node.name)
        node.id = docker(
            "create", "--name", network, "--hostname", node.name, "--network", network, "--ip", node.host,
            "--env", "RABBITMQ_ERLANG_COOKIE=" + self.name, image,
        )
        self.connect_peer(node)
        with tempfile.TemporaryDirectory() as directory:
            os.chmod(directory, 0o755)
            folder = Path(directory) / "conf.d"
            folder.mkdir(mode=0o755)
            lines = ["cluster_formation.peer_discovery_backend = classic_config"]
            lines += ["cluster_formation.classic_config.nodes.%d = rabbit@%s" % (1 + at, name) for at, name in enumerate(NAMES)]
            (folder / "20-cluster.conf").write_text("\n".join(lines) + "\n")
            os.chmod(folder / "20-cluster.conf", 0o644)
            docker("cp", directory + "/.", node.id + ":/etc/rabbitmq/")
        docker("start", node.id)

    def connect_peer(self, node):
        docker("network", "connect", "--alias", node.name, "--ip", node.peer, self.peers, node.id)

    def hosts(self, count: int) -> str:
        """The line of [broker] that names the first `count` nodes; its URL names the first."""
        return "hosts = [%s]" % ", ".join('"%s:5672"' % node.host for node in self.nodes[1:count])

    def url(self, _port=None, user="guest:guest") -> str:
        return self.nodes[0].url(user=user)

    def connect(self):
        """A connection to the first node that takes one, from the last: faults begin at the first."""
        error = None
        for node in reversed(self.nodes):
            try:
                return node.connect()
            except (pika.exceptions.AMQPError, OSError) as failed:
                error = failed
        raise error

    def control(self, *words) -> str:
        return self.nodes[2].control(*words)

    channel, depth, take, take_all, take_letters = Node.channel, Node.depth, Node.take, Node.take_all, Node.take_letters

    def remove(self):
        for node in self.nodes:
            if node.id:
                docker("rm", "--force", "--volumes", node.id, check=False)
        for network in self.networks:
            docker("network", "rm", network, check=False)
