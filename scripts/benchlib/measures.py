"""The measures on a directory: backup, mount, reading through the mount, restore.

Each does one run; all programs take part in turn. "Cold" is a new mount after the kernel has
forgotten what it had read. What a program keeps on disk for itself it has, as a user has it who
backs up and restores on one machine.
"""
import os, sys, time

from benchlib.corpus import totals

READS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "reads.py")


def mounts(client):
    return client.mounts


def backup(bench):
    bench.read_corpus()
    for client in bench.turns():
        if bench.is_settled(client, "backup"):
            continue
        with bench.attempt(client, "backup", "stored", "unchanged", "backup-peak"):
            client.fresh()
            os.sync()
            ran = client.backup(bench.corpus.path)
            bench.filled.add(client.name)
            bench.seconds("backup", client.name, ran.seconds)
            bench.bytes("backup-peak", client.name, ran.peak)
            bench.bytes("stored", client.name, client.place.size())
    for client in bench.turns(lambda client: client.name in bench.filled):
        if bench.is_settled(client, "unchanged"):
            continue
        with bench.attempt(client, "unchanged"):
            os.sync()
            bench.seconds("unchanged", client.name, client.backup(bench.corpus.path).seconds)


def unlock(bench):
    for client in each(bench, lambda client: True, "unlock"):
        with bench.attempt(client, "unlock"):
            client.unlock()
            bench.seconds("unlock", client.name, client.unlock().seconds)


def mount(bench):
    for client in each(bench, mounts, "mount"):
        with bench.attempt(client, "mount", "mount-cold"):
            bench.seconds("mount-cold", client.name, start(bench, client, cold=True))
            bench.seconds("mount", client.name, start(bench, client))
    for client in bench.turns(lambda client: client.many):
        if not bench.is_settled(client, "mount-many"):
            with bench.attempt(client, "mount-many"):
                many = many_snapshots(bench, client)
                start(bench, many)
                bench.seconds("mount-many", client.name, start(bench, many))


def start(bench, client, cold=False):
    """Seconds until a mount has shown its tree."""
    if cold:
        bench.world.drop_caches()
    began = time.monotonic()
    with bench.world.mounted(client.mount_command(), client.point, client.env()):
        bench.world.run(["ls", client.shown(bench.corpus.path)])
        return time.monotonic() - began


def many_snapshots(bench, theirs):
    """A repository in which the corpus is the newest of many snapshots."""
    name = f"many-{theirs.name}"
    if name not in bench.made:
        client = bench.made[name] = bench.somewhere(name, theirs)
        client.fresh()
        # Small ones first, or this would take an hour.
        tree = bench.world.path("extra", "one-file")
        os.makedirs(tree, exist_ok=True)
        for number in range(bench.scale.snapshots - 1):
            with open(f"{tree}/file", "w") as file:
                file.write(f"{number}\n")
            client.backup(tree)
        client.backup(bench.corpus.path)
    return bench.made[name]


def find(bench):
    for client in each(bench, mounts, "find"):
        with bench.attempt(client, "find", "find-again"), bench.mounted(client) as tree:
            for line in ("find", "find-again"):
                bench.seconds(line, client.name, find_once(bench, tree, bench.corpus.entries))


def find_once(bench, tree, entries):
    ran = bench.world.run(["find", f"{tree}/small", "-printf", "%s\\n"])
    seen = ran.out.count(b"\n")
    bench.check(seen == entries, f"find saw {seen:,} of {entries:,} entries")
    return ran.seconds


def tar(bench):
    for client in each(bench, mounts, "tar"):
        with bench.attempt(client, "tar"), bench.mounted(client) as tree:
            bench.seconds("tar", client.name, tar_once(bench, tree, bench.corpus.small_bytes))


def tar_once(bench, tree, least):
    # Through a pipe, since tar reads nothing if it sees that nobody wants it.
    ran = bench.world.shell('tar -C "$1" -cf - . | wc -c', f"{tree}/small")
    bench.check(int(ran.out) >= least, f"tar made {int(ran.out):,} bytes of {least:,}")
    return ran.seconds


def cat(bench):
    for client in each(bench, mounts, "cat"):
        with bench.attempt(client, "cat", "cat-again"), bench.mounted(client) as tree:
            files = [f"{tree}/{name}" for name in bench.corpus.large]
            for line in ("cat", "cat-again"):
                bench.seconds(line, client.name, bench.world.run(["cat", *files], discard=True).seconds)


def random(bench):
    wanted = random_once(bench, bench.corpus.path)[1]
    for client in each(bench, mounts, "random"):
        with bench.attempt(client, "random"), bench.mounted(client) as tree:
            took, read = random_once(bench, tree)
            bench.check(read == wanted, "what was read at random places is not what is there")
            bench.seconds("random", client.name, took)


def random_once(bench, tree):
    """Seconds, and a hash of what was read. Other places in each run, the same for all programs."""
    files = [f"{tree}/{name}" for name in bench.corpus.large]
    ran = bench.world.run([sys.executable, READS, str(bench.scale.reads), str(bench.turn), *files])
    took, read = ran.out.split()
    return float(took), read


def copy(bench):
    for client in each(bench, mounts, "cp"):
        with bench.attempt(client, "cp"):
            bench.seconds("cp", client.name, copy_once(bench, client, ["cp", "-a"], ""))
    for client in each(bench, mounts, "rsync"):
        with bench.attempt(client, "rsync"):
            bench.seconds("rsync", client.name, copy_once(bench, client, ["rsync", "-aHAXS"], "/"))


def copy_once(bench, client, command, ending):
    with bench.mounted(client) as tree:
        return copy_tree(bench, command, tree + ending)


def copy_tree(bench, command, tree):
    with bench.world.copy_target(bench.corpus.all_bytes) as target:
        took = bench.world.run([*command, tree, target]).seconds
        check_copy(bench, bench.corpus, target)
        return took


def check_copy(bench, corpus, target):
    files, size = totals(target)
    wanted = corpus.all_files, corpus.all_bytes
    bench.check((files, size) == wanted, f"copied {files:,} files and {size:,} bytes of {wanted}")


def restore(bench):
    for client in each(bench, lambda client: True, "restore"):
        with bench.attempt(client, "restore", "restore-peak"):
            restore_once(bench, client, "restore", "restore-peak")


def restore_once(bench, client, line, peak):
    with bench.world.copy_target(bench.corpus.all_bytes) as target:
        bench.world.drop_caches()
        ran, tree = client.restore(bench.corpus.path, target)
        check_copy(bench, bench.corpus, tree)
        bench.seconds(line, client.name, ran.seconds)
        bench.bytes(peak, client.name, ran.peak)


def each(bench, can, line):
    """The programs whose turn it is, and that this line still wants to know about, with the corpus backed up."""
    for client in bench.turns(can):
        if not bench.is_settled(client, line):
            with bench.attempt(client, line):
                bench.fill(client)
            if client.name in bench.filled:
                yield client
