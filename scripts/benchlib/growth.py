"""How asof's cost grows: with files, with snapshots, with chunks, with small increments.

Each of these takes its own repositories, asof alone, and long to prepare.
"""
import os, random, shutil, time

from benchlib import corpus
from benchlib.bench import rotated
from benchlib.measures import check_copy, find_once, start, tar_once

HERE = os.path.dirname(os.path.abspath(__file__))
GENERATE = os.environ.get("GENERATE", os.path.join(HERE, "..", "..", "target", "release", "examples", "generate"))
CHANGED = 10  # files that a small increment changes


def files(bench):
    """The usual measures on the small files and on many times as many, without large ones in both."""
    sizes = {}
    for column, copies in (("before", 1), ("asof", bench.scale.grown)):
        tree = bench.world.path("extra", f"corpus-{copies}")
        sizes[column] = corpus.build(tree, bench.scale.files, 0, copies)
    for column in rotated(list(sizes), bench.turn):
        one_size(bench, column, sizes[column])


def one_size(bench, column, tree):
    client = bench.somewhere(f"files-{column}")
    bench.world.read_all(tree.path)
    client.fresh()
    for line in ("backup", "unchanged"):
        os.sync()
        ran = client.backup(tree.path)
        bench.seconds(f"files-{line}", column, ran.seconds)
        bench.bytes("files-backup-peak", column, ran.peak)
    mounted = {"peak": "files-mount-peak", "column": column}
    with bench.mounted(client, **mounted) as shown:
        for line in ("files-find", "files-find-again"):
            bench.seconds(line, column, find_once(bench, shown, tree.entries))
    with bench.mounted(client, **mounted) as shown:
        bench.seconds("files-tar", column, tar_once(bench, shown, tree.small_bytes))
    with bench.mounted(client, **mounted) as shown, bench.world.copy_target(tree.all_bytes) as target:
        bench.seconds("files-cp", column, bench.world.run(["cp", "-a", shown, target]).seconds)
        check_copy(bench, tree, target)
    with bench.world.copy_target(tree.all_bytes) as target:
        bench.world.drop_caches()
        ran, restored = client.restore(tree.path, target)
        check_copy(bench, tree, restored)
        bench.seconds("files-restore", column, ran.seconds)
        bench.bytes("files-restore-peak", column, ran.peak)
    shutil.rmtree(client.base)


def starts(bench):
    """The start of a mount of repositories that a generator has filled."""
    few, *more = bench.scale.start_snapshots
    chunks, many = bench.scale.start_chunks
    lines = {"start-snapshots": (chunks, more[0]), "start-more-snapshots": (chunks, more[1]),
             "start-chunks": (many, few)}
    # The one that the others are compared with is not in a line of its own.
    clients = {line: generated(bench, *size) for line, size in {None: (chunks, few), **lines}.items()}
    took = {}
    for line in rotated(list(clients), bench.turn):
        start(bench, clients[line])  # the first brings things into the page cache
        took[line] = start(bench, clients[line])
    for line in lines:
        bench.seconds(line, "asof", took[line])
        bench.seconds(line, "before", took[None])


def generated(bench, chunks, snapshots):
    name = f"generated-{chunks}-{snapshots}"
    if name not in bench.made:
        client = bench.made[name] = bench.somewhere(name)
        client.fresh()
        client.run([GENERATE, client.place.path, str(chunks), str(snapshots)])
    return bench.made[name]


def increments(bench):
    """The newest of many snapshots of a tree that changes a little each time, beside one of its end alone."""
    if "increments" not in bench.made:
        bench.made["increments"] = grow_by_increments(bench)
    tree, clients = bench.made["increments"]
    for column in rotated(list(clients), bench.turn):
        with bench.mounted(clients[column], peak=None) as shown:
            bench.seconds("increments-find", column, find_once(bench, shown, tree.entries))
        with bench.mounted(clients[column], peak=None) as shown:
            bench.seconds("increments-tar", column, tar_once(bench, shown, tree.small_bytes))


def grow_by_increments(bench):
    tree = corpus.build(bench.world.path("extra", "corpus-changing"), bench.scale.files, 0)
    # From here on it is not what its note says.
    os.remove(tree.path + corpus.NOTE)
    rng, paths = random.Random(1), list(corpus.walk(f"{tree.path}/small"))
    grown = bench.somewhere("increments")
    grown.fresh()
    grown.backup(tree.path)
    began = time.monotonic()
    for number in range(bench.scale.increments):
        for path in rng.sample(paths, CHANGED):
            # As long as before, so that only what is in it differs.
            with open(path, "r+b") as file:
                file.write(b"%08d" % number if os.path.getsize(path) >= 8 else b"%d" % (number % 10))
        grown.backup(tree.path)
    took = (time.monotonic() - began) / bench.scale.increments
    bench.note(f"A small increment, {CHANGED} files of {tree.files:,}: {took * 1000:.0f} ms on the average.")
    at_once = bench.somewhere("at-once")
    at_once.fresh()
    at_once.backup(tree.path)
    return tree, {"before": at_once, "asof": grown}
