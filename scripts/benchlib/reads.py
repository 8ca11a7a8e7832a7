"""Reads pieces of files at random places, the same in every run with the same seed.

reads.py COUNT SEED FILE...

Prints the seconds that it took, once the files were open, and a hash of all that was read.
"""
import hashlib, os, random, sys, time

PIECE = 4096


def main():
    count, rng, paths = int(sys.argv[1]), random.Random(sys.argv[2]), sys.argv[3:]
    files = [os.open(path, os.O_RDONLY) for path in paths]
    ends = [os.fstat(file).st_size - PIECE for file in files]
    places = [(which := rng.randrange(len(files)), rng.randrange(ends[which])) for _ in range(count)]
    began = time.monotonic()
    pieces = [os.pread(files[which], PIECE, offset) for which, offset in places]
    took = time.monotonic() - began
    print(took, hashlib.sha256(b"".join(pieces)).hexdigest())


main()
