"""Who may ask, how much, and for which files: token, hosts, origins, limits, headers, allowed folders."""

from __future__ import annotations

import asyncio
import hmac
import os
import stat
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rsml.data.images import ImageError
from rsml.utils.errors import UserError

COOKIE = "rsml_token"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SHORTEST_TOKEN = 16
OPEN = ("/healthz",)
"""What is answered without a token: it says nothing but that the service lives."""

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "worker-src 'self' blob:; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
"""On every answer, but where a route sets one of them itself."""

_SLOWEST = 2**20
_SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Limits:
    """What one request may ask for; refused before anything is decoded.

    Attributes:
        body: Bytes of a request, and of a file that a request names.
        pixels: Declared by one image.
        images: In one request.
        queue: Images accepted and not yet answered, of all requests; above it the answer is 429.
        seconds: Until a request is given up; for what is sent, a mebibyte a second comes on top.
        memory: Bytes that all requests in work may have sent together; above it the answer is 429.
        uploads: Bytes for routes that take more, by the beginning of their path; those must not keep them in memory.
    """

    body: int = 64 * 2**20
    pixels: int = 2**25
    images: int = 64
    queue: int = 256
    seconds: float = 30.0
    memory: int = 2**29
    uploads: Mapping[str, int] = field(default_factory=dict)

    def body_of(self, path: str) -> int:
        """Bytes that a request to this path may send."""
        return next((size for begin, size in self.uploads.items() if path.startswith(begin)), self.body)


class Guard:
    """ASGI middleware in front of every route: refuses by host, origin and token, bounds bodies, sets headers.

    Args:
        app: What is guarded.
        limits: See `Limits`.
        token: What a caller must show as `Authorization: Bearer TOKEN`, or as the cookie that `GET /?token=TOKEN` sets.
        hosts: Names that the Host header may hold; None for any. Without a token a name that an attacker's DNS points
            at this machine must not get in.
    """

    def __init__(
        self, app: ASGIApp, limits: Limits, token: str | None = None, hosts: Iterable[str] | None = LOOPBACK
    ) -> None:
        self.app, self.limits, self.token = app, limits, token
        self.hosts = None if hosts is None else frozenset(hosts)
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # no route speaks over a web socket, whose origin nobody would check
            return await send({"type": "websocket.close", "code": 1008})
        headers = Headers(scope=scope)

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    answered.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is not None:
            return await refusal(scope, receive, send_safely)
        most = self.limits.body_of(scope["path"])
        held: list[int] = []
        try:
            await self.app(scope, self._bounded(receive, most, held), send_safely)
        finally:
            self._held -= sum(held)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if self.hosts is not None and _name(host) not in self.hosts:
            return _error(421, f"this service does not answer for the host {host!r}")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        foreign = site == "cross-site" and headers.get("sec-fetch-mode") != "navigate"
        if scope["method"] not in _SAFE:
            foreign |= (origin is not None and urlsplit(origin).netloc != host) or site in ("cross-site", "same-site")
        if foreign:
            return _error(403, "asked by a page of another site")
        if self.token is not None and scope["path"] not in OPEN:
            query = QueryParams(scope["query_string"])
            if scope["method"] == "GET" and scope["path"] == "/" and self._is_token(query.get("token", "")):
                return self._log_in(scope, query)
            kind, _, shown = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer":
                shown = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
            if not self._is_token(shown):
                refused = _error(401, "a token is needed: send the header Authorization: Bearer TOKEN")
                refused.headers["www-authenticate"] = "Bearer"
                return refused
        length, most = headers.get("content-length", "0"), self.limits.body_of(scope["path"])
        if not length.isdecimal() or int(length) > most:
            return _error(413, _too_long(most))
        return None

    def _is_token(self, shown: str) -> bool:
        return hmac.compare_digest(shown.encode(), (self.token or "").encode())

    def _log_in(self, scope: Scope, query: QueryParams) -> Response:
        """Moves the token out of the address, where it would stay in the browser's history."""
        rest = urlencode([(key, value) for key, value in query.multi_items() if key != "token"])
        answer = RedirectResponse("/" + ("?" + rest if rest else ""), 303)
        secure = scope["scheme"] == "https"
        answer.set_cookie(COOKIE, self.token or "", httponly=True, samesite="strict", secure=secure)
        return answer

    def _bounded(self, receive: Receive, most: int, held: list[int]) -> Receive:
        """Receives at most so many bytes, and notes how many of them are kept in memory."""
        done, came = False, 0
        deadline = asyncio.get_running_loop().time() + self.limits.seconds + most / _SLOWEST

        async def bounded() -> MutableMapping[str, Any]:
            nonlocal done, came
            if done:  # what comes now is that the caller has gone
                return await receive()
            try:
                remaining = deadline - asyncio.get_running_loop().time()
                message = await asyncio.wait_for(receive(), max(remaining, 0))
            except asyncio.TimeoutError:
                raise HTTPException(408, "the request took too long to arrive") from None
            size = len(message.get("body", b""))
            done, came = not message.get("more_body", False), came + size
            if came > most:
                raise HTTPException(413, _too_long(most))
            if most <= self.limits.body:
                held.append(size)
                self._held += size
                if self._held > self.limits.memory:
                    raise HTTPException(429, "too much is being sent at once", {"retry-after": "1"})
            return message

        return bounded


class Roots:
    """Folders whose files a request may name.

    Args:
        folders: The folders; none allows no path.
    """

    def __init__(self, folders: Sequence[str | Path] = ()) -> None:
        for folder in folders:
            if not Path(folder).is_dir():
                raise UserError(f"{folder}: no such folder; name one whose images requests may name")
        self.folders = [os.path.realpath(folder) for folder in folders]

    def read(self, path: str, most: int) -> bytes:
        """The content of a file below one of the folders, symbolic links resolved.

        Whether a file outside exists cannot be told from the answer.

        Args:
            path: Absolute, or relative to one of the folders.
            most: Bytes.

        Raises:
            ImageError: It is not there, lies outside, is no plain file, or is too large.
        """
        for root in self.folders:
            try:
                place = os.path.realpath(os.path.join(root, path), strict=True)
                if os.path.commonpath([root, place]) != root:
                    continue
                # Opened once and asked what it is, so that what was checked is what is read; O_NONBLOCK: a pipe.
                with open(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
                    about = os.fstat(file.fileno())
                    if not stat.S_ISREG(about.st_mode):
                        continue
                    if about.st_size > most:
                        raise ImageError(path, f"larger than {most} bytes")
                    return file.read(most)
            except (OSError, ValueError):  # ValueError: a NUL in the name
                continue
        raise ImageError(path, "no such image in a folder that this service may read")


def check_token(token: str | None, host: str, loopback: bool) -> None:
    """Refuses a service that others can reach without a token, and a token that can be guessed."""
    how = "set RSML_TOKEN, or name a file with --token-file"
    if token is None and not loopback:
        raise UserError(f"{host}: other machines can reach this address, so callers need a token; {how}")
    if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise UserError(f"token: expected {SHORTEST_TOKEN} or more plain characters, found {len(token)}; {how}")


def _name(host: str) -> str:
    try:
        return urlsplit("//" + host).hostname or ""
    except ValueError:
        return ""


def _too_long(most: int) -> str:
    return f"the request is longer than {most} bytes"


def _error(status: int, what: str) -> JSONResponse:
    return JSONResponse({"error": what}, status)
