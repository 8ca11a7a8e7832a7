"""A way to another port of which each direction takes a given time longer.

proxy.py HOST PORT SECONDS

Listens on a free port of 127.0.0.1, which it prints, and ends with its standard input. What
arrives is passed on SECONDS later, however much it is: the time of a long way without its
bandwidth. A new connection takes the round trip that its handshake would take, too. Other things
that a long way does, slow starts and losses, it does not do.

One thread, since two would wait for each other's turn at the interpreter.
"""
import collections, select, socket, sys, threading, time

PIECE = 1 << 20  # bytes that are read at a time
HELD_MAX = 64 << 20  # bytes of a direction that are on their way; more than any way here can hold


class Direction:
    """What goes from one socket to another."""

    def __init__(self, source, sink, delay, not_before):
        self.source, self.sink, self.delay, self.not_before = source, sink, delay, not_before
        self.pieces, self.held = collections.deque(), 0
        self.ended = self.closed = False  # nothing more arrives; nothing more is to be passed on

    def wants_to_read(self):
        return not self.ended and self.held < HELD_MAX

    def next_due(self):
        return self.pieces[0][0] if self.pieces else None

    def read(self):
        try:
            piece = self.source.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        self.ended = not piece
        self.held += len(piece)
        # The end takes as long as what comes before it.
        self.pieces.append((max(time.monotonic() + self.delay, self.not_before), memoryview(piece)))

    def write(self, now):
        """Passes on what is due. Returns whether the other end takes no more for now."""
        while self.pieces and self.pieces[0][0] <= now:
            due, piece = self.pieces.popleft()
            try:
                if not piece:
                    self.closed = True
                    self.sink.shutdown(socket.SHUT_WR)
                    return False
                sent = self.sink.send(piece)
            except BlockingIOError:
                sent = 0
            except OSError:
                # Nobody is there to take it, nor will be.
                self.ended = self.closed = True
                self.pieces.clear()
                return False
            self.held -= sent
            if sent < len(piece):
                self.pieces.appendleft((due, piece[sent:]))
                return True
        return False


def connect(client, address, delay):
    """The two directions of a connection that was just accepted; none if nobody is behind the proxy."""
    try:
        server = socket.create_connection(address)
    except OSError:
        client.close()
        return []
    for end in (client, server):
        end.setblocking(False)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    handshaken = time.monotonic() + 2 * delay
    return [Direction(client, server, delay, handshaken + delay), Direction(server, client, delay, 0)]


def serve(listener, address, delay, stop):
    """Passes on what arrives until `stop` can be read."""
    connections, full = [], set()
    while True:
        directions = [direction for pair in connections for direction in pair]
        now = time.monotonic()
        dues = [due for one in directions if one not in full and (due := one.next_due()) is not None]
        reads = [listener, stop, *(one.source for one in directions if one.wants_to_read())]
        writes = [one.sink for one in full]
        # Not epoll, whose timeouts are whole milliseconds.
        readable, writable, _ = select.select(reads, writes, [], max(0, min(dues) - now) if dues else None)
        readable, writable = set(readable), set(writable)
        if stop in readable:
            return
        if listener in readable:
            connections.append(connect(listener.accept()[0], address, delay))
        now = time.monotonic()
        for one in directions:
            if one.source in readable and one.wants_to_read():
                one.read()
            if (one not in full or one.sink in writable) and not one.closed:
                (full.add if one.write(now) else full.discard)(one)
        for pair in [pair for pair in connections if all(one.closed for one in pair)]:
            connections.remove(pair)
            for one in pair:
                full.discard(one)
                one.source.close()


def measure(port, listener, megabytes):
    """What a way to a listener of this program does: seconds of a connection's first round trip and of the next, and
    bytes a second."""
    def answer():
        with listener.accept()[0] as end:
            for _ in range(2):
                end.recv(1)
                end.sendall(b"x")
            body = bytes(PIECE)
            for _ in range(megabytes):
                end.sendall(body)

    other = threading.Thread(target=answer)
    other.start()
    buffer = bytearray(PIECE)
    with socket.create_connection(("127.0.0.1", port)) as end:
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        trips = []
        for _ in range(2):
            began = time.monotonic()
            end.sendall(b"x")
            end.recv(1)
            trips.append(time.monotonic() - began)
        began = time.monotonic()
        got = 0
        while length := end.recv_into(buffer):
            got += length
        took = time.monotonic() - began
    other.join()
    return *trips, got / took


def main():
    host, port, delay = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        print(listener.getsockname()[1], flush=True)
        serve(listener, (host, port), delay, sys.stdin)


if __name__ == "__main__":
    main()
