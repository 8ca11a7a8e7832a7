"""What `follow-acceptance` and `bench-follow` share: programs that write, asof beside them, a place for both.

A writer counts: each of its transactions raises a counter by one, and changes something else. When a
commit has returned it prints the number with the times before and after, in seconds, so that it is known
from outside what was promised to whom and when. Started again, it goes on where the database is.
"""
import collections, glob, json, os, re, shutil, signal, sqlite3, subprocess, sys, tempfile, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
ASOF = os.path.abspath(os.environ.get("ASOF", os.path.join(HERE, "..", "target", "release", "asof")))
PATIENCE = 600  # seconds; what takes longer is stuck

PYTHON_WRITER = r"""
# DATABASE RATE END: transactions a second (0: as many as can be); ends with this number (0: never).
import os, random, sqlite3, sys, time
path, rate, end = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
db = sqlite3.connect(path, isolation_level=None, timeout=60)
db.executescript("PRAGMA journal_mode = wal; PRAGMA synchronous = normal;"
    "CREATE TABLE IF NOT EXISTS kv (k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID")
found = db.execute("SELECT v FROM kv WHERE k = x'6e'").fetchone()
n = (found[0] if found else 0) + 1
begun, first, tell = time.monotonic(), n, sys.stdout
while not end or n <= end:
    if rate:
        left = begun + (n - first) / rate - time.monotonic()
        if left > 0.0002:
            time.sleep(left)
    before = time.time()
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT OR REPLACE INTO kv VALUES (x'6e', ?)", (n,))
    db.execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (b"u%05d" % (n * 7919 % 20000), "y" * (n % 300) + str(n)))
    if n % 7 == 0:
        db.execute("DELETE FROM kv WHERE k = ?", (b"u%05d" % (n * 31 % 20000),))
    db.execute("COMMIT")
    after = time.time()
    tell.write(f"{n} {before:.6f} {after:.6f}\n")
    # A line that is told late is told: only a killed writer loses it.
    if not n % 16 or rate:
        tell.flush()
    n += 1
"""

DENO_WRITER = r"""
// DATABASE RATE END, as the other.
const [path, rate, end] = [Deno.args[0], Number(Deno.args[1]), Number(Deno.args[2])];
const kv = await Deno.openKv(path);
const text = new TextEncoder();
const found = await kv.get<number>(["n"]);
let n = (found.value ?? 0) + 1;
const begun = performance.now(), first = n;
const now = () => ((performance.timeOrigin + performance.now()) / 1000).toFixed(6);
while (!end || n <= end) {
  const left = rate ? (n - first) / rate * 1000 - (performance.now() - begun) : 0;
  if (left > 0) await new Promise((done) => setTimeout(done, left));
  const before = now();
  const op = kv.atomic();
  op.set(["n"], n).set(["u", n * 7919 % 5000, "x"], { n, s: "y".repeat(n % 300) });
  if (n % 7 == 0) op.delete(["u", n * 31 % 5000, "x"]);
  if (!(await op.commit()).ok) throw new Error("not committed");
  Deno.stdout.writeSync(text.encode(`${n} ${before} ${now()}\n`));
  n++;
}
kv.close();
"""

ANTAGONIST = r"""
# DATABASE: forces checkpoints of every kind in turn, until it is killed. Tells how each ended.
import sqlite3, sys, time
done = {}
while True:
    for kind in ("PASSIVE", "FULL", "RESTART", "TRUNCATE"):
        db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0.05)
        try:
            busy, log, moved = db.execute(f"PRAGMA wal_checkpoint({kind})").fetchone()
            print(kind, "busy" if busy else "done", flush=True)
        except sqlite3.OperationalError as error:
            print(kind, "busy" if "lock" in str(error) or "busy" in str(error) else f"FAILED {error}", flush=True)
        db.close()
        time.sleep(0.01)
"""


class Wrong(Exception):
    """What must never happen; the text says what did."""


def integer(blob):
    """A number as V8 writes it for Deno: zigzag varint, or a double."""
    if blob[:1] != b"\xff" or blob[2:3] not in (b"I", b"N"):
        raise Wrong(f"this is no number: {blob!r}")
    if blob[2:3] == b"N":
        import struct
        return int(struct.unpack("<d", blob[3:11])[0])
    n = shift = 0
    for byte in blob[3:]:
        n |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return (n >> 1) ^ -(n & 1)
    raise Wrong(f"this number has no end: {blob!r}")


def counter(path, writer):
    """The counter of a database, opened as anybody would; 0 before it was first written."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        key = "6e" if writer == "python" else "026e00"
        found = db.execute(f"SELECT v FROM kv WHERE k = x'{key}'").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        found = None
    finally:
        db.close()
    if not found:
        return 0
    return found[0] if writer == "python" else integer(found[0])


def deno(work):
    """The program, out of the npm package of its platform."""
    if "DENO" in os.environ:
        return os.environ["DENO"]
    place = os.path.join(work, "npm")
    os.makedirs(place, exist_ok=True)
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent", "deno"],
                   cwd=place, check=True, timeout=PATIENCE)
    found = [path for path in glob.glob(f"{place}/node_modules/@deno/*/deno") if os.access(path, os.X_OK)]
    if not found:
        raise Wrong("the npm package deno brought no program for this machine")
    return found[0]


class Writer:
    """A program that counts, and what it said that it committed."""

    def __init__(self, kind, program, database, rate=0, end=0):
        self.kind, self.program, self.database, self.rate, self.end = kind, program, database, rate, end
        self.told = []  # (number, time before, time after)
        self.progress = threading.Condition()
        self.process = self.reader = None

    def start(self):
        if self.kind == "python":
            command = [sys.executable, "-c", PYTHON_WRITER]
        else:
            script = os.path.join(os.path.dirname(self.database), "writer.ts")
            with open(script, "w") as file:
                file.write(DENO_WRITER)
            command = [self.program, "run", "-A", "--quiet", "--unstable-kv", script]
        command += [self.database, str(self.rate), str(self.end)]
        env = {**os.environ, "DENO_DIR": os.path.join(os.path.dirname(self.database), "deno"), "NO_COLOR": "1"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=env, start_new_session=True)
        self.reader = threading.Thread(target=self.read, args=[self.process], daemon=True)
        self.reader.start()

    def read(self, process):
        for line in process.stdout:
            if not line.endswith(b"\n"):
                break  # killed within a line
            number, before, after = line.split()
            with self.progress:
                self.told.append((int(number), float(before), float(after)))
                self.progress.notify_all()
        with self.progress:
            self.progress.notify_all()

    def last(self):
        with self.progress:
            return self.told[-1][0] if self.told else 0

    def wait_for(self, reached):
        """Until `reached(number)` of what it told last, or it ended; says which."""
        with self.progress:
            done = lambda: (self.told and reached(self.told[-1][0])) or not self.reader.is_alive()
            while not done():
                if not self.progress.wait(timeout=1) and self.process.poll() is not None:
                    break
            return bool(self.told and reached(self.told[-1][0]))

    def kill(self):
        """By signal 9. What it had told until then."""
        self.process.kill()
        self.process.wait()
        self.reader.join()
        return self.last()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.kill()


class Antagonist:
    def __init__(self, database):
        self.process = subprocess.Popen([sys.executable, "-c", ANTAGONIST, database], stdout=subprocess.PIPE,
                                        text=True, start_new_session=True)
        self.counts = collections.Counter()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.counts[line.strip()] += 1

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()


class Follow:
    """`asof follow shop`, and what it tells."""

    def __init__(self, place, *options):
        self.place, self.lines, self.told = place, [], threading.Condition()
        self.process = subprocess.Popen(place.command("follow", "shop", *options, writer=True), env=place.env(True),
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                        start_new_session=True)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stderr:
            with self.told:
                self.lines.append(line.rstrip())
                self.told.notify_all()
        with self.told:
            self.lines.append("ended")
            self.told.notify_all()

    def wait_for(self, line):
        with self.told:
            if not self.told.wait_for(lambda: line in self.lines or "ended" in self.lines, timeout=PATIENCE):
                raise Wrong(f"follow never said {line!r}: {self.lines}")
            if line not in self.lines:
                raise Wrong(f"follow ended without saying {line!r}: {self.lines}")

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()

    def stop(self):
        """By SIGTERM, as a service manager does. Everything that was captured is published."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=PATIENCE)
        self.reader.join()
        if code != 0:
            raise Wrong(f"follow ended with {code}: {self.lines[-5:]}")

    def status(self):
        found = glob.glob(self.place.path("state/follow/*/shop/status.json"))
        with open(found[0]) as file:
            return json.load(file)["sources"][0]

    def usage(self):
        """Seconds of processor, and the most memory so far in KiB."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        with open(f"/proc/{self.process.pid}/status") as file:
            peak = int(re.search(r"VmHWM:\s+(\d+)", file.read())[1])
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), peak


class Place:
    """A directory with a database, a store, and the caches of two machines: one writes, one only has the key."""

    def __init__(self, store, work=None):
        self.work = work or tempfile.mkdtemp(prefix="asof-follow-")
        os.makedirs(self.path("mnt"), exist_ok=True)
        self.database = self.path("kv.db")
        self.ceph = self.own_ceph = None
        self.s3 = {}
        if store == "ceph" or store.startswith("ceph:"):
            # A cluster that is there may be named: its directory behind the colon.
            self.ceph = store[5:] or self.path("ceph")
            if not store[5:]:
                self.own_ceph = self.ceph
                subprocess.run([f"{HERE}/ceph", "start", self.ceph], check=True, timeout=PATIENCE)
            with open(f"{self.ceph}/env") as file:
                self.s3 = dict(re.findall(r"export ASOF_TEST_S3_(\w+)=(\S+)", file.read()))
            self.repository = f"s3://{self.s3['BUCKET']}/follow-{time.time_ns()}"
        else:
            self.repository = os.path.abspath(store)
        with open(self.path("secret"), "w") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write("a passphrase of this run\n")

    def path(self, *parts):
        return os.path.join(self.work, *parts)

    def env(self, writer=False, machine=None):
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("ASOF_", "AWS_"))}
        env = {**clean, "ASOF_REPOSITORY": self.repository, "ASOF_TIMEZONE": "UTC",
               "ASOF_CONFIG": self.path("asof.toml"), "XDG_STATE_HOME": self.path("xdg"),
               "ASOF_CACHE_DIR": self.path(machine or ("writer" if writer else "owner"))}
        if not writer:
            env["ASOF_PASSWORD_FILE"] = self.path("secret")
        if self.s3:
            who = "WRITER_" if writer else ""
            env |= {"AWS_ACCESS_KEY_ID": self.s3[f"{who}ACCESS_KEY"],
                    "AWS_SECRET_ACCESS_KEY": self.s3[f"{who}SECRET_KEY"]}
        return env

    def command(self, *args, writer=False):
        s3 = ["--s3-endpoint", self.s3["ENDPOINT"], "--s3-region", "us-east-1"] if self.s3 else []
        key = ["--writer-key", self.path("writer.key")] if writer else []
        state = ["--state-dir", self.path("state")] if args[0] == "follow" else []
        return [ASOF, *s3, *key, *args, *state]

    def asof(self, *args, machine=None, timeout=PATIENCE):
        """With the key and the owner's credential."""
        done = subprocess.run(self.command(*args), env=self.env(machine=machine), capture_output=True, text=True,
                              timeout=timeout)
        if done.returncode != 0:
            raise Wrong(f"asof {' '.join(args)} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
        return done.stdout

    def begin(self, *init_options):
        """A repository, a key that only writes, and a definition of the source."""
        open(self.path("asof.toml"), "a").close()
        self.asof("init", "--kdf-cost", "least", *init_options)
        self.asof("key", "export-writer", "--source", "shop", self.path("writer.key"))
        self.asof("source", "add", "shop", f"sqlite:{self.database}")

    def log(self, *args, machine=None):
        """Every line of `asof log --json` but the last, which is the report."""
        process = subprocess.Popen(self.command("log", "shop", "--json", *args), env=self.env(machine=machine),
                                   stdout=subprocess.PIPE, text=True)
        lines = [json.loads(line) for line in process.stdout]
        if process.wait() != 0:
            raise Wrong(f"asof log ended with {process.returncode}: {lines[-1:]}")
        report = lines.pop()
        if (report["states"], report["gaps"]) != (sum(l["kind"] == "state" for l in lines),
                                                  sum(l["kind"] == "gap" for l in lines)):
            raise Wrong(f"the report counts otherwise than the listing: {report}")
        return lines

    def mount(self, machine=None, *options):
        self.asof("mount", *options, self.path("mnt"), machine=machine)

    def umount(self):
        self.asof("umount", self.path("mnt"))

    def at(self, time_text):
        """Where the mount has the database as it was then."""
        return self.path("mnt", "at", time_text.replace(":", "-"), "shop", "kv.db")

    def end(self, keep=False):
        subprocess.run(["umount", "-l", self.path("mnt")], stderr=subprocess.DEVNULL)
        if self.own_ceph:
            subprocess.run([f"{HERE}/ceph", "stop", self.own_ceph], check=False)
        if not keep:
            shutil.rmtree(self.work, ignore_errors=True)


def seconds(time_text):
    """Seconds since 1970 of a time in JSON."""
    import datetime
    whole, _, part = time_text.rstrip("Z").partition(".")
    moment = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.timezone.utc)
    return moment.timestamp() + float(f"0.{part or 0}")
