"""The lines of the tables, and what is to be reached in each.

A line compares asof with its unit: the best of the other programs, or what else it is measured
by. The bars are those that the project has set itself; a line without one is there to explain
others.
"""
import dataclasses, statistics

MB = 1e6
BEST = "best"  # of the peers


@dataclasses.dataclass
class Scale:
    """How large everything is."""
    files: int  # small ones
    large_bytes: int
    snapshots: int  # of the repository that has many
    reads: int  # at random places
    far_cat: int  # bytes that are read over the long way
    far_tar: int
    grown: int  # how many times the small files
    start_snapshots: tuple  # of repositories whose mount is started, the few first
    start_chunks: tuple
    increments: int
    past_files: int  # of the repository whose past is looked at
    past_snapshots: int
    past_changed: int  # files from one to the next
    past_restic: int  # snapshots of restic's


FULL = Scale(47_000, 1_500_000_000, 1000, 2000, 512_000_000, 40_000_000, 10, (10, 1000, 10_000),
             (100_000, 1_000_000), 1000, 100_000, 1000, 10, 100)
SMALL = Scale(200, 4_000_000, 10, 50, 1_000_000, 400_000, 3, (3, 10, 20), (1000, 3000), 5, 2000, 10, 5, 3)


@dataclasses.dataclass
class Line:
    title: str  # with names of a scale's numbers in braces
    measure: str  # which parts of the benchmark fill it
    bar: float = None  # at most so many units
    times: str = None  # a number of the scale that the bar is multiplied by
    most: float = None  # at most so much, whatever others need
    unit: str = BEST
    unit_of: str = None  # the line that the unit is taken from, if nothing else is in this one
    kind: str = "s"  # "s", "bytes" or "count"
    pick: callable = statistics.median  # what stands for several runs


def peak(title, measure, most):
    return Line(f"peak memory: {title}", measure, most=most, kind="bytes", pick=max)


def limit(title, bar):
    return Line(title, "limit", bar=bar, unit="limit")


def gets(title):
    return Line(title, "requests", bar=1, unit="allowed", kind="count")


def grown(title, bar, measure="growth-files", **kw):
    return Line(title, measure, bar=bar, unit="before", **kw)


def within(title, seconds):
    return Line(title, "past", most=seconds, unit="restic")


def grown_files(title, **kw):
    return grown(f"{{grown}} times the small files: {title}", FILES_BAR, times="grown", **kw)


def grown_peak(title):
    return grown(f"{{grown}} times the small files: peak memory, {title}", SAME_BAR, kind="bytes", pick=max)


FILES_BAR = 1.1  # of as many times as there are files
SAME_BAR = 1.1  # what is to stay as it is still varies from run to run
INCREMENTS_BAR = 1.5

# What the unit of the lines of a group is called.
UNITS = {"peers": BEST, "limit": "limit", "requests": "allowed", "growth": "before", "past": "restic"}

LINES = {
    "peers": {
        "backup": Line("initial backup into a directory", "backup", bar=0.6),
        "stored": Line("stored", "backup", bar=0.97, kind="bytes"),
        "unchanged": Line("unchanged backup", "backup", bar=0.7, unit="bupstash"),
        "unlock": Line("opening the repository and little else", "unlock"),
        "mount": Line("mount until the first `ls`", "mount", bar=0.15),
        "mount-cold": Line("the same, nothing in the page cache", "mount"),
        "mount-many": Line("mount until the first `ls`, {snapshots:,} snapshots", "mount", bar=0.15, unit_of="mount"),
        "find": Line("`find` over the small files, cold", "find", bar=0.4),
        "find-again": Line("`find` again", "find", bar=0.1),
        "tar": Line("`tar` of the small files, cold", "tar", bar=0.22),
        "cat": Line("`cat` of the large files, cold", "cat", bar=0.45),
        "cat-again": Line("`cat` again", "cat", bar=0.15),
        "random": Line("{reads:,} random reads of 4 KiB, cold", "random", bar=0.3),
        "restore": Line("restore to memory", "restore", bar=0.5),
        "cp": Line("`cp -a` of everything to memory, cold", "copy", bar=0.35),
        "rsync": Line("`rsync -aHAXS` of everything to memory, cold", "copy", bar=0.35),
        "backup-peak": peak("backup", "backup", 250 * MB),
        "restore-peak": peak("restore", "restore", 128 * MB),
        "mount-peak": peak("mount", "find tar cat random copy", 128 * MB),
        "bucket-backup": Line("initial backup into a bucket", "bucket", bar=0.5),
        "bucket-restore": Line("restore from a bucket to memory", "bucket"),
        "bucket-backup-peak": peak("backup, bucket", "bucket", 250 * MB),
        "bucket-restore-peak": peak("restore, bucket", "bucket", 128 * MB),
        "far-mount": Line("bucket at 20 ms, no cache: mount until the first `ls`", "latency"),
        "far-cat": Line("bucket at 20 ms, no cache: `cat` of {far_cat:,} bytes", "latency", bar=0.2),
        "far-tar": Line("bucket at 20 ms, no cache: `tar` of the first {far_tar:,} bytes", "latency", bar=0.02),
        "far-mount-peak": peak("mount, bucket", "latency", 128 * MB),
    },
    "limit": {
        "limit-tar": limit("`tar` of the small files / file system that does nothing", 1.5),
        "limit-cp": limit("`cp -a` of the small files / file system that does nothing", 1.2),
        "limit-passthrough": limit("`cat` of a large file passed through / plain file", 1.2),
    },
    "requests": {
        "gets-cat": gets("GETs of a `cat` of the large files: one for each 8 MiB stored"),
        "gets-find": gets("GETs of a cold `find`: one for each 4 MiB of nodes"),
    },
    "growth": {
        "files-backup": grown_files("initial backup"),
        "files-unchanged": grown_files("unchanged backup"),
        "files-find": grown_files("`find`, cold"),
        "files-find-again": grown_files("`find` again"),
        "files-tar": grown_files("`tar`, cold"),
        "files-restore": grown_files("restore to memory"),
        "files-cp": grown_files("`cp -a` to memory, cold"),
        "files-backup-peak": grown_peak("backup"),
        "files-restore-peak": grown_peak("restore"),
        "files-mount-peak": grown_peak("mount"),
        "start-snapshots": grown("mount until the first `ls`: {start_snapshots[1]:,} snapshots / {start_snapshots[0]}",
                                 SAME_BAR, "growth-start"),
        "start-more-snapshots": grown("the same: {start_snapshots[2]:,} snapshots / {start_snapshots[0]}",
                                      SAME_BAR, "growth-start"),
        "start-chunks": grown("the same: {start_chunks[1]:,} chunks / {start_chunks[0]:,}", SAME_BAR, "growth-start"),
        "increments-find": grown("`find` of the newest view, cold: after {increments:,} small increments / in one "
                                 "backup", INCREMENTS_BAR, "growth-increments"),
        "increments-tar": grown("`tar` of the same", INCREMENTS_BAR, "growth-increments"),
    },
    "past": {
        "past-at": within("`at/<time>` until the first `ls`", 0.05),
        "past-history": within("`asof history` of a file", 0.5),
        "past-list": within("`ls history/<source>/<path>`", 0.5),
        "past-list-again": within("the same again", 0.05),
        "past-diff": within("`diff` of neighbouring snapshots", 0.05),
        "past-diff-all": within("`diff` of the first and the last", 2),
        "past-find": within("`find --name` over everything", 1),
        "past-index": within("indexing one more snapshot", 0.2),
        "past-peak": peak("all of these", "past", 150 * MB),
    },
}

# Of an earlier corpus of the same kind on another machine of the same kind (two cores; 47,273 small files of
# 0.68 GB, two large ones of 1.59 GB), with restic 0.18, rustic 0.11.4, borg 1.2.4 and bupstash 0.12. They stand in
# for a program that is not there, or cannot do something. What took longer than 300 s was not awaited. What is stored
# of another corpus says nothing, and is left out.
RECORDED = {
    "backup": {"restic": 17.2, "rustic": 18.2, "borg": 24.2, "bupstash": 12.9},
    "unchanged": {"restic": 2.05, "rustic": 1.94, "borg": 7.3, "bupstash": 0.45},
    "mount": {"restic": 0.94, "rustic": 2.1, "borg": 9.2},
    "find": {"restic": 6.6, "rustic": 144, "borg": 3.0},
    "find-again": {"restic": 2.1, "rustic": 147, "borg": 2.8},
    "tar": {"restic": 22.8, "rustic": 300, "borg": 15.3},
    "cat": {"restic": 6.1, "borg": 5.1},
    "cat-again": {"restic": 6.5, "borg": 3.0},
    "random": {"restic": 8.5, "borg": 19.8},
    "restore": {"restic": 7.9, "borg": 13.2, "bupstash": 8.0},
    "cp": {"restic": 64.8, "borg": 34.4},
    "mount-peak": {"restic": 236 * MB, "borg": 154 * MB},
    "bucket-backup": {"restic": 24.4, "rustic": 20.2},
    "bucket-restore": {"restic": 10.2},
    "bucket-restore-peak": {"rustic": 2200 * MB},
    "far-cat": {"restic": 14.0},
    "far-tar": {"restic": 101},
}
