import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from rsml.utils import link as links
from rsml.utils.cluster import Cluster
from rsml.utils.errors import UserError
from rsml.utils.link import Link


def free_port() -> int:
    """A port that is free, as is the one after it."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = first.getsockname()[1]
            try:
                with socket.create_server(("127.0.0.1", port + 1)):
                    return port
            except (OSError, OverflowError):
                continue


def hosts(count: int) -> tuple[str, ...]:
    return (f"127.0.0.1:{free_port()}", *(f"127.0.0.1:{number}" for number in range(2, count + 1)))


def on_all(count, work):
    """What `work(rank)` returns, or raises, for every rank at once."""

    def guarded(rank):
        try:
            return work(rank)
        except UserError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(guarded, range(count)))


@pytest.fixture
def three():
    names = hosts(3)
    made = on_all(3, lambda rank: Link(Cluster(names, rank), wait=20))
    yield made
    for one in made:
        one.close()


@pytest.fixture
def ended(monkeypatch):
    """The exit codes with which processes would have ended."""
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


def test_everyone_gets_what_everyone_gives(three):
    values = [b"", b"x" * 3_000_000, b"\0two"]
    for _ in range(2):
        assert on_all(3, lambda rank: three[rank].exchange(values[rank])) == [values] * 3


def test_the_chief_goes_first(three):
    order = []

    def work(rank):
        with three[rank].chief_first():
            if rank == 0:
                time.sleep(0.2)
            order.append(rank)

    on_all(3, work)
    assert order[0] == 0 and sorted(order) == [0, 1, 2]


def test_what_differs_is_refused_everywhere_and_nobody_counts_as_dead(three, ended):
    on_all(3, lambda rank: three[rank].agree("the code", "same", "mend it"))
    found = on_all(3, lambda rank: three[rank].agree("the config", "mine" if rank == 2 else "ours", "mend it"))
    name = three[0].cluster.hosts[2]
    for error in found:
        assert str(error).startswith(f"host {name} (rank 2): has the config mine, and host ")
        assert str(error).endswith("has ours; mend it")
    time.sleep(0.2)
    assert not ended


def test_a_host_that_goes_ends_the_others_and_is_named(three, ended, capsys):
    for peer in three[2]._peers.values():
        peer.shutdown(socket.SHUT_RDWR)
    deadline = time.monotonic() + 10
    while len(ended) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    # The one itself, whose line was cut here too, is the third.
    assert ended == [2, 2, 2]
    lines = capsys.readouterr().err.splitlines()
    name = three[0].cluster.hosts[2]
    assert sum(f"host {name} (rank 2) has ended" in line for line in lines) == 2 and len(lines) == 3


def test_a_host_that_is_silent_counts_as_gone(monkeypatch, ended, capsys):
    monkeypatch.setattr(links, "SILENCE", 0.5)
    monkeypatch.setattr(Link, "_breathe", lambda self: None)
    names = hosts(2)
    made = on_all(2, lambda rank: Link(Cluster(names, rank), wait=20))
    deadline = time.monotonic() + 10
    while not ended and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ended and set(ended) == {2} and "has ended" in capsys.readouterr().err
    for one in made:
        one.close()


@pytest.mark.parametrize("there", [0, 1])
def test_a_host_that_does_not_come_is_named_after_the_stated_time(there):
    names = hosts(3)
    with pytest.raises(UserError) as error:
        Link(Cluster(names, there), wait=0.3)
    if there == 0:
        assert str(error.value).startswith(f"host {names[1]} (rank 1), host {names[2]} (rank 2): not there within 0 s")
    else:
        assert str(error.value).startswith(f"host {names[0]} (rank 0): port ")
        assert "not reached within 0 s" in str(error.value)


def test_strangers_at_the_door_do_no_harm():
    names = hosts(2)

    def work(rank):
        if rank == 2:
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                try:
                    with socket.create_connection(("127.0.0.1", int(names[0].rpartition(":")[2]) + 1), 1) as stranger:
                        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" * 3)
                    return None
                except OSError:
                    time.sleep(0.01)
            return None
        if rank == 1:
            time.sleep(0.5)
        return Link(Cluster(names, rank), wait=20)

    made = on_all(3, work)
    assert all(isinstance(one, Link) for one in made[:2])
    for one in made[:2]:
        one.close()


def test_a_port_in_use_is_named():
    names = hosts(2)
    port = int(names[0].rpartition(":")[2]) + 1
    with socket.create_server(("", port)), pytest.raises(UserError, match=f"port {port} of 127.0.0.1 cannot be opened"):
        Link(Cluster(names, 0), wait=1)
