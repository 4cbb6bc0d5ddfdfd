#!/usr/bin/env python3
"""Ask for TNS names and send to synthetic addresses without end, as programs on a machine
do, whatever state the service is in.

    ask.py COUNTS [ADDRESS...]

`COUNTS` is rewritten as the asking goes on: `stub N libc N packets N`. Names are new ones
each time, so that no cache answers for the network. It ends when it is killed, or when
`COUNTS.stop` appears.
"""

import itertools
import os
import socket
import struct
import sys
import threading

# How long one ask may hold its thread: the resolver goes on with its part all the same.
PATIENCE_S = 0.25
LIBC_THREADS = 4
STUB = ("127.0.0.53", 53)
A, PTR, AAAA, HTTPS = 1, 12, 28, 65


def names(thread, bare):
    """Unheard-of names below the petname and the suffix, and the known ones between; `bare` is the short one."""
    for n in itertools.count():
        yield f"q{thread}x{n}.alice"
        yield f"q{thread}x{n}.alice.tarnet.alt"
        yield ("blog.alice", "blog.alice.tarnet.alt", bare, "alice.tarnet.alt", f"q{thread}x{n}.tarnet.alt")[n % 5]


class Counts:
    """How much was asked, for whoever waits for it."""

    def __init__(self, path):
        self.path, self.lock = path, threading.Lock()
        self.of = {"stub": 0, "libc": 0, "packets": 0}

    def add(self, kind):
        with self.lock:
            self.of[kind] += 1
            with open(self.path + ".new", "w") as file:
                print(*(f"{k} {v}" for k, v in self.of.items()), file=file)
            os.replace(self.path + ".new", self.path)

    def go_on(self):
        return not os.path.exists(self.path + ".stop")


def query(number, name, kind):
    """A DNS question."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"
    return struct.pack(">HHHHHH", number & 0xFFFF, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">HH", kind, 1)


def ask_stub(counts):
    """As static programs do: straight to the server in resolv.conf, with a search domain behind a short name."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(PATIENCE_S)
    for n, name in enumerate(names("s", "alice.tarnet.alt")):
        if not counts.go_on():
            return
        kind = (A, AAAA, HTTPS)[n % 3]
        if n % 7 == 6:
            name, kind = f"{n % 250 + 1}.0.18.198.in-addr.arpa", PTR
        try:
            sock.sendto(query(n, name, kind), STUB)
            sock.recv(4096)
        except OSError:
            pass
        counts.add("stub")


def ask_libc(counts, thread):
    """As everybody else does."""
    for name in names(f"l{thread}", "alice"):
        if not counts.go_on():
            return
        try:
            socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)
        except OSError:
            pass
        counts.add("libc")


def send(counts, addresses):
    """To addresses that a program looked up before, and their neighbours."""
    for address in itertools.cycle(addresses):
        if not counts.go_on():
            return
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            try:
                with socket.socket(family, kind) as sock:
                    sock.settimeout(PATIENCE_S)
                    sock.connect((address, 80))
                    sock.send(b"hello")
            except OSError:
                pass
        counts.add("packets")


def main():
    """Start all, and wait for the end."""
    counts = Counts(sys.argv[1])
    work = [threading.Thread(target=ask_stub, args=(counts,), daemon=True)]
    work += [threading.Thread(target=ask_libc, args=(counts, n), daemon=True) for n in range(LIBC_THREADS)]
    if sys.argv[2:]:
        work.append(threading.Thread(target=send, args=(counts, sys.argv[2:]), daemon=True))
    for thread in work:
        thread.start()
    work[0].join()


if __name__ == "__main__":
    main()
