"""The measures on a bucket: backup and restore beside the gateway, and reading over a long way.

Over the long way every program is on a machine that has nothing but its key: no index, no cache.
"""
import contextlib, os, socket, time

from benchlib import proxy
from benchlib.measures import restore_once
from benchlib.places import slow_way

DELAY = 0.010  # seconds in each direction


def buckets(client):
    return client.buckets


def clients(bench):
    """The programs that can use a bucket, each with a repository there."""
    if "buckets" not in bench.made:
        base = bench.world.path("bucket")
        some = [client for client in bench.clients if client.buckets]
        bench.made["buckets"] = {one.name: one.elsewhere(f"{base}/{one.name}", place_of(bench)) for one in some}
    own = bench.made["buckets"]
    return [own[client.name] for client in bench.turns(buckets)]


def place_of(bench):
    return bench.bucket.through(bench.bucket.endpoint)


def bucket(bench):
    if bench.bucket is None:
        return bench.note("No bucket was measured: there is none.")
    bench.read_corpus()
    for client in clients(bench):
        if bench.is_settled(client, "bucket-backup"):
            continue
        with bench.attempt(client, "bucket-backup", "bucket-backup-peak"):
            client.fresh()
            os.sync()
            ran = client.backup(bench.corpus.path)
            bench.made["in bucket", client.name] = True
            bench.seconds("bucket-backup", client.name, ran.seconds)
            bench.bytes("bucket-backup-peak", client.name, ran.peak)
    for client in filled(bench, "bucket-restore"):
        with bench.attempt(client, "bucket-restore", "bucket-restore-peak"):
            restore_once(bench, client, "bucket-restore", "bucket-restore-peak")


def filled(bench, line):
    """The programs whose bucket holds the corpus, or does so now."""
    for client in clients(bench):
        if bench.is_settled(client, line):
            continue
        known = ("in bucket", client.name)
        if known not in bench.made:
            with bench.attempt(client, line):
                client.fresh()
                client.backup(bench.corpus.path)
                bench.made[known] = True
        if known in bench.made:
            yield client


def latency(bench):
    if bench.bucket is None:
        return bench.note("Nothing was measured at 20 ms: there is no bucket.")
    for client in filled(bench, "far-cat"):
        with bench.attempt(client, "far-cat", "far-mount"), far(bench, client) as (tree, took):
            bench.seconds("far-mount", client.name, took)
            first = f"{tree}/{bench.corpus.large[0]}"
            ran = bench.world.shell('head -c "$2" "$1" | wc -c', first, str(bench.scale.far_cat))
            bench.check(int(ran.out) == bench.scale.far_cat, f"{int(ran.out):,} bytes were read")
            bench.seconds("far-cat", client.name, ran.seconds)
    for client in filled(bench, "far-tar"):
        with bench.attempt(client, "far-tar"), far(bench, client) as (tree, _):
            # tar is cut off, which is no failure of it.
            script = '{ tar -C "$1" -cf - . 2>/dev/null || true; } | head -c "$2" | wc -c'
            ran = bench.world.shell(script, f"{tree}/small", str(bench.scale.far_tar))
            bench.check(int(ran.out) == bench.scale.far_tar, f"{int(ran.out):,} bytes were read")
            bench.seconds("far-tar", client.name, ran.seconds)


@contextlib.contextmanager
def far(bench, near):
    """Mounts a bucket from a machine far away that has no cache. Yields the tree, and the seconds until its `ls`."""
    with slow_way(bench.world, near.place.address, DELAY) as port:
        place = near.place.through(f"http://127.0.0.1:{port}")
        client = near.elsewhere(bench.world.path("far", near.name), place)
        bench.world.drop_caches()
        began = time.monotonic()
        with bench.mounted(client, cold=False, peak="far-mount-peak") as tree:
            yield tree, time.monotonic() - began


def proxy_itself(bench):
    """What the proxy adds, and how much it lets through: what it would limit cannot be seen behind it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with slow_way(bench.world, listener.getsockname(), DELAY) as port:
            first, trip, speed = proxy.measure(port, listener, 2 * bench.scale.far_cat >> 20)
    bench.note(f"The proxy: a round trip {trip * 1000:.1f} ms, that of a new connection {first * 1000:.1f} ms, "
               f"{speed / 1e6:,.0f} MB/s through one connection.")
