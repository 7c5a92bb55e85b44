"""The queue is bounded, every question gets its own answer, and the model may change in between."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from rsml.app.client import Client, ServiceError
from rsml.app.engine import Engine, Full
from rsml.app.security import CSP, Limits
from rsml.prediction.scene_model import SceneModel
from tests.app.conftest import TOKEN, encoded, open_client, upload, write_model

GREY = encoded(np.full((32, 32, 3), 90, np.uint8))


def asked(*contents):
    return [(str(number), lambda content=content: content) for number, content in enumerate(contents)]


@pytest.fixture
def held(model_file, monkeypatch):
    """An engine of three places whose model waits until it is released."""
    with Engine(model_file, batch_size=2, queue=3, watch=None) as engine:
        released, answer = threading.Event(), engine.served.answer
        monkeypatch.setattr(engine.served, "answer", lambda *about: released.wait(60) and answer(*about))
        engine.release = released.set
        yield engine
        released.set()


def wait_until(true, seconds=60.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_each_of_many_callers_gets_its_own_answer(engine):
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (60, 32, 32, 3), np.uint8)
    expected = engine.served.answer("scores", images, [()] * 60)
    wrong = []

    def ask(rows):
        contents = [b"damaged" if row % 10 == 3 else encoded(images[row]) for row in rows]
        futures = engine.ask("scores" if rows[0] % 2 else "embedding", asked(*contents))
        for row, future in zip(rows, futures, strict=True):
            fault = future.exception(60)
            if row % 10 == 3:
                wrong.extend([] if "not an image" in str(fault) else [row])
            elif rows[0] % 2 and np.abs(future.result() - expected[row]).max() > 1e-6:
                wrong.append(row)

    threads = [threading.Thread(target=ask, args=(range(begin, begin + 5),)) for begin in range(0, 60, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and engine.in_work == 0


def test_a_full_queue_takes_all_of_a_request_or_nothing(held):
    first = held.ask("scores", asked(GREY, GREY))
    with pytest.raises(Full):
        held.ask("scores", asked(GREY, GREY))
    third = held.ask("scores", asked(GREY))
    reply = upload(open_client(held), "/v1/predict", GREY)
    assert reply.status_code == 429 and int(reply.headers["retry-after"]) >= 1
    # What can never have a place is told so, and not to try again.
    assert upload(open_client(held), "/v1/predict", *[GREY] * 4).status_code == 413
    held.release()
    assert len({future.result(60).tobytes() for future in first + third}) <= 2
    assert upload(open_client(held), "/v1/predict", GREY).status_code == 200


def test_what_nobody_waits_for_gives_its_place_back(held):
    client = open_client(held, limits=Limits(seconds=0.2))
    assert upload(client, "/v1/predict", GREY, GREY, GREY).status_code == 504
    held.release()
    wait_until(lambda: held.in_work == 0)
    assert upload(open_client(held), "/v1/predict", GREY).status_code == 200


def test_closing_answers_what_was_accepted_and_takes_nothing_more(held):
    futures = held.ask("scores", asked(GREY, b"", GREY))
    closing = threading.Thread(target=held.close)
    closing.start()
    wait_until(lambda: not held.alive)
    with pytest.raises(Full):
        held.ask("scores", asked(GREY))
    assert open_client(held).get("/healthz").status_code == 503
    held.release()
    closing.join(60)
    assert [future.exception(0) is None for future in futures] == [True, False, True]


def test_a_batch_that_fails_is_tried_in_halves(model_file, monkeypatch):
    with Engine(model_file, batch_size=4, watch=None) as engine:
        answer = engine.served.answer

        def fails_with_many(kind, images, columns):
            if len(images) > 1:
                raise MemoryError
            return answer(kind, images, columns)

        monkeypatch.setattr(engine.served, "answer", fails_with_many)
        assert all(future.exception(60) is None for future in engine.ask("scores", asked(*[GREY] * 7)))


def test_a_fault_of_our_own_tells_nothing_of_the_inside(model_file, monkeypatch):
    with Engine(model_file, batch_size=1, watch=None) as engine:
        monkeypatch.setattr(engine.served, "answer", lambda *_: 1 / 0)
        reply = upload(open_client(engine), "/v1/predict", GREY)
        assert reply.status_code == 500 and "division" not in reply.text
        assert reply.headers["content-security-policy"] == CSP
        monkeypatch.undo()
        assert upload(open_client(engine), "/v1/predict", GREY).status_code == 200


def test_the_next_best_model_comes_into_force_and_a_damaged_one_does_not(tmp_path):
    file = write_model(tmp_path / "m.keras", 0)
    with Engine(file, batch_size=2, watch=0.05) as engine:
        client, old = open_client(engine), engine.served
        before = upload(client, "/v1/predict", GREY).json()
        write_model(file, 7)
        wait_until(lambda: engine.swaps == 1)
        after = upload(client, "/v1/predict", GREY).json()
        assert after["model"] != before["model"]
        (tmp_path / "grey.png").write_bytes(GREY)
        expected = SceneModel.load(file).scores([str(tmp_path / "grey.png")])[0]
        assert list(after["images"][0]["scores"].values()) == pytest.approx(expected, abs=1e-6)
        # A request that began with the old one is answered by it to the end.
        (late,) = engine.ask("scores", asked(GREY), served=old)
        assert list(before["images"][0]["scores"].values()) == pytest.approx(late.result(60), abs=1e-6)
        (tmp_path / "beside").write_bytes(file.read_bytes()[:1000])
        os.replace(tmp_path / "beside", file)
        wait_until(lambda: engine.failed_swaps == 1)
        file.unlink()
        assert upload(client, "/v1/predict", GREY).json() == after


@pytest.mark.slow
def test_sigterm_answers_what_is_in_work_and_the_client_asks_it(model_file, tmp_path, pictures):
    (tmp_path / "token").write_text(TOKEN + "\n")
    words = ["serve", str(model_file), "--port", "0", "--token-file", str(tmp_path / "token"), "--batch-size", "2"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(__file__).parents[2])}
    server = subprocess.Popen(
        [sys.executable, "-m", "rsml", *words], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        line = server.stdout.readline()
        assert "this machine, with the token" in line
        address = next(word for word in line.split() if word.startswith("http"))
        client = Client(address, TOKEN)
        expected = SceneModel.load(model_file).scores([str(path) for path in pictures])
        found = client.predict([*pictures, b"damaged"])["images"]
        assert [one["name"] for one in found[:-1]] == [path.name for path in pictures] and "error" in found[-1]
        np.testing.assert_allclose([list(one["scores"].values()) for one in found[:-1]], expected, atol=1e-6)
        assert "error" in client.predict([b"damaged"])["images"][0]
        assert client.model()["labels"] and client.embed([pictures[0]]) and client.explain([pictures[0]], ["sand"])
        with pytest.raises(ServiceError, match="index"):
            client.similar([pictures[0]])
        with pytest.raises(ServiceError, match="token"):
            Client(address, "wrong").model()

        host, port = address.removeprefix("http://").split(":")
        body = b'{"images": [{"path": "nowhere"}]}'
        head = f"POST /v1/predict HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\nExpect: 100-continue\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection((host, int(port)), 60) as begun:
            begun.sendall(head.encode())
            assert b" 100 " in begun.recv(1000)  # it is being answered
            server.send_signal(signal.SIGTERM)
            wait_until(lambda: not _listens(address))
            begun.sendall(body)
            assert b" 422 " in begun.recv(10_000)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.wait()


def _listens(address):
    host, port = address.removeprefix("http://").split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0
