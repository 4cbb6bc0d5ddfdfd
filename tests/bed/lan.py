#!/usr/bin/env python3
"""The LAN that the bed's machine hangs on: an ordinary DNS server that logs every query,
and a listener on the cable that logs every name the machine says to anybody.

    lan.py DEVICE ADDRESS ADDRESS6 LOGDIR

`LOGDIR/queries` has one line per query at the server, `LOGDIR/cable` one per name seen in
DNS, mDNS or LLMNR packets that came from the machine, whomever they were for, and
`LOGDIR/strays` one per packet of the machine's from or to a synthetic address.
`LOGDIR/ready` appears once both listen. TCP port 7 echoes, for flows that stay open.
"""

import ipaddress
import os
import socket
import socketserver
import struct
import sys
import threading

A, PTR, AAAA = 1, 12, 28
TYPES = {A: "A", PTR: "PTR", AAAA: "AAAA", 6: "SOA", 16: "TXT", 65: "HTTPS"}
# Longest TCP message taken: questions are far shorter.
MAX_MESSAGE = 4096
# DNS, mDNS, LLMNR.
NAME_PORTS = (53, 5353, 5355)


def question(message):
    """The first question: (name, type, end of the question), or None."""
    if len(message) < 17 or struct.unpack_from(">H", message, 4)[0] < 1:
        return None
    labels, at = [], 12
    while at < len(message):
        length = message[at]
        at += 1
        if length == 0:
            break
        if length > 63 or at + length > len(message):
            return None
        labels.append(message[at:at + length].decode("latin-1").lower())
        at += length
    if at + 4 > len(message):
        return None
    return ".".join(labels), struct.unpack_from(">H", message, at)[0], at + 4


class Zone:
    """The ordinary names of this LAN."""

    def __init__(self, v4, v6):
        reverse = ".".join(reversed(v4.split("."))) + ".in-addr.arpa"
        self.names = {}
        for name in ("www.example.org", "router.lan.example", "router"):
            self.names[name] = {A: socket.inet_aton(v4), AAAA: socket.inet_pton(socket.AF_INET6, v6)}
        self.names[reverse] = {PTR: b"\6router\3lan\7example\0"}

    def answer(self, message):
        """(name, type, reply) to a query, or None where it is none."""
        asked = question(message)
        if asked is None or message[2] & 0x80:
            return None
        name, kind, end = asked
        records = self.names.get(name)
        data = (records or {}).get(kind)
        flags = 0x8180 | (0 if records else 3)
        head = message[:2] + struct.pack(">HHHHH", flags, 1, 1 if data else 0, 0, 0)
        record = struct.pack(">HHHIH", 0xC00C, kind, 1, 60, len(data)) + data if data else b""
        return name, kind, head + message[12:end] + record


class Log:
    """A file of lines, each on disk before the query is answered."""

    def __init__(self, path):
        self.file = open(path, "a", buffering=1)
        self.lock = threading.Lock()

    def line(self, *words):
        with self.lock:
            print(*words, file=self.file)


def dns(zone, log, family, address):
    """Serve UDP and TCP at one address."""

    class Udp(socketserver.BaseRequestHandler):
        def handle(self):
            reply = zone.answer(self.request[0])
            if reply:
                log.line("udp", reply[0], TYPES.get(reply[1], reply[1]))
                self.request[1].sendto(reply[2], self.client_address)

    class Tcp(socketserver.StreamRequestHandler):
        def handle(self):
            while len(head := self.rfile.read(2)) == 2:
                size = struct.unpack(">H", head)[0]
                reply = zone.answer(self.rfile.read(size)) if size <= MAX_MESSAGE else None
                if not reply:
                    return
                log.line("tcp", reply[0], TYPES.get(reply[1], reply[1]))
                self.wfile.write(struct.pack(">H", len(reply[2])) + reply[2])

    for base, handler in ((socketserver.ThreadingUDPServer, Udp), (socketserver.ThreadingTCPServer, Tcp)):
        kind = type("Server", (base,), {"address_family": family, "allow_reuse_address": True, "daemon_threads": True})
        threading.Thread(target=kind((address, 53), handler).serve_forever, daemon=True).start()


def echo(address, port):
    """What is exposed as alice's echo."""

    class Echo(socketserver.BaseRequestHandler):
        def handle(self):
            while data := self.request.recv(65536):
                self.request.sendall(data)

    kind = type("Server", (socketserver.ThreadingTCPServer,), {"allow_reuse_address": True, "daemon_threads": True})
    threading.Thread(target=kind((address, port), Echo).serve_forever, daemon=True).start()


def payload(packet):
    """(protocol, destination port, payload) of an IP packet's UDP or TCP, or None."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        at, protocol = (packet[0] & 15) * 4, packet[9]
    elif version == 6 and len(packet) >= 40:
        at, protocol = 40, packet[6]
    else:
        return None
    if protocol == 17 and len(packet) >= at + 8:
        return "udp", struct.unpack_from(">H", packet, at + 2)[0], packet[at + 8:]
    if protocol == 6 and len(packet) >= at + 20:
        port = struct.unpack_from(">H", packet, at + 2)[0]
        # A question over TCP stands behind two bytes of length.
        return "tcp", port, packet[at + (packet[at + 12] >> 4) * 4 + 2:]
    return None


def stray(packet, lan6):
    """What a packet from or to a synthetic address says of itself, or None."""
    if packet[0] >> 4 == 4 and len(packet) >= 20:
        ends = [ipaddress.ip_address(packet[at:at + 4]) for at in (12, 16)]
        ours = ipaddress.ip_network("198.18.0.0/15")
        found = any(end in ours for end in ends)
    elif packet[0] >> 4 == 6 and len(packet) >= 40:
        ends = [ipaddress.ip_address(packet[at:at + 16]) for at in (8, 24)]
        local = ipaddress.ip_network("fd00::/8")
        found = any(end in local and end not in lan6 for end in ends)
    else:
        return None
    what = payload(packet)
    return f"{ends[0]} -> {ends[1]} {what[0]}/{what[1]}" if found and what else f"{ends[0]} -> {ends[1]}" if found else None


def listen(cable, log, strays, own, lan6):
    """Log the names in what comes from the machine, and its strays. `own`: the LAN's addresses."""
    while True:
        packet, where = cable.recvfrom(65536)
        if where[2] == socket.PACKET_OUTGOING or not packet:
            continue
        line = stray(packet, lan6)
        if line:
            strays.line(line)
        source = packet[12:16] if packet[:1] and packet[0] >> 4 == 4 else packet[8:24]
        found = payload(packet)
        if source in own or not found or found[1] not in NAME_PORTS:
            continue
        asked = question(found[2])
        if asked:
            log.line(f"{found[0]}/{found[1]}", asked[0], TYPES.get(asked[1], asked[1]))


def main():
    """Serve until killed."""
    device, v4, v6, folder = sys.argv[1:]
    cable = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    cable.bind((device, 0))
    zone, queries = Zone(v4, v6), Log(os.path.join(folder, "queries"))
    dns(zone, queries, socket.AF_INET, v4)
    dns(zone, queries, socket.AF_INET6, v6)
    echo("127.0.0.1", 4007)
    open(os.path.join(folder, "ready"), "w").close()
    own = {socket.inet_aton(v4), socket.inet_pton(socket.AF_INET6, v6)}
    lan6 = ipaddress.ip_network(f"{v6}/64", strict=False)
    listen(cable, Log(os.path.join(folder, "cable")), Log(os.path.join(folder, "strays")), own, lan6)


if __name__ == "__main__":
    main()
