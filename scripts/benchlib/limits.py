"""How far asof is from what the kernel allows: a file system that does nothing, and a plain file.

The file system is tests/tools/nothing.rs: the same tree out of memory, with everything that saves
the kernel questions. What asof reads from is in the page cache, so that neither waits for a disk.
"""
import contextlib, os, subprocess

from benchlib.bench import rotated
from benchlib.corpus import totals
from benchlib.measures import tar_once

HERE = os.path.dirname(os.path.abspath(__file__))
NOTHING = os.environ.get("NOTHING", os.path.join(HERE, "..", "..", "target", "release", "examples", "nothing"))


def limit(bench):
    bench.fill(bench.asof)
    ways = [("asof", own), ("limit", nothing)]
    for line, action in (("limit-tar", tar), ("limit-cp", cp)):
        for column, way in rotated(ways, bench.turn):
            bench.world.drop_caches()
            with way(bench) as tree:
                bench.world.run(["ls", tree])
                bench.seconds(line, column, action(bench, f"{tree}/small"))
    passthrough(bench)


@contextlib.contextmanager
def own(bench, *options):
    client = bench.asof
    bench.world.read_all(client.base, client.place.path)
    with bench.world.mounted(client.mount_command(*options), client.point, client.env()):
        yield client.shown(bench.corpus.path)


@contextlib.contextmanager
def nothing(bench):
    with serving_nothing(bench, bench.corpus.path) as (point, _):
        yield point


@contextlib.contextmanager
def serving_nothing(bench, tree):
    """The file system that does nothing, over a tree. Yields its root and its process."""
    point = bench.world.path("nothing")
    # It ends with its input, and so with this program whatever becomes of it.
    with bench.world.mounted([NOTHING, tree, point], point, stdin=subprocess.PIPE) as process:
        yield point, process


def tar(bench, small):
    return tar_once(bench, os.path.dirname(small), bench.corpus.small_bytes)


def cp(bench, small):
    with bench.world.copy_target(bench.corpus.small_bytes) as target:
        took = bench.world.run(["cp", "-a", small, target]).seconds
        files, size = totals(target)
        bench.check((files, size) == (bench.corpus.files, bench.corpus.small_bytes), f"copied {files:,} files")
        return took


def passthrough(bench):
    if not bench.asof.has_option("mount", "--passthrough"):
        return bench.note("No large file was read by passthrough: `asof mount` has no such option.")
    plain = f"{bench.corpus.path}/{bench.corpus.large[0]}"
    with own(bench, "--passthrough") as tree:
        files = [("asof", f"{tree}/{bench.corpus.large[0]}"), ("limit", plain)]
        for column, path in rotated(files, bench.turn):
            # The first makes the copy, the second is the first that reads it: pages that were never read
            # before take the kernel longer.
            for _ in range(2):
                bench.world.run(["cat", path], discard=True)
            bench.seconds("limit-passthrough", column, bench.world.run(["cat", path], discard=True).seconds)
