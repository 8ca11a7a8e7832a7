"""The files that everything is measured with: many small ones, and two large ones.

Real files, of those that cargo and rustup leave on any machine with Rust, since neither how well
they compress nor the shape of their directories can be made up. Small ones are the sources of
crates and the toolchain's documentation in their own directories; the large ones are the
toolchain's libraries and programs, one behind the other, each once.
"""
import dataclasses, glob, hashlib, itertools, json, multiprocessing, os, shutil, subprocess

from benchlib.world import Failed

SMALL_MAX = 1 << 20  # bytes; a longer file is none of the small ones
COMPILED_MIN = 1 << 16  # bytes; shorter pieces would not make the large files less alike
COMPILED = (b"\x7fELF", b"!<ar", b"rust")  # how programs, static libraries and metadata of rustc begin
PIECE = 1 << 20  # bytes that are copied at a time
NOTE = ".json"  # the ending of what lies beside a corpus and says how it was made, once it is whole


@dataclasses.dataclass
class Corpus:
    """A tree of two directories, `small` and `large`."""
    path: str
    files: int  # small ones
    entries: int  # what `find small` prints, directories included
    small_bytes: int
    large_bytes: int
    made_of: dict  # how many files, or bytes, by where they are from

    @property
    def large(self):
        return ["large/a", "large/b"] if self.large_bytes else []

    @property
    def all_files(self):
        return self.files + len(self.large)

    @property
    def all_bytes(self):
        return self.small_bytes + self.large_bytes


def build(path, files, large_bytes, copies=1):
    """Makes a corpus, or takes the one that an earlier run with the same numbers left there.

    Every further copy of the small files is another tree of the same shape, each of whose files
    has a first line of its own: nothing can be stored once for all of them.
    """
    # By another process, which takes the memory that this needs with it.
    wanted = [files, large_bytes, copies]
    maker = multiprocessing.get_context("fork").Process(target=make, args=(path, *wanted), daemon=True)
    maker.start()
    maker.join()
    if maker.exitcode:
        raise Failed("there is no corpus")
    with open(path + NOTE) as file:
        known = json.load(file)
    del known["wanted"]
    return Corpus(path=path, **known)


def make(path, files, large_bytes, copies):
    wanted = [files, large_bytes, copies]
    note = path + NOTE
    if os.path.exists(note):
        with open(note) as file:
            if json.load(file)["wanted"] == wanted:
                return
    shutil.rmtree(path, ignore_errors=True)
    made_of = {}
    listed = list(itertools.islice(small_files(made_of), files))
    if len(listed) < files:
        raise SystemExit(f"only {len(listed):,} small files were found on this machine, {files:,} are needed")
    small = os.path.join(path, "small")
    small_bytes = 0
    for number in range(copies):
        top = small if copies == 1 else os.path.join(small, f"copy{number:02}")
        for source, name in listed:
            small_bytes += copy_small(source, os.path.join(top, name), number)
    compiled = write_large(os.path.join(path, "large"), large_bytes, made_of) if large_bytes else 0
    corpus = Corpus(path, files * copies, count_entries(small), small_bytes, compiled, made_of)
    known = dataclasses.asdict(corpus)
    del known["path"]
    with open(note, "w") as file:
        json.dump(known | {"wanted": wanted}, file)


def toolchains():
    """The directories of the Rust toolchains, that of the default one first."""
    home = os.environ.get("RUSTUP_HOME", os.path.expanduser("~/.rustup"))
    found = []
    if shutil.which("rustc"):
        asked = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True)
        found += [asked.stdout.strip()] if asked.returncode == 0 else []
    # One toolchain can have several names.
    found += sorted(glob.glob(f"{home}/toolchains/*"))
    return list(dict.fromkeys(map(os.path.realpath, found)))


def small_files(made_of):
    """Small files and their names in the corpus, sources first, counted by where they are from."""
    cargo = os.environ.get("CARGO_HOME", os.path.expanduser("~/.cargo"))
    roots = [("crates", root) for root in sorted(glob.glob(f"{cargo}/registry/src/*"))]
    for number, chain in enumerate(toolchains()):
        roots += [(f"rust{number}/src", f"{chain}/lib/rustlib/src"), (f"rust{number}/doc", f"{chain}/share/doc")]
    roots += [(root.strip("/"), root) for root in ["/usr/include", *glob.glob("/usr/lib/python3*"), "/usr/share"]]
    for name, root in roots:
        for source in walk(root):
            if 0 < os.path.getsize(source) <= SMALL_MAX:
                made_of[root] = made_of.get(root, 0) + 1
                yield source, os.path.join(name, os.path.relpath(source, root))


def walk(root):
    """The regular files below a directory, in the same order everywhere."""
    for at, dirs, names in os.walk(root):
        dirs.sort()
        for name in sorted(names):
            path = os.path.join(at, name)
            if os.path.isfile(path) and not os.path.islink(path) and os.access(path, os.R_OK):
                yield path


def copy_small(source, target, number):
    """Copies a file with its times; a further copy of it begins with a line of its own."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(source, "rb") as reads, open(target, "wb") as writes:
        if number:
            writes.write(b"// copy %d\n" % number)
        shutil.copyfileobj(reads, writes, PIECE)
        length = writes.tell()
    shutil.copystat(source, target)
    return length


def write_large(path, wanted, made_of):
    """Writes two files of compiled code, half of these many bytes each. Returns how many there are."""
    os.makedirs(path)
    code = compiled_code(made_of)
    for name in ("a", "b"):
        left = wanted // 2
        with open(os.path.join(path, name), "wb") as file:
            while left:
                piece = next(code, None)
                if piece is None:
                    raise SystemExit(f"there is less than {wanted:,} bytes of compiled code on this machine")
                left -= file.write(piece[:left])
    return wanted // 2 * 2


def compiled_code(made_of):
    """All compiled code of this machine, each file of it once, counted by where it is from."""
    seen = set()
    for root, source in compiled_files():
        with open(source, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
            if digest in seen:
                continue
            seen.add(digest)
            file.seek(0)
            while piece := file.read(PIECE):
                counted = f"{root}, bytes"
                made_of[counted] = made_of.get(counted, 0) + len(piece)
                yield piece


def compiled_files():
    """Files of compiled code with the directory that they were found below: the toolchains' before the system's."""
    for root in [*toolchains(), "/usr/lib", "/usr/bin"]:
        for path in walk(root):
            if os.path.getsize(path) >= COMPILED_MIN:
                with open(path, "rb") as file:
                    if file.read(4) in COMPILED:
                        yield root, path


def count_entries(path):
    return 1 + sum(len(dirs) + len(names) for _, dirs, names in os.walk(path))


def totals(path):
    """How many files are below a directory, and their bytes."""
    count = size = 0
    for at, _, names in os.walk(path):
        count += len(names)
        size += sum(os.lstat(os.path.join(at, name)).st_size for name in names)
    return count, size
