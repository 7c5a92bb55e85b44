"""What strangers, other sites and odd paths get from the service: nothing."""

import asyncio
import os
import socket

import numpy as np
import pytest
from starlette.websockets import WebSocketDisconnect

from rsml.app.listening import bind
from rsml.app.security import HEADERS, Limits, Roots, check_token
from rsml.app.server import create_app
from rsml.cli.main import main
from rsml.data.images import ImageError
from rsml.utils.errors import UserError
from tests.app.conftest import TOKEN, encoded, open_client, upload

GREY = encoded(np.full((32, 32, 3), 90, np.uint8))


def test_without_the_token_only_the_health_is_told(engine):
    client = open_client(engine, token=TOKEN, hosts=None)
    for path in ("/v1/model", "/metrics", "/openapi.json", "/", "/nowhere"):
        for headers in (
            {},
            {"authorization": TOKEN},
            {"authorization": f"Bearer {TOKEN}x"},
            {"cookie": "rsml_token=x"},
        ):
            reply = client.get(path, headers=headers)
            assert reply.status_code == 401 and reply.headers["www-authenticate"] == "Bearer"
    assert upload(client, "/v1/predict", GREY).status_code == 401
    assert client.get("/?token=wrong").status_code == client.get("/?token=").status_code == 401
    assert client.get(f"/v1/model?token={TOKEN}").status_code == 401
    assert client.get("/healthz").json() == {"status": "ok"}
    assert upload(client, "/v1/predict", GREY, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_a_page_moves_the_token_into_a_cookie(engine):
    client = open_client(engine, token=TOKEN, hosts=None)
    reply = client.get(f"/?token={TOKEN}&view=map", follow_redirects=False)
    assert reply.status_code == 303 and reply.headers["location"] == "/?view=map"
    assert "HttpOnly" in reply.headers["set-cookie"] and "SameSite=strict" in reply.headers["set-cookie"]
    assert client.get("/v1/model").status_code == 200
    assert upload(client, "/v1/predict", GREY, headers={"origin": "http://elsewhere.org"}).status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1"}, 200),
        ({"origin": "http://127.0.0.1:81"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://evil.org"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"host": "evil.org"}, 421),
        ({"host": "127.0.0.1.evil.org"}, 421),
        ({"host": "[::1"}, 421),
        ({"host": "[::1]:8765"}, 200),
        ({"host": "localhost:8765"}, 200),
    ],
)
def test_pages_of_other_sites_are_refused(headers, status, client):
    reply = upload(client, "/v1/predict", GREY, headers=headers)
    assert reply.status_code == status
    assert not any(name.startswith("access-control") for name in reply.headers)


def test_no_web_socket_is_opened(client):
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/predict"):
        pass


def test_every_answer_carries_the_headers(client):
    for reply in (client.get("/healthz"), client.get("/nowhere"), client.post("/v1/predict", content=b"x" * 400_001)):
        for name, value in HEADERS.items():
            assert reply.headers[name] == value
        assert "server" not in reply.headers


def test_what_is_sent_at_once_is_bounded_and_given_back(engine):
    client = open_client(engine, limits=Limits(body=5000, memory=3000))
    for _ in range(3):
        reply = client.post("/v1/predict", content=b"x" * 4000, headers={"content-type": "application/json"})
        assert reply.status_code == 429 and reply.headers["retry-after"] == "1"
        assert upload(client, "/v1/predict", GREY).status_code == 200
    client = open_client(engine, limits=Limits(body=2000, memory=3000, uploads={"/v1/predict": 5000}))
    assert client.post("/v1/predict", content=b"x" * 4000).status_code == 415
    assert client.post("/v1/predict", content=b"x" * 6000).status_code == 413


def test_what_arrives_too_slowly_is_given_up(engine):
    async def ask():
        said = []

        async def receive():
            await asyncio.sleep(60)

        async def send(message):
            said.append(message)

        headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/v1/predict", "query_string": b"", "headers": headers}
        await create_app(engine, limits=Limits(body=1, seconds=0.1))(scope, receive, send)
        return said[0]["status"]

    assert asyncio.run(ask()) == 408


def test_no_path_leads_out_of_the_allowed_folders(tmp_path, client, pictures):
    root, outside = tmp_path / "root", tmp_path / "root-beside"
    (root / "below").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret.png").write_bytes(GREY)
    (root / "below" / "good.png").write_bytes(GREY)
    (root / "inner.png").symlink_to(root / "below" / "good.png")
    (root / "outer.png").symlink_to(outside / "secret.png")
    (root / "away").symlink_to(outside)
    os.mkfifo(root / "pipe.png")
    roots = Roots([root])
    for path in ("below/good.png", str(root / "below" / "good.png"), "inner.png", "below/../inner.png"):
        assert roots.read(path, 10_000) == GREY
    refused = [
        "../root-beside/secret.png",
        str(outside / "secret.png"),
        "outer.png",
        "away/secret.png",
        "",
        ".",
        "below",
    ]
    refused += ["pipe.png", "nowhere.png", "\0", "a" * 5000, "/etc/passwd", "/dev/zero", "/proc/self/environ", "~"]
    said = set()
    for path in refused:
        with pytest.raises(ImageError) as fault:
            roots.read(path, 10_000)
        said.add(fault.value.reason)
    assert len(said) == 1
    with pytest.raises(ImageError, match="larger"):
        roots.read("inner.png", len(GREY) - 1)
    with pytest.raises(ImageError):
        Roots().read(str(root / "inner.png"), 10_000)

    paths = [{"path": path} for path in ("/etc/passwd", "../secret.png", pictures[0].name)]
    found = client.post("/v1/predict", json={"images": paths}).json()["images"]
    assert found[0]["error"] == found[1]["error"] == said.pop() and "labels" in found[2]


def test_other_machines_need_a_token_that_cannot_be_guessed(model_file, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("RSML_TOKEN", raising=False)
    (tmp_path / "short").write_text("abc\n")
    serve = ["serve", str(model_file), "--port", "0"]
    for words, said in (
        (["--host", "0.0.0.0"], "need a token"),
        (["--token-file", str(tmp_path / "short")], "16 or more"),
        (["--token-file", str(tmp_path / "none")], "cannot be read"),
        (["--allow", str(tmp_path / "none")], "no such folder"),
        (["--host", "no.such.host.invalid"], "cannot be listened at"),
        (["--port", "99999"], "65535"),
    ):
        assert main([*serve, *words]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    check_token(TOKEN, "0.0.0.0", loopback=False)
    check_token(None, "127.0.0.1", loopback=True)


def test_an_address_in_use_is_refused_before_anything_is_loaded():
    first, loopback = bind("127.0.0.1", 0)
    with first:
        first.listen()
        assert loopback and first.proto == socket.IPPROTO_TCP  # else asyncio sets no TCP_NODELAY
        with pytest.raises(UserError, match="in use"):
            bind("127.0.0.1", first.getsockname()[1])
