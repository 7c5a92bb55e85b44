"""A line between the hosts of one job, which notices within seconds when one of them is gone.

The first host is the chief. Every other one keeps a TCP connection to it, on the port after the chief's own. Over it go
comparisons, small arrays and a sign of life every second; arithmetic has its own ways (see `rsml.training.hosts`).
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator

from rsml.utils.cluster import Cluster
from rsml.utils.errors import UserError

WAIT = 60.0
"""Seconds within which every host must be there."""
SILENCE = 20.0
"""Seconds without a sign of life after which a host counts as gone."""
_GREETING, _WORD, _GREETING_WAIT = "!4sI", b"rsml", 5.0
_ALIVE, _DATA, _LOST, _END = b"a", b"d", b"l", b"e"


class Link:
    """The line between the hosts of a job; opened on every one of them, it is there once all are.

    When a host goes without having closed it, every other process ends with one line and exit code 2: TensorFlow
    itself would wait for the missing numbers.

    Args:
        cluster: The hosts.
        wait: Seconds within which all must be there.
    """

    def __init__(self, cluster: Cluster, wait: float = WAIT) -> None:
        self.cluster, self.wait = cluster, wait
        self._closing = False
        self._ended: set[int] = set()
        self._sending = threading.Lock()
        self._peers = self._gathered() if cluster.rank == 0 else {0: self._called()}
        self._inbox: dict[int, queue.Queue[bytes]] = {rank: queue.Queue() for rank in self._peers}
        for rank, peer in self._peers.items():
            peer.settimeout(SILENCE)
            threading.Thread(target=self._listen, args=(rank,), daemon=True).start()
        threading.Thread(target=self._breathe, daemon=True).start()

    @property
    def chief(self) -> bool:
        """Whether this is the host that writes."""
        return self.cluster.rank == 0

    def exchange(self, value: bytes = b"") -> list[bytes]:
        """What every host has given, in their order; returns when all have (so it is a barrier too)."""
        if not self.chief:
            self._send(0, _DATA, value)
            return _unpacked(self._inbox[0].get())
        values = [value, *(self._inbox[rank].get() for rank in sorted(self._peers))]
        for rank in self._peers:
            self._send(rank, _DATA, _packed(values))
        return values

    def agree(self, subject: str, fingerprint: str, advice: str) -> None:
        """Refuses on every host what is not the same on all of them.

        Args:
            subject: What is compared, for people.
            fingerprint: Of this host's.
            advice: What to do about it.
        """
        found = [text.decode() for text in self.exchange(fingerprint.encode())]
        other = next((rank for rank, text in enumerate(found) if text != found[0]), None)
        if other is not None:
            self.close()
            raise UserError(
                f"{self.cluster.named(other)}: has {subject} {found[other]}, and {self.cluster.named(0)} has "
                f"{found[0]}; {advice}"
            )

    @contextlib.contextmanager
    def chief_first(self) -> Iterator[None]:
        """The chief goes through it before all others do: what it writes there, they find."""
        if not self.chief:
            self.exchange()
        yield
        if self.chief:
            self.exchange()

    def close(self) -> None:
        """Ends the line; that the others go is as it should be from here on, and they learn the same of this one."""
        self._closing = True
        for peer in self._peers.values():
            with contextlib.suppress(OSError), self._sending:
                _write(peer, _END, b"")

    def _gathered(self) -> dict[int, socket.socket]:
        host, _, port = self.cluster.hosts[0].rpartition(":")
        missing, peers, end = set(range(1, len(self.cluster.hosts))), {}, time.monotonic() + self.wait
        try:
            server = socket.create_server(("", int(port) + 1), reuse_port=False)
        except OSError as error:
            raise UserError(
                f"--hosts: port {int(port) + 1} of {host} cannot be opened ({error.strerror}); choose another"
            ) from None
        with server:
            while missing:
                server.settimeout(max(end - time.monotonic(), 0.01))
                try:
                    peer, _ = server.accept()
                    peer.settimeout(_GREETING_WAIT)
                    greeting, rank = struct.unpack(_GREETING, _exactly(peer, struct.calcsize(_GREETING)))
                    if greeting != _WORD or rank not in missing:
                        raise EOFError
                except (OSError, EOFError):
                    if time.monotonic() < end:
                        continue  # a stranger, or one that died at once
                    names = ", ".join(self.cluster.named(rank) for rank in sorted(missing))
                    raise UserError(
                        f"{names}: not there within {self.wait:.0f} s; start the same command there, with its own "
                        f"--rank, and see that it reaches port {int(port) + 1} of {host}"
                    ) from None
                missing.discard(rank)
                peers[rank] = peer
        return peers

    def _called(self) -> socket.socket:
        host, _, port = self.cluster.hosts[0].rpartition(":")
        end = time.monotonic() + self.wait
        while True:
            try:
                peer = socket.create_connection((host, int(port) + 1), timeout=max(end - time.monotonic(), 0.01))
                peer.sendall(struct.pack(_GREETING, _WORD, self.cluster.rank))
                return peer
            except OSError as error:
                if time.monotonic() > end:
                    raise UserError(
                        f"{self.cluster.named(0)}: port {int(port) + 1} not reached within {self.wait:.0f} s "
                        f"({error}); start the same command there with --rank 0, and see that no firewall is between"
                    ) from None
                time.sleep(0.2)

    def _send(self, rank: int, kind: bytes, value: bytes) -> None:
        try:
            with self._sending:
                _write(self._peers[rank], kind, value)
        except OSError:
            self._lost(rank)

    def _breathe(self) -> None:
        while not self._closing:
            for rank in self._peers:
                self._send(rank, _ALIVE, b"")
            time.sleep(1)

    def _listen(self, rank: int) -> None:
        try:
            while True:
                kind, value = _receive(self._peers[rank])
                if kind == _DATA:
                    self._inbox[rank].put(value)
                elif kind == _END:
                    self._ended.add(rank)
                    return
                elif kind == _LOST:
                    self._lost(int(value))
        except (OSError, EOFError):
            self._lost(rank)

    def _lost(self, rank: int) -> None:
        """Ends this process, from whichever thread: the main one may wait within TensorFlow, where nothing reaches."""
        if self._closing or rank in self._ended:
            return
        self._closing = True
        for other in self._peers:
            with contextlib.suppress(OSError):
                _write(self._peers[other], _LOST, str(rank).encode())
        sys.stdout.flush()
        sys.stderr.write(
            f"error: {self.cluster.named(rank)} has ended, and the others with it; finished epochs are kept; "
            "see what it said, and start the same command on every host to go on\n"
        )
        sys.stderr.flush()
        os._exit(2)


def _write(peer: socket.socket, kind: bytes, value: bytes) -> None:
    peer.sendall(kind + struct.pack("!Q", len(value)) + value)


def _receive(peer: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(peer, 9)
    return head[:1], _exactly(peer, struct.unpack("!Q", head[1:])[0])


def _exactly(peer: socket.socket, count: int) -> bytes:
    parts, left = [], count
    while left:
        part = peer.recv(min(left, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _packed(values: list[bytes]) -> bytes:
    return b"".join(struct.pack("!Q", len(value)) + value for value in values)


def _unpacked(text: bytes) -> list[bytes]:
    values, place = [], 0
    while place < len(text):
        (size,) = struct.unpack_from("!Q", text, place)
        values.append(text[place + 8 : place + 8 + size])
        place += 8 + size
    return values
