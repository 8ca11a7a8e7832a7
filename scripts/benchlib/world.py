"""Running things, timing them, and leaving nothing behind.

Whatever was started is ended by `World.close`, however the benchmark ends: processes, mounts, what
was written to memory, and whatever else has put itself into `endings`.
"""
import collections, contextlib, os, select, shutil, signal, subprocess, tempfile, time

MEMORY = "/dev/shm"  # where copies go, since it takes them at any speed
ROOM = 1.2  # how much more room is needed there than what is copied has bytes
ENDING = 30.0  # seconds that a process has to end when its mount is gone
# What a program finds in its environment is what is set here, not what the caller happens to have.
OWN = ("ASOF_", "RESTIC_", "RUSTIC_", "BORG_", "BUPSTASH_", "AWS_", "OPENDAL_", "XDG_")

Ran = collections.namedtuple("Ran", "seconds peak out")


class Failed(Exception):
    """A command that did not do what it was to do."""


class TooSlow(Exception):
    """A command that took longer than anybody waits."""


class World:
    """The place where all of it happens."""

    def __init__(self, work, patience):
        self.work, self.patience = work, patience
        self.memory = tempfile.mkdtemp(prefix="asof-bench-", dir=MEMORY)
        self.children, self.stuck, self.endings = {}, [], contextlib.ExitStack()
        self.cold = True  # whether the page cache may lack what was read before

    def path(self, *parts):
        return os.path.join(self.work, *parts)

    def environment(self, extra):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
        return kept | (extra or {})

    def start(self, argv, env=None, cwd=None, **streams):
        """Starts a process in a session of its own, so that Ctrl-C reaches this program alone."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | streams
        process = subprocess.Popen(argv, env=self.environment(env), cwd=cwd, start_new_session=True, **streams)
        self.children[process.pid] = process
        return process

    def run(self, argv, env=None, cwd=None, discard=False):
        """Runs a command to its end. Its output is kept in memory, or goes nowhere at once.

        The peak is that of the process, and no less than what this program has at the time: some
        20 MB, which the kernel counts from before the process became another program.
        """
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # or it would count the most that this program ever had
        with tempfile.TemporaryFile(dir=self.memory) as out, tempfile.TemporaryFile(dir=self.memory) as err:
            began = time.monotonic()
            process = self.start(argv, env, cwd, stdout=subprocess.DEVNULL if discard else out, stderr=err)
            in_time = self.await_end(process, self.patience)
            if not in_time:
                os.killpg(process.pid, signal.SIGKILL)
                # A reader of a mount that does not answer ends when the mount does.
                if not self.await_end(process, 1.0):
                    self.stuck.append(process)
                    raise TooSlow(argv)
            _, status, used = os.wait4(process.pid, 0)
            took = time.monotonic() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            del self.children[process.pid]
            if not in_time:
                raise TooSlow(argv)
            if process.returncode:
                raise Failed(f"{' '.join(argv)}: exit {process.returncode}\n{text_of(err)}")
            out.seek(0)
            return Ran(took, used.ru_maxrss * 1024, out.read())

    def shell(self, script, *args, **kw):
        """Runs a line of shell; a failure anywhere in a pipeline is one of the line."""
        return self.run(["bash", "-c", f"set -o pipefail; {script}", "bash", *args], **kw)

    @staticmethod
    def await_end(process, seconds):
        """Whether a process has ended before that time is over. It can still be asked how."""
        pidfd = os.pidfd_open(process.pid)
        try:
            return bool(select.select([pidfd], [], [], seconds)[0])
        finally:
            os.close(pidfd)

    def drop_caches(self):
        """Forgets what the kernel has read, and writes out what it has not written."""
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3")
        self.cold = True

    def read_all(self, *paths):
        """Brings files into the page cache."""
        self.run(["find", *paths, "-type", "f", "-exec", "cat", "{}", "+"], discard=True)

    @contextlib.contextmanager
    def mounted(self, argv, point, env=None, **streams):
        """Starts what mounts and serves in the foreground, waits for the mount, and ends both after use."""
        os.makedirs(point, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.memory) as err:
            process = self.start(argv, env, stderr=err, **streams)
            try:
                self.await_mount(point, process, err)
            except BaseException:
                # It must not mount after all, when nobody looks any longer.
                os.killpg(process.pid, signal.SIGKILL)
                self.end(process)
                self.unmount(point)
                raise
        try:
            yield process
        finally:
            self.unmount(point)
            self.end(process)
            while self.stuck:
                self.end(self.stuck.pop())

    def await_mount(self, point, process, err):
        until = time.monotonic() + self.patience
        pidfd = os.pidfd_open(process.pid)
        with open("/proc/self/mountinfo") as info:
            changes = select.poll()
            changes.register(info, select.POLLERR | select.POLLPRI)
            changes.register(pidfd, select.POLLIN)
            try:
                while point not in mount_points(info):
                    left = until - time.monotonic()
                    if left <= 0:
                        raise TooSlow(process.args)
                    happened = changes.poll(left * 1000)
                    if (pidfd, select.POLLIN) in happened:
                        raise Failed(f"{' '.join(process.args)}: ended before it mounted\n{text_of(err)}")
            finally:
                os.close(pidfd)

    @staticmethod
    def unmount(point):
        """Unmounts, however busy it is; nothing if nothing is mounted there."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with open("/proc/self/mountinfo") as info:
            while point in mount_points(info):
                if subprocess.run(["umount", point], **quiet).returncode:
                    subprocess.run(["umount", "--lazy", point], **quiet, check=True)

    def end(self, process):
        """Lets a process end by itself, as it does when its mount or its input has gone, and else ends it."""
        if process.stdin:
            process.stdin.close()
        if process.returncode is None and not self.await_end(process, ENDING):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.children.pop(process.pid, None)

    @contextlib.contextmanager
    def copy_target(self, size):
        """A directory in memory that does not exist yet, has room for these bytes, and is removed again."""
        if shutil.disk_usage(self.memory).free < ROOM * size:
            raise Failed(f"{MEMORY} has no room for a copy of {size / 1e6:,.0f} MB")
        target = os.path.join(self.memory, "copy")
        try:
            yield target
        finally:
            shutil.rmtree(target, ignore_errors=True)

    def close(self):
        for process in list(self.children.values()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        with open("/proc/self/mountinfo") as info:
            for point in mount_points(info):
                if point.startswith(f"{self.work}/"):
                    self.unmount(point)
        for process in list(self.children.values()):
            self.end(process)
        self.endings.close()
        shutil.rmtree(self.memory, ignore_errors=True)


def text_of(file):
    file.seek(0)
    return file.read().decode(errors="replace").strip()


def mount_points(info):
    """What is mounted now, out of an open mountinfo."""
    info.seek(0)
    return [line.split(" ")[4].replace("\\040", " ") for line in info]


def peak_of(process):
    """The most memory that a running process has had, in bytes."""
    with open(f"/proc/{process.pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
