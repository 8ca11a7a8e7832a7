"""asof and the programs beside it: how each is asked for the same things.

All encrypt, all compress with zstd at the level that is their default or 3, and all keep the
index and the caches that they keep by themselves. None asks anybody for a passphrase: rustic and
bupstash open a repository by a file that holds its key, asof by a passphrase at the least cost.
restic and borg have no such thing; what opening alone takes is measured by itself.
"""
import json, os, shutil

from benchlib.places import Bucket

HERE = os.path.dirname(os.path.abspath(__file__))
PASSWORD = "bench"


class Client:
    """A program as one machine has it, with one repository: a directory for what it keeps, and a place."""

    name = default = None
    mounts, buckets = True, False
    many = False  # whether it makes a thousand small snapshots in a few minutes, and shows all of them

    def __init__(self, world, base, place):
        self.world, self.base, self.place = world, base, place
        self.program = os.environ.get(self.name.upper()) or self.default or self.name
        self.point = f"{base}/mnt"

    def elsewhere(self, base, place):
        """The same program on a machine that knows nothing, with a repository at another place."""
        shutil.rmtree(base, ignore_errors=True)
        os.makedirs(f"{base}/home")
        return type(self)(self.world, base, place)

    def is_there(self):
        return shutil.which(self.program) is not None

    def version(self):
        return self.world.run([self.program, "--version"]).out.decode().strip().split("\n")[0]

    def fresh(self):
        """A new repository, and nothing known of the one before."""
        shutil.rmtree(self.base, ignore_errors=True)
        os.makedirs(f"{self.base}/home")
        self.place.clear()
        self.init()

    def run(self, argv, **kw):
        return self.world.run(argv, env=self.env(), **kw)

    def init(self):
        self.run(self.command("init"))

    def env(self):
        credentials = self.place.credentials if isinstance(self.place, Bucket) else {}
        return {"HOME": f"{self.base}/home"} | credentials | self.own_env()

    def own_env(self):
        raise NotImplementedError

    def command(self, *args):
        return [self.program, *args]

    def url(self):
        """The place as the program takes it."""
        return self.place.path

    def backup(self, tree):
        """Backs a tree up. Returns what `World.run` does."""
        return self.run(self.command("backup", tree))

    def restore(self, tree, target):
        """Restores the newest state of a tree. Returns what `World.run` does, and where the tree is."""
        ran = self.run(self.command("restore", "latest", "--target", target))
        return ran, target + tree

    def unlock(self):
        """Opens the repository and does next to nothing."""
        return self.run(self.command("snapshots"))

    def mount_command(self):
        return self.command("mount", self.point)

    def shown(self, tree):
        """Where the mount shows the newest state of a tree."""
        return self.point + tree


class Asof(Client):
    name, buckets, many = "asof", True, True
    default = os.path.join(HERE, "..", "..", "target", "release", "asof")

    def own_env(self):
        return {"ASOF_REPOSITORY": self.url(), "ASOF_PASSWORD": PASSWORD, "ASOF_CACHE_DIR": f"{self.base}/cache"}

    def url(self):
        return f"s3://{self.place.bucket}/{self.place.prefix}" if isinstance(self.place, Bucket) else self.place.path

    def command(self, *args):
        at = ["--s3-endpoint", self.place.endpoint] if isinstance(self.place, Bucket) else []
        return [self.program, "-q", *at, *args]

    def init(self):
        self.run(self.command("init", "--kdf-cost", "least"))

    def backup(self, tree):
        # A source is one tree, unless it is said that it is another now.
        return self.run(self.command("--json", "backup", "--source", "bench", "--change-roots", tree))

    def restore(self, tree, target):
        return self.run(self.command("restore", "bench", "--target", target)), target

    def mount_command(self, *options):
        return self.command("mount", "--foreground", *options, self.point)

    def shown(self, tree):
        return f"{self.point}/latest/bench"

    def has_option(self, command, option):
        return option in self.world.run([self.program, command, "--help"]).out.decode()

    def fetches(self):
        """How often a running mount has asked the store for something, and the bytes that came."""
        with open(f"{self.point}/.asof/counters.json") as file:
            counted = json.load(file)["repository"]
        return counted["fetches"], counted["fetched_bytes"]


class Restic(Client):
    name, buckets = "restic", True

    def version(self):
        return self.world.run([self.program, "version"]).out.decode().strip()

    def own_env(self):
        return {"RESTIC_REPOSITORY": self.url(), "RESTIC_PASSWORD": PASSWORD, "RESTIC_CACHE_DIR": f"{self.base}/cache"}

    def url(self):
        if isinstance(self.place, Bucket):
            return f"s3:{self.place.endpoint}/{self.place.bucket}/{self.place.prefix}"
        return self.place.path

    def command(self, *args):
        return [self.program, "-q", *args]

    def shown(self, tree):
        return f"{self.point}/snapshots/latest{tree}"


class Rustic(Client):
    name, buckets, many = "rustic", True, True
    key = snapshot = None

    def elsewhere(self, base, place):
        other = super().elsewhere(base, place)
        other.key, other.snapshot = self.key, self.snapshot
        return other

    def init(self):
        self.key = f"{self.base}/key"
        self.run([self.program, "key", "create", self.key])
        super().init()

    def own_env(self):
        # What an S3 client is told can only be said in a file.
        config = f"{self.base}/home/.config"
        if isinstance(self.place, Bucket):
            os.makedirs(f"{config}/rustic", exist_ok=True)
            options = {"bucket": self.place.bucket, "root": f"/{self.place.prefix}", "endpoint": self.place.endpoint,
                       "region": "us-east-1"}
            with open(f"{config}/rustic/rustic.toml", "w") as file:
                file.write("[repository.options]\n")
                file.writelines(f'{name} = "{value}"\n' for name, value in options.items())
        key = {"RUSTIC_KEY_FILE": self.key} if self.key and os.path.exists(self.key) else {}
        return {"RUSTIC_REPOSITORY": self.url(), "RUSTIC_CACHE_DIR": f"{self.base}/cache",
                "XDG_CONFIG_HOME": config} | key

    def url(self):
        return "opendal:s3" if isinstance(self.place, Bucket) else self.place.path

    def command(self, *args):
        return [self.program, "--no-progress", "--log-level", "warn", *args]

    def backup(self, tree):
        ran = self.run(self.command("backup", "--json", tree))
        self.snapshot = json.loads(ran.out)["id"][:8]
        return ran

    def restore(self, tree, target):
        return self.run(self.command("restore", f"latest:{tree}", target)), target

    def mount_command(self):
        # All snapshots, as asof and restic have to. `latest` is not in every such mount.
        return self.command("mount", "--path-template", "{id}", self.point)

    def shown(self, tree):
        return f"{self.point}/{self.snapshot}{tree}"


class Borg(Client):
    name = "borg"
    archives = 0

    def own_env(self):
        return {"BORG_REPO": self.url(), "BORG_PASSPHRASE": PASSWORD, "BORG_BASE_DIR": f"{self.base}/home"}

    def init(self):
        self.archives = 0
        # Processors since 2018 compute SHA-256 faster than BLAKE2.
        self.run(self.command("init", "--encryption", "repokey"))

    def backup(self, tree):
        self.archives += 1
        return self.run(self.command("create", "--compression", "zstd,3", f"::bench{self.archives}", tree))

    def restore(self, tree, target):
        os.makedirs(target)
        return self.run(self.command("extract", f"::bench{self.archives}"), cwd=target), target + tree

    def unlock(self):
        return self.run(self.command("list"))

    def mount_command(self):
        return self.command("mount", "--foreground", f"::bench{self.archives}", self.point)


class Bupstash(Client):
    name, mounts = "bupstash", False
    item = None

    def own_env(self):
        return {"BUPSTASH_REPOSITORY": self.url(), "BUPSTASH_KEY": f"{self.base}/key",
                "BUPSTASH_SEND_LOG": f"{self.base}/send-log", "BUPSTASH_QUERY_CACHE": f"{self.base}/query-cache"}

    def init(self):
        self.run(self.command("new-key", "--output", f"{self.base}/key"))
        super().init()

    def backup(self, tree):
        ran = self.run(self.command("put", "--quiet", "--xattrs", "--compression", "zstd:3", tree))
        self.item = ran.out.decode().strip()
        return ran

    def restore(self, tree, target):
        os.makedirs(target)
        options = ["--quiet", "--ownership", "--xattrs", "--into", target]
        return self.run(self.command("restore", *options, f"id={self.item}")), target

    def unlock(self):
        return self.run(self.command("list", "--quiet"))


PROGRAMS = [Asof, Restic, Rustic, Borg, Bupstash]
