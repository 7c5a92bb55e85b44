"""A client of `rsml serve` that needs nothing but Python's standard library: this one file may be copied anywhere."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class ServiceError(Exception):
    """The service refused or failed.

    Args:
        status: The HTTP status.
        error: What it says.
        answer: All that it says.
    """

    def __init__(self, status: int, error: str, answer: dict[str, Any]) -> None:
        super().__init__(f"{error} ({status})")
        self.status, self.answer = status, answer


class Client:
    """Asks a service.

    Images are paths on this machine, whose content is sent, or contents as bytes. Each method returns the service's
    answer: `{"model": ..., "images": [...]}`, in order; an image that could not be read has "error" in its place.

    Args:
        address: Where the service listens.
        token: What it wants to be shown, if anything.
        timeout: Seconds for one answer.
        tries: How often a request is sent while the service says that its queue is full.

    Example:
        ```python
        client = Client("http://127.0.0.1:8765")
        print(client.predict(["a.png", "b.tif"])["images"][0]["labels"])
        ```
    """

    def __init__(
        self, address: str = "http://127.0.0.1:8765", token: str | None = None, timeout: float = 60.0, tries: int = 5
    ) -> None:
        self.address, self.token, self.timeout, self.tries = address.rstrip("/"), token, timeout, tries

    def predict(self, images: Sequence[str | Path | bytes]) -> dict[str, Any]:
        """Labels and scores: "labels", "scores"."""
        return self._ask("/v1/predict", images)

    def embed(self, images: Sequence[str | Path | bytes]) -> dict[str, Any]:
        """Embeddings: "embedding"."""
        return self._ask("/v1/embed", images)

    def similar(self, images: Sequence[str | Path | bytes], k: int = 10) -> dict[str, Any]:
        """The k scenes of the archive most alike: "similar", each with "path", "value", "labels"."""
        return self._ask(f"/v1/similar?k={k}", images)

    def explain(self, images: Sequence[str | Path | bytes], labels: Sequence[str] = ()) -> dict[str, Any]:
        """Class maps of labels, of those that are named without any: "maps", each with "label", "map"."""
        return self._ask("/v1/explain?" + urllib.parse.urlencode([("label", name) for name in labels]), images)

    def model(self) -> dict[str, Any]:
        """Labels, thresholds, calibration and fingerprint of the model in force."""
        return self._send(urllib.request.Request(self.address + "/v1/model"))

    def _ask(self, path: str, images: Sequence[str | Path | bytes]) -> dict[str, Any]:
        boundary = uuid.uuid4().hex
        parts: list[bytes] = []
        for number, image in enumerate(images, start=1):
            name = f"image {number}" if isinstance(image, bytes) else _quoted(Path(image).name)
            content = image if isinstance(image, bytes) else Path(image).read_bytes()
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="images"; filename="{name}"\r\n\r\n'
            parts += [head.encode(errors="replace"), content, b"\r\n"]
        body = b"".join([*parts, f"--{boundary}--\r\n".encode()])
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return self._send(urllib.request.Request(self.address + path, body, kind))

    def _send(self, request: urllib.request.Request) -> dict[str, Any]:
        if self.token is not None:
            request.add_header("Authorization", f"Bearer {self.token}")
        attempt = 0
        while True:
            attempt += 1
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as reply:
                    return json.load(reply)
            except urllib.error.HTTPError as fault:
                with fault:
                    answer = _object(fault.read())
                if fault.code == 429 and attempt < self.tries:
                    time.sleep(float(fault.headers.get("Retry-After", 1)))
                elif fault.code == 422 and "images" in answer:
                    return answer  # none of the images could be read: each says why
                else:
                    raise ServiceError(fault.code, answer.get("error", fault.reason), answer) from None


def _quoted(name: str) -> str:
    """A file's name as browsers put it into a form."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
