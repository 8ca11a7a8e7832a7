"""Where a repository is: a directory, or a bucket of Ceph's gateway."""
import contextlib, dataclasses, os, secrets, shutil, subprocess, sys

from benchlib.world import Failed

HERE = os.path.dirname(os.path.abspath(__file__))
CEPH = os.path.join(HERE, "..", "ceph")
# What scripts/ceph writes into its file `env`, and whoever has read that file has in the environment.
VARIABLES = [f"ASOF_TEST_S3_{name}" for name in ("ENDPOINT", "BUCKET", "ACCESS_KEY", "SECRET_KEY")]
ATTEMPTS = 3  # to start a cluster: another program may take a port that it found free
# Objects of a run that nothing deletes before the end.
BYTES_PER_RUN = 4 << 30


@dataclasses.dataclass
class Directory:
    path: str

    def clear(self):
        shutil.rmtree(self.path, ignore_errors=True)

    def size(self):
        return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(self.path) for name in names)


@dataclasses.dataclass
class Bucket:
    endpoint: str
    bucket: str
    access: str
    secret: str
    prefix: str = ""

    def clear(self):
        """Goes to a place in the bucket where nothing is: what was there stays until the end."""
        self.prefix = f"bench-{secrets.token_hex(8)}"

    def through(self, endpoint):
        """The same place, by another way."""
        return dataclasses.replace(self, endpoint=endpoint)

    @property
    def credentials(self):
        return {"AWS_ACCESS_KEY_ID": self.access, "AWS_SECRET_ACCESS_KEY": self.secret, "AWS_REGION": "us-east-1"}

    @property
    def address(self):
        """Host and port."""
        host, port = self.endpoint.removeprefix("http://").rstrip("/").rsplit(":", 1)
        return host, int(port)


def open_bucket(world, runs):
    """The bucket of a cluster that runs already, or of one for this benchmark; None if there can be none."""
    found = [os.environ.get(name) for name in VARIABLES]
    if all(found):
        return Bucket(*found)
    if not shutil.which("radosgw"):
        return None
    place = world.path("ceph")
    memory = os.environ | {"ASOF_CEPH_BYTES": str(max(8 << 30, runs * BYTES_PER_RUN))}
    apart = {"start_new_session": True, "stdout": subprocess.DEVNULL}
    stop = [CEPH, "stop", place]
    # Before it is started, since a start that is cut off leaves daemons as well.
    world.endings.callback(subprocess.run, stop, **apart)
    for _ in range(ATTEMPTS):
        subprocess.run(stop, **apart)
        if subprocess.run([CEPH, "start", place], env=memory, **apart).returncode == 0:
            break
    else:
        raise Failed(f"{CEPH} start {place} failed {ATTEMPTS} times")
    with open(f"{place}/env") as file:
        said = dict(line.removeprefix("export ").strip().split("=", 1) for line in file)
    return Bucket(*(said[name] for name in VARIABLES))


@contextlib.contextmanager
def slow_way(world, address, delay):
    """A way to an address that takes `delay` seconds longer in each direction. Yields its port."""
    program = [sys.executable, os.path.join(HERE, "proxy.py"), address[0], str(address[1]), str(delay)]
    # It ends with its input, and so with this program whatever becomes of it.
    process = world.start(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdout.close()
        world.end(process)
