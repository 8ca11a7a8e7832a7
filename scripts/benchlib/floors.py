"""What no program could do without: the bars, beside what the work alone takes on this machine.

A floor adds up the CPU seconds of what cannot be left out and divides them by the cores, as if no
core ever waited; where one program waits for each answer, it is at least what that takes. What a
program works with is measured by tests/tools/floors.rs, on one thread, with all files in the page
cache: nothing is looked up, handed on or compared there. What the kernel takes is measured by the
same commands on a file system that does nothing (tests/tools/nothing.rs), and on plain files.

A bar below its floor cannot be reached on this machine by this format and this kernel. One above
it says that what is over the bar is asof's own.
"""
import contextlib, glob, json, os, resource, statistics, time

from benchlib.corpus import totals
from benchlib.lines import LINES
from benchlib.limits import serving_nothing
from benchlib.measures import copy_tree, random_once, tar_once
from benchlib.table import row, shown

HERE = os.path.dirname(os.path.abspath(__file__))
FLOORS = os.environ.get("FLOORS", os.path.join(HERE, "..", "..", "target", "release", "examples", "floors"))

WRITING = ("read", "cut", "hash", "compress", "seal")
READING = ("fetch", "open", "unpack", "compare")
GATEWAY = ("radosgw", "ceph-")  # how its processes' names begin
TICK = os.sysconf("SC_CLK_TCK")


def floors(bench):
    """One run of everything that floors are made of."""
    cores = os.cpu_count()
    small, large = work(bench)
    both = {part: small[part] + large[part] for part in small}
    writing, reading = pick(both, WRITING), pick(both, READING)
    tell(bench, "backup", sum(writing.values()) / cores, writing)
    tell(bench, "restore", (sum(reading.values()) + both["write"]) / cores, reading | {"write": both["write"]})
    first = [first_list(bench) for _ in range(2)][1]
    for line in ("mount", "mount-many"):
        tell(bench, line, first, {})
    # The file system that does nothing reads large files where they lie, as asof does not.
    plain = large["read"]
    for line, own, action in (
            ("tar", pick(small, READING), lambda tree: tar_once(bench, tree, bench.corpus.small_bytes)),
            ("cat", pick(large, READING), lambda tree: cat(bench, tree)),
            ("cp", reading, lambda tree: copy_tree(bench, ["cp", "-a"], tree)),
            ("rsync", reading, lambda tree: copy_tree(bench, ["rsync", "-aHAXS"], f"{tree}/"))):
        took, kernel = on_nothing(bench, action)
        kernel -= 0 if line == "tar" else plain
        floor = max(took, (sum(own.values()) + kernel) / cores)
        for name in ("tar", "limit-tar") if line == "tar" else (line,):
            tell(bench, name, floor, own | {"commands and kernel": kernel, "waiting for nothing": took})
    waits, _ = on_nothing(bench, lambda tree: random_once(bench, tree)[0])
    chunks = bench.scale.reads * large["at random"]
    tell(bench, "random", chunks + waits, {"chunks": chunks, "waiting for nothing": waits})
    tell(bench, "cat-again", [cat(bench, bench.corpus.path) for _ in range(2)][1], {})
    if bench.bucket is not None:
        before = spent_by(*gateway())
        put_packs(bench)
        putting = spent_by(*gateway()) - before
        tell(bench, "bucket-backup", (sum(writing.values()) + putting) / cores, writing | {"putting": putting})


def work(bench):
    """CPU seconds that small files take, and large ones, by what they go into."""
    client = bench.asof
    bench.fill(client)
    bench.read_corpus()
    bench.world.read_all(client.place.path)
    with bench.world.copy_target(bench.corpus.all_bytes) as target:
        ran = client.run([FLOORS, bench.corpus.path, client.place.path, target])
        found = totals(target)
        bench.check(found == (bench.corpus.all_files, bench.corpus.all_bytes), f"the floors read {found}")
    told = json.loads(ran.out)
    return told["small"], told["large"] | {"at random": told["random_read"]}


def pick(spent, parts):
    return {part: spent[part] for part in parts}


def on_nothing(bench, action):
    """Seconds that something takes there, and CPU seconds of the commands and of the file system together."""
    with serving_nothing(bench, bench.corpus.path) as (point, process):
        bench.world.run(["ls", point])
        before = spent_by(process.pid)
        took = action(point)
        return took, spent_by(process.pid) - before


def spent_by(*pids):
    """CPU seconds of processes, and of all commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = used.ru_utime + used.ru_stime
    for pid in pids:
        with open(f"/proc/{pid}/stat") as file:
            own = file.read().rpartition(") ")[2].split()
        spent += (int(own[11]) + int(own[12])) / TICK
    return spent


def gateway():
    """The processes of Ceph: they work on the same cores."""
    names = {}
    for path in glob.glob("/proc/[0-9]*/comm"):
        with contextlib.suppress(OSError), open(path) as file:
            names[path.split("/")[2]] = file.read()
    return [pid for pid, name in names.items() if name.startswith(GATEWAY)]


def first_list(bench):
    """Seconds for a process, a mount and an `ls`, and nothing behind them."""
    began = time.monotonic()
    with serving_nothing(bench, f"{bench.corpus.path}/large") as (point, _):
        bench.world.run(["ls", point])
        return time.monotonic() - began


def cat(bench, tree):
    files = [f"{tree}/{name}" for name in bench.corpus.large]
    return bench.world.run(["cat", *files], discard=True).seconds


def put_packs(bench):
    """Puts what asof stored into the bucket, by a program that does nothing else."""
    place = bench.bucket.through(bench.bucket.endpoint)
    place.clear()
    packs = glob.glob(f"{bench.asof.place.path}/packs/*/*")
    url = f"{place.endpoint.rstrip('/')}/{place.bucket}/{place.prefix}/"
    bench.world.run(["curl", "--silent", "--fail", "--aws-sigv4", "aws:amz:us-east-1:s3",
                     "--user", f"{place.access}:{place.secret}", "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD",
                     *(word for pack in packs for word in ("-T", pack, url))])


def tell(bench, line, floor, parts):
    bench.seconds(f"floor-{line}", "floor", floor)
    for part, value in parts.items():
        bench.results.record(f"floor-{line}", part, value)


def against(results, judged, scale):
    """The floors of a run as JSON has them, by line, beside what the tables say of these lines."""
    found = {}
    for group, lines in LINES.items():
        for name, line in lines.items():
            if values := results.values.get(f"floor-{name}"):
                told = judged[group].get(name, {})
                parts = {part: statistics.median(some) for part, some in values.items()}
                floor, bar = parts.pop("floor"), told.get("allowed")
                found[name] = {"title": line.title.format(**vars(scale)), "asof": told.get("asof"), "bar": bar,
                               "ok": told.get("ok"), "floor": floor, "ratio": floor / bar if bar else None,
                               "parts": parts}
    return found


def render(found):
    """The same as a table."""
    text = [row(["measure", "asof", "bar", "floor", "floor / bar", ""]), row(["---"] * 6)]
    for line in found.values():
        ratio = "–" if line["ratio"] is None else f"{line['ratio']:.2f}"
        cells = [shown(line[name], "s") for name in ("asof", "bar", "floor")]
        text.append(row([line["title"], *cells, ratio, verdict(line)]))
    return "\n".join([*text, ""]) if found else ""


def verdict(line):
    if line["ok"] is not False:
        return "" if line["ok"] is None else "ok"
    return "out of reach" if line["ratio"] > 1 else "asof's own"
