"""How often the mount asks the store, as it counts itself in `.asof/counters.json`.

Requests to a bucket are what is paid for, so a bucket is asked if there is one. How much is to be
read comes from repositories that hold just that.
"""
import glob, json, os, sqlite3, time

from benchlib.measures import find_once

DATA_PER_GET, NODES_PER_GET = 8 << 20, 4 << 20
HELD = 1.0  # seconds for which the mount shows the same counters again


def requests(bench):
    bench.note(f"Requests were counted on a {'directory' if bench.bucket is None else 'bucket'}.")
    large = f"{bench.corpus.path}/large"
    client = filled(bench, "one-file", large)
    stored = sum(size for kind, size in packs(client) if kind == "data")
    names = [os.path.basename(name) for name in bench.corpus.large]
    gets = counted(bench, client, lambda tree: bench.world.run(["cat", *(f"{tree}/{name}" for name in names)],
                                                              discard=True))
    tell(bench, "gets-cat", gets, stored, DATA_PER_GET)
    client = filled(bench, "all-files", bench.corpus.path)
    nodes = sum(size for kind, size in packs(client) if kind == "node")
    gets = counted(bench, client, lambda tree: find_once(bench, tree, bench.corpus.entries))
    tell(bench, "gets-find", gets, nodes, NODES_PER_GET)


def filled(bench, name, tree):
    """A repository of asof's own that holds a tree: in the bucket, if there is one."""
    if name not in bench.made:
        client = bench.somewhere(name)
        if bench.bucket is not None:
            client.place = bench.bucket.through(bench.bucket.endpoint)
        client.fresh()
        client.backup(tree)
        bench.made[name] = client
    return bench.made[name]


def packs(client):
    """What is stored, by kind: only the index tells nodes from data."""
    [index] = glob.glob(f"{client.base}/cache/**/*.sqlite", recursive=True)
    with sqlite3.connect(f"file:{index}?mode=ro", uri=True) as database:
        return [("node" if kind else "data", size) for kind, size in database.execute("SELECT kind, size FROM pack")]


def counted(bench, client, action):
    """How many GETs something costs in a mount that has read nothing but the top."""
    bench.world.drop_caches()
    with bench.world.mounted(client.mount_command(), client.point, client.env()):
        tree = client.shown(bench.corpus.path)
        before = client.fetches()[0]
        asked = time.monotonic()
        action(tree)
        time.sleep(max(0, asked + HELD - time.monotonic()))
        return client.fetches()[0] - before


def tell(bench, line, gets, stored, per_get):
    bench.results.record(line, "asof", gets)
    bench.results.record(line, "allowed", -(-stored // per_get))
    bench.tell(line, "asof", f"{gets} GETs for {stored / 1e6:,.1f} MB")
