"""What is done to the broker, its queues and its users."""

from __future__ import annotations

import time

REFUSED = "^$"  # a pattern of names that permits nothing


def broker_killed(scene):
    """SIGKILL of the broker."""
    while scene.time_left():
        scene.pause(1, 3)
        scene.broker.kill()
        scene.broker.start()
        scene.restarts += 1


def broker_stopped(scene):
    """The broker is stopped in order."""
    while scene.time_left():
        scene.pause(1, 3)
        scene.broker.stop()
        scene.broker.start()
        scene.restarts += 1


def broker_paused(scene):
    """The broker's process stands still."""
    while scene.time_left():
        scene.broker.pause()
        scene.pause(0.5, 3)
        scene.broker.unpause()
        scene.pause(0.5, 1)


def alarm(scene):
    """A memory alarm, during rolling restarts."""
    while scene.time_left():
        scene.broker.control("set_vm_memory_high_watermark", "0.000001")
        worker = scene.pick()
        scene.settle(worker, worker.drain())
        scene.broker.control("set_vm_memory_high_watermark", "0.6")
        scene.again(worker)


def disk_alarm(scene):
    """A disk alarm, during rolling restarts."""
    while scene.time_left():
        scene.broker.control("set_disk_free_limit", "1000000000000000")
        worker = scene.pick()
        scene.settle(worker, worker.drain())
        scene.broker.control("set_disk_free_limit", "50MB")
        scene.again(worker)


def connections_closed(scene):
    """An operator closes all connections."""
    while scene.time_left():
        scene.pause(0.5, 1.5)
        # Those of the publisher too: what it does not know, it says.
        scene.broker.control("close_all_connections", "chaos")


def queue_deleted(scene):
    """The queue is deleted when it is empty. The workers declare it again."""
    while scene.time_left():
        scene.pause(0.5, 1.5)
        scene.publisher.rest()
        scene.until_worked_off()
        scene.broker.delete(scene.queue)
        scene.recovered()
        scene.publisher.go_on()


def queue_purged(scene):
    """The queue is purged. What the broker says it threw away is all that may be missing."""
    while scene.time_left():
        scene.pause(0.5, 1.5)
        connection = scene.broker.connect()
        channel = connection.channel()
        # With a backlog, so that there is something to purge.
        scene.publisher.rest()
        first = scene.publisher.number
        for number in range(first + 1, first + 201):
            channel.confirm_delivery() if number == first + 1 else None
            scene.publisher.one(channel, "m-%d" % number)
        scene.publisher.number = first + 200
        scene.purged += channel.queue_purge(scene.queue).method.message_count
        connection.close()
        scene.note = "%d messages purged" % scene.purged
        scene.publisher.go_on()


def consumer_timeout(scene):
    """Some runs take longer than the broker allows a consumer."""
    while scene.time_left():
        scene.pause(0.5, 1)


def set_consumer_timeout(scene):
    """The broker looks every second for deliveries that are 2 s old."""
    scene.broker.evaluate(
        "application:set_env(rabbit, channel_tick_interval, 1000), application:set_env(rabbit, consumer_timeout, 2000)."
    )


def add_user(scene):
    """A user for the workers, whose password is in a file."""
    (scene.directory / "password").write_text("first")
    scene.broker.control("add_user", "worker", "first")
    scene.broker.control("set_permissions", "worker", ".*", ".*", ".*")


def permissions(scene):
    """The workers' user may do nothing for a while, then everything again."""
    while scene.time_left():
        scene.pause(0.5, 1.5)
        scene.broker.control("set_permissions", "worker", REFUSED, REFUSED, REFUSED)
        scene.broker.control("close_all_user_connections", "worker", "chaos")
        scene.pause(0.5, 2)
        scene.broker.control("set_permissions", "worker", ".*", ".*", ".*")
        scene.recovered()


def password(scene):
    """The password changes at the broker, and in the workers' file a moment later."""
    number = 0
    while scene.time_left():
        scene.pause(0.5, 1.5)
        number += 1
        scene.broker.control("change_password", "worker", "secret-%d" % number)
        scene.broker.control("close_all_user_connections", "worker", "chaos")
        scene.pause(0.2, 2)
        (scene.directory / "password").write_text("secret-%d" % number)
        scene.recovered()


def limit_dead_letters(scene, length=1_000_000):
    """A policy for the queue of dead letters: beyond `length` it refuses. It is there from the start, because a classic queue
    drops what is too much when a limit and `reject-publish` come to it at the same time."""
    limits = '{"max-length": %d, "overflow": "reject-publish"}' % length
    scene.broker.control("set_policy", "full", "^%s.dead$" % scene.queue, limits, "--apply-to", "queues")


def dead_letters_full(scene):
    """The queue of dead letters takes no more, until somebody makes room."""
    while scene.time_left():
        limit_dead_letters(scene, 1)
        scene.pause(1.5, 3)
        limit_dead_letters(scene)
        scene.pause(0.5, 1)


def dead_letters_missing(scene):
    """The queue of dead letters is deleted, again and again."""
    name = scene.queue + ".dead"
    while scene.time_left():
        scene.pause(0.5, 1.5)
        # Nobody may lose a letter with it: nothing is decided while it is emptied.
        scene.publisher.rest()
        scene.until_worked_off()
        scene.taken += scene.broker.take_letters(name)
        scene.broker.delete(name)
        scene.restarts += 1
        scene.publisher.go_on()
        # It is there again once a message needed it.
        end = time.monotonic() + 30
        while not scene.broker.exists(name):
            if time.monotonic() > end:
                scene.faults.append("%s is not declared again" % name)
                return
            time.sleep(0.1)
