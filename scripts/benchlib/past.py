"""Time in a repository of many snapshots: one moment, one path, two moments, all of it.

asof's repository is made by tests/tools/generate.rs; restic's by restic, of a tree of the same shape, and of fewer
snapshots, since a thousand backups of it take restic an hour. What it takes restic to compare two snapshots does not
depend on how many there are; its search grows with them.
"""
import glob, json, os, random, shutil, time

from benchlib.growth import GENERATE
from benchlib.places import Directory
from benchlib.world import peak_of

FILES, DIRS = 100, 100  # of a directory, as the generator has them
NAME = "f42"  # that many files have


def past(bench):
    if "past" not in bench.made:
        bench.made["past"] = generated(bench)
    client, moments = bench.made["past"]
    world, scale = bench.world, bench.scale
    say = lambda *args: client.run(client.command(*args))
    paths = [f"g{place // FILES // DIRS:05}/d{place // FILES:06}/f{place % FILES:02}"
             for place in random.Random(bench.turn).sample(range(scale.past_files), 3)]

    def timed(line, ran):
        bench.seconds(line, "asof", ran.seconds)
        bench.bytes("past-peak", "asof", ran.peak)

    ran = say("find", "--name", NAME)
    bench.check(ran.out.count(b"\n") >= scale.past_files // FILES, "hits of a search")
    timed("past-find", ran)
    world.drop_caches()
    timed("past-history", say("history", f"bench:/{paths[0]}"))
    ran = say("diff", *(f"bench@{at}" for at in moments[-2:]))
    bench.check(ran.out.count(b"\n") >= scale.past_changed, "lines of a comparison")
    timed("past-diff", ran)
    timed("past-diff-all", say("diff", f"bench@{moments[0]}", f"bench@{moments[-1]}"))
    world.drop_caches()
    with world.mounted(client.mount_command(), client.point, client.env()) as process:
        world.run(["ls", client.point])
        at = moments[random.Random(bench.turn).randrange(len(moments))]
        bench.seconds("past-at", "asof", world.run(["ls", f"{client.point}/at/{at}/bench"]).seconds)
        for line in ("past-list", "past-list-again"):
            ran = world.run(["ls", f"{client.point}/history/bench/{paths[1]}"])
            bench.check(ran.out.strip(), "versions of a file")
            bench.seconds(line, "asof", ran.seconds)
        bench.bytes("past-peak", "asof", peak_of(process))
    restic(bench)


def generated(bench):
    """A repository that is searched for the first time, but for its last snapshot, and then for that."""
    scale = bench.scale
    client = bench.somewhere("past")
    client.fresh()
    chunks = scale.past_files + scale.past_changed * (scale.past_snapshots - 1)
    client.run([GENERATE, client.place.path, str(chunks), str(scale.past_snapshots), str(scale.past_files)])
    search = lambda: client.run(client.command("find", "--name", "nothing"))
    newest = max(glob.glob(f"{client.place.path}/log/*"))
    held = f"{client.base}/held"
    os.rename(newest, held)
    shutil.rmtree(f"{client.base}/cache")
    ran = search()
    bench.note(f"The first search, which indexes {scale.past_snapshots - 1:,} snapshots: {ran.seconds:.1f} s, "
               f"{ran.peak / 1e6:.0f} MB.")
    bench.bytes("past-peak", "asof", ran.peak)
    without = min(search().seconds for _ in range(3))
    os.rename(held, newest)
    ran = search()
    bench.seconds("past-index", "asof", ran.seconds - without)
    bench.bytes("past-peak", "asof", ran.peak)
    ran = client.run(client.command("--json", "snapshots"))
    moments = sorted(one["shown_from"] for one in json.loads(ran.out)["snapshots"])
    bench.check(len(moments) == scale.past_snapshots, "snapshots")
    return client, moments


def restic(bench):
    theirs = next((client for client in bench.clients if client.name == "restic"), None)
    if theirs is None:
        return
    if "past-restic" not in bench.made:
        bench.made["past-restic"] = grow(bench, theirs)
    client, ids = bench.made["past-restic"]
    with bench.attempt(client, "past-find"):
        bench.seconds("past-find", "restic", client.run(client.command("find", NAME)).seconds)
    with bench.attempt(client, "past-diff"):
        bench.seconds("past-diff", "restic", client.run(client.command("diff", *ids[-2:])).seconds)
    with bench.attempt(client, "past-diff-all"):
        bench.seconds("past-diff-all", "restic", client.run(client.command("diff", ids[0], ids[-1])).seconds)


def grow(bench, theirs):
    """The same shape of tree, backed up by restic as often as the scale says."""
    scale, rng = bench.scale, random.Random(1)
    base = bench.world.path("extra", "past-restic")
    client = theirs.elsewhere(base, Directory(f"{base}/repository"))
    client.fresh()
    tree = f"{base}/tree"
    name = lambda place: f"{tree}/g{place // FILES // DIRS:05}/d{place // FILES:06}/f{place % FILES:02}"
    for place in range(scale.past_files):
        if place % FILES == 0:
            os.makedirs(os.path.dirname(name(place)))
        with open(name(place), "wb") as file:
            file.write(rng.randbytes(600 + rng.randrange(2800)))
    began = time.monotonic()
    for number in range(scale.past_restic):
        if number:
            for place in rng.sample(range(scale.past_files), scale.past_changed):
                with open(name(place), "wb") as file:
                    file.write(rng.randbytes(600 + rng.randrange(2800)))
        client.backup(tree)
    took = time.monotonic() - began
    bench.note(f"restic's repository has {scale.past_restic:,} of such snapshots, which took {took:.0f} s.")
    shutil.rmtree(tree)
    listed = json.loads(client.run(client.command("snapshots", "--json")).out)
    return client, [one["short_id"] for one in sorted(listed, key=lambda one: one["time"])]
