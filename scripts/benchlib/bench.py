"""What the measures share: corpus, programs, results, and how something is timed and told."""
import contextlib, functools, os

from benchlib.places import Directory
from benchlib.world import Failed, TooSlow, peak_of


class Bench:
    def __init__(self, world, scale, corpus, clients, results, bucket):
        self.world, self.scale, self.corpus, self.results = world, scale, corpus, results
        self.clients, self.asof = clients, clients[0]
        self.turn = 0  # which run it is
        self.filled = set()  # programs whose repository holds the corpus
        self.made = {}  # what a measure keeps from run to run
        self.open_bucket = bucket

    def turns(self, can=lambda client: True):
        """The programs that can do something, each in turn the first."""
        return rotated([client for client in self.clients if can(client)], self.turn)

    @functools.cached_property
    def bucket(self):
        """A bucket, opened when it is first needed; None if there is none."""
        return self.open_bucket()

    @contextlib.contextmanager
    def attempt(self, client, *lines):
        """Takes what is too slow, or a failure of another program, as the result of these lines."""
        try:
            yield
        except TooSlow:
            self.tell(lines[0], client.name, f"more than {self.world.patience:.0f} s")
            for line in lines:
                self.results.give_up(line, client.name, self.world.patience)
        except Failed as failure:
            if client.name == "asof":
                raise
            self.tell(lines[0], client.name, f"failed: {str(failure).splitlines()[-1]}")
            for line in lines:
                self.results.lack(line, client.name, str(failure))

    def is_settled(self, client, line):
        return self.results.is_settled(line, client.name)

    def seconds(self, line, program, value):
        self.results.record(line, program, value)
        self.tell(line, program, f"{value:.3f} s")

    def bytes(self, line, program, value):
        self.results.record(line, program, value)

    def tell(self, line, program, text):
        print(f"  {line:<22}{program:<10}{text}", flush=True)

    def note(self, text):
        """Something to be told below the tables, once."""
        if text not in self.results.notes:
            self.results.notes.append(text)

    def fill(self, client):
        """Sees to it that a program's repository holds the corpus."""
        if client.name not in self.filled:
            client.fresh()
            client.backup(self.corpus.path)
            self.filled.add(client.name)

    def read_corpus(self):
        """Brings the corpus into the page cache, if it may not be there."""
        if self.world.cold:
            self.world.read_all(self.corpus.path)
            self.world.cold = False

    @contextlib.contextmanager
    def mounted(self, client, cold=True, peak="mount-peak", column=None):
        """Mounts a program's repository. Yields the tree, of which the first `ls` has been seen.

        What memory it took goes to a line and a column.
        """
        if cold:
            self.world.drop_caches()
        with self.world.mounted(client.mount_command(), client.point, client.env()) as process:
            tree = client.shown(self.corpus.path)
            self.world.run(["ls", tree])
            yield tree
            if peak:
                self.bytes(peak, column or client.name, peak_of(process))

    def check(self, is_right, what):
        """A figure of something that was not done is none."""
        if not is_right:
            raise Failed(f"wrong: {what}")

    def somewhere(self, name, client=None):
        """A repository for one measure, of asof or another: a client that knows nothing, and an empty directory."""
        base = self.world.path("extra", name)
        return (client or self.asof).elsewhere(base, Directory(os.path.join(base, "repository")))


def rotated(some, turn):
    """The same in another order in each run, so that nothing always comes first."""
    shift = turn % len(some)
    return some[shift:] + some[:shift]
