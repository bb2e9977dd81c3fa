"""The scenarios, in the order of the table."""

from __future__ import annotations

import broker_faults as broker
import cluster_faults as cluster
import handler_faults as handler
import message_faults as message
import network_faults as network
import opencti
import process_faults as process
import soak
from scenario import Scenario

# Longer than a child needs to start on a busy machine: a time-out that ends it before would do so again and again.
POOL_NODE = 'timeout = "5s"'

ALL = [
    Scenario("rolling SIGTERM", process.rolling),
    Scenario("exact drain reports", process.exact_drains, short="quorum"),
    Scenario("second signal", process.second_signal, may_repeat=True, may_interrupt=True, seconds=(0.3, 0.6)),
    Scenario("deadline passed", process.deadline, may_repeat=True, may_interrupt=True, grace="1s", seconds=(0.2, 1.6), short="classic"),
    Scenario("kill -9", process.killed, may_repeat=True, may_interrupt=True, short="classic"),
    Scenario("pause and resume", process.pause_and_resume),
    Scenario("SIGSTOP", process.stopped, may_repeat=True),
    Scenario("SIGHUP", process.reload),
    Scenario("log stalled", process.log_stalls),
    Scenario("log gone", process.log_goes, short="quorum"),
    Scenario("single active consumer", process.rolling, more="single_active_consumer = true", all_ready=False),
    Scenario("poison", message.poison, short="classic"),
    Scenario(
        "bodies at the limits", message.limits, rate=20, more='max_body = "1MiB"', expected=message.body_at_limits,
        body=lambda one: ({}, message.body_at_limits(one)),
    ),
    Scenario(
        "hard headers", message.headers, body=message.hard_headers, may_repeat=True,
    ),
    Scenario("cuts", network.cuts, proxied=True, workers=1),
    Scenario("cuts, three workers", network.cuts, proxied=True, may_repeat=True, short="quorum"),
    Scenario("cuts in drains", network.cuts_and_drains, proxied=True, may_repeat=True),
    Scenario("black holes", network.black_holes, proxied=True, may_repeat=True),
    Scenario("slow link", network.slow_link, proxied=True),
    Scenario("connections closed", broker.connections_closed, may_repeat=True),
    Scenario("memory alarm", broker.alarm, may_repeat=True, short="quorum"),
    Scenario("disk alarm", broker.disk_alarm, may_repeat=True),
    Scenario("broker paused", broker.broker_paused, may_repeat=True),
    Scenario("broker stopped", broker.broker_stopped, may_repeat=True),
    Scenario("broker killed", broker.broker_killed, may_repeat=True, short="quorum"),
    Scenario("queue deleted", broker.queue_deleted, short="classic"),
    Scenario("queue purged", broker.queue_purged),
    Scenario(
        "consumer time-out", broker.consumer_timeout, prepare=broker.set_consumer_timeout, may_repeat=True, seconds=(0.2, 4), rate=8,
    ),
    Scenario(
        "permissions", broker.permissions, prepare=broker.add_user, user="worker", broker='password_file = "DIRECTORY/password"',
        may_repeat=True,
    ),
    Scenario(
        "password", broker.password, prepare=broker.add_user, user="worker", broker='password_file = "DIRECTORY/password"', may_repeat=True,
    ),
    Scenario("dead letters full", broker.dead_letters_full, prepare=broker.limit_dead_letters, dead=0.1),
    Scenario("dead letters missing", broker.dead_letters_missing, dead=0.1, short="quorum"),
    Scenario("children killed", handler.children_killed, handler=handler.POOL % ("", ""), may_interrupt=True, exact=False,
             more=POOL_NODE, attempts=50, workers=2, rate=60, short="classic"),
    Scenario("children hang", handler.children_hang, handler=handler.POOL % ("", ""), may_interrupt=True, exact=False,
             more=POOL_NODE, attempts=50, workers=2, rate=60),
    Scenario("children leak", handler.leaks, handler=handler.POOL % (', "leak"', ', max_rss = "64MiB"'), exact=False, workers=2, rate=60),
    Scenario("processes left behind", handler.leaks, handler=handler.LEAVER, exact=False, workers=2, rate=8),
    Scenario("runs that hang", handler.hangs, hangs=0.02, more='timeout = "1s"', attempts=5, may_interrupt=True, exact=False),
    Scenario("node killed", cluster.node_killed, cluster=True, prepare=cluster.declare_elsewhere, may_repeat=True),
    Scenario("node paused", cluster.node_paused, cluster=True, prepare=cluster.declare_elsewhere, may_repeat=True),
    Scenario("node cut off", cluster.node_cut_off, cluster=True, prepare=cluster.declare_elsewhere, may_repeat=True, least=30),
    Scenario("consumer cut off", cluster.consumer_cut_off, cluster=True, prepare=cluster.declare_elsewhere, workers=1, hosts=2, rate=20),
    Scenario("only host cut off", cluster.only_host_cut_off, cluster=True, prepare=cluster.declare_elsewhere, workers=1, hosts=1, rate=20),
    *opencti.ALL,
    Scenario("100 reconnects", soak.cut_100_times, proxied=True, workers=1, types=("quorum",)),
]
