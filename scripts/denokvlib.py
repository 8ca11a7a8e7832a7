#!/usr/bin/env python3
"""A database as Deno KV keeps it in SQLite, its history, and that history in the format of Deno's own backup.

scripts/denokvlib.py DATABASE KEYS RATE END     writes the history: transactions 1 to END, RATE a second (0: as
                                                many as can be), each told as by the writers of followlib

What transaction N does follows from N and KEYS, so a backup of the history is made from the numbers and times
that the writer told, and not from the database: what is read back through either can be compared.

A bucket of Deno's format 1, below a prefix (the reader is denokv's timemachine/src/backup_source_s3.rs):
  differential                                the versionstamp of a whole state: here that of the first
  snapshots/0001_MONOSEQ_SEQ.bin              all keys then, by ranges
  logs/0001_MONOSEQ_FIRST_LAST.bin            transactions, each change of which has a versionstamp of 12 bytes;
                                              ffff at its end says that a transaction ends there
Bodies are protobuf (com.deno.kv.backup), neither compressed nor sealed.
"""
import concurrent.futures, datetime, hashlib, hmac, http.client, sqlite3, struct, sys, threading, time
import urllib.parse

# denokv_sqlite 0.14.0, without its queues.
SCHEMA = """
PRAGMA journal_mode = wal; PRAGMA synchronous = normal;
CREATE TABLE migration_state (k INTEGER NOT NULL PRIMARY KEY, version INTEGER NOT NULL);
INSERT INTO migration_state VALUES (0, 3);
CREATE TABLE data_version (k INTEGER PRIMARY KEY, version INTEGER NOT NULL, seq INTEGER NOT NULL DEFAULT 0);
INSERT INTO data_version (k, version) VALUES (0, 1000);
CREATE TABLE kv (k BLOB PRIMARY KEY, v BLOB NOT NULL, v_encoding INTEGER NOT NULL, version INTEGER NOT NULL,
                 seq INTEGER NOT NULL DEFAULT 0, expiration_ms INTEGER NOT NULL DEFAULT -1) WITHOUT ROWID;
CREATE INDEX kv_expiration_ms_idx ON kv (expiration_ms);
"""
SET = ("INSERT INTO kv (k, v, v_encoding, version) VALUES (?1, ?2, ?3, ?4) "
       "ON CONFLICT (k) DO UPDATE SET v = ?2, v_encoding = ?3, version = ?4")
FIRST = 1000  # the version of the state before transaction 1; that of transaction N is FIRST + N
COUNTER, U64, BYTES = b"\x02n\x00", 2, 3  # the key ["n"]; encodings of values
PER_RANGE = 2000  # keys of a snapshot's object: a megabyte
NOTHING = (b"", None, 0)


def key(i):
    return b"\x02u\x00\x02%07d\x00" % i


def value(i, n):
    """500 characters that compress to a half and are like no others."""
    return hashlib.shake_256(b"%d %d" % (i, n)).hexdigest(250).encode()


def base(keys):
    """The state before transaction 1: (key, value, encoding), in order."""
    return [(COUNTER, struct.pack("<Q", 0), U64)] + [(key(i), value(i, 0), BYTES) for i in range(keys)]


def transaction(n, keys):
    """What it changes: (key, value, encoding), None for what it deletes."""
    changes = [(COUNTER, struct.pack("<Q", n), U64), (key(n * 7919 % keys), value(n * 7919 % keys, n), BYTES)]
    if n % 7 == 0:
        changes.append((key(n * 31 % keys), None, 0))
    return changes


def make(path, keys):
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript(SCHEMA)
    db.execute("BEGIN")
    db.executemany(SET, [(*row, FIRST) for row in base(keys)])
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def write(path, keys, rate, end):
    db = sqlite3.connect(path, isolation_level=None, timeout=60)
    begun = time.monotonic()
    for n in range(1, end + 1):
        left = begun + n / rate - time.monotonic() if rate else 0
        if left > 0.0002:
            time.sleep(left)
        before = time.time()
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE data_version SET version = ?", (FIRST + n,))
        for k, v, encoding in transaction(n, keys):
            if v is None:
                db.execute("DELETE FROM kv WHERE k = ?", (k,))
            else:
                db.execute(SET, (k, v, encoding, FIRST + n))
        db.execute("COMMIT")
        print(f"{n} {before:.6f} {time.time():.6f}", flush=True)


# The backup.


def stamp(n):
    """The versionstamp after transaction N, 10 bytes."""
    return struct.pack(">QH", FIRST + n, 0)


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, content):
    """Of protobuf; an integer that is 0, or bytes that are none, are left out."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content) if content else b""
    return varint(number << 3 | 2) + varint(len(content)) + content if content else b""


def log(sequence, transactions, seconds):
    """Name and body of an object; each transaction is its versionstamp and its changes."""
    entries, stamps = [], []
    for version, changes in transactions:
        for at, (k, v, encoding) in enumerate(changes):
            stamps.append(version + (b"\xff\xff" if at == len(changes) - 1 else struct.pack(">H", at)))
            entries.append(field(1, field(1, stamps[-1]) + field(2, 2 if v is None else 1) + field(3, k)
                                 + field(4, v or b"") + field(5, encoding)))
    return (f"logs/0001_{sequence:016x}_{stamps[0].hex()}_{stamps[-1].hex()}.bin",
            b"".join(entries) + field(2, int(seconds * 1000)))


def backup(told, keys, each):
    """All objects, as (name, body). `told` is the writer's; with `each` every transaction has an object, else all
    of a second share one."""
    rows = base(keys)
    for at in range(0, len(rows), PER_RANGE):
        part, rest = rows[at:at + PER_RANGE], struct.pack("<q", -1)  # which never expires
        body = [field(1, field(1, b"d" + k) + field(2, v)) for k, v, _ in part]
        body += [field(2, field(1, b"m" + k) + field(2, stamp(0) + bytes([encoding]) + rest)) for k, _, encoding in part]
        yield f"snapshots/0001_{1:016x}_{at // PER_RANGE:016x}.bin", b"".join(body)
    # The reader keeps no way back behind the first transaction that it applies, so that one changes nothing.
    yield log(2, [(stamp(0), [NOTHING]), (stamp(0)[:-1] + b"\x01", [NOTHING])], told[0][1])
    groups = {}
    for n, _, after in told:
        groups.setdefault(n if each else int(after), []).append((n, after))
    for sequence, group in enumerate(groups.values(), 3):
        yield log(sequence, [(stamp(n), transaction(n, keys)) for n, _ in group], group[-1][1])
    yield "differential", stamp(0).hex().encode()


def upload(s3, prefix, objects):
    """Puts them with the owner's keys of `scripts/ceph`; how many objects and bytes they were."""
    address, here = urllib.parse.urlsplit(s3["ENDPOINT"]).netloc, threading.local()

    def put(name, body):
        path = f"/{s3['BUCKET']}/{prefix}{name}"
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        headers = {"host": address, "x-amz-content-sha256": hashlib.sha256(body).hexdigest(), "x-amz-date": now}
        names, scope = ";".join(headers), f"{now[:8]}/us-east-1/s3/aws4_request"
        request = "\n".join(["PUT", path, "", *(f"{n}:{v}" for n, v in headers.items()), "", names,
                             headers["x-amz-content-sha256"]])
        signed = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(request.encode()).hexdigest()])
        secret = b"AWS4" + s3["SECRET_KEY"].encode()
        for part in [*scope.split("/"), signed]:
            secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
        headers["authorization"] = (f"AWS4-HMAC-SHA256 Credential={s3['ACCESS_KEY']}/{scope}, SignedHeaders={names}, "
                                    f"Signature={secret.hex()}")
        if not hasattr(here, "connection"):
            here.connection = http.client.HTTPConnection(address, timeout=60)
        here.connection.request("PUT", path, body, headers)
        answer = here.connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise OSError(f"PUT {name}: {answer.status} {text[:300]!r}")
        return len(body)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        sizes = list(pool.map(put, *zip(*objects)))
    return len(sizes), sum(sizes)


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
