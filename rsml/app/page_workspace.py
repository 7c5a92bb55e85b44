"""What the page works on: a folder of runs, the model of one of them, its journal, jobs and uploads."""

from __future__ import annotations

import io
import re
import secrets
import threading
from collections import OrderedDict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from fastapi import Response
from PIL import Image

from rsml.app.engine import Engine
from rsml.app.jobs import Jobs
from rsml.app.journal import Journal
from rsml.data.images import as_rgb, decode
from rsml.figures.style import label_colours
from rsml.prediction.scene_model import SceneModel
from rsml.run import ROOT, Run
from rsml.utils.errors import UserError

if TYPE_CHECKING:
    from rsml.app.engine import Served
    from rsml.data.samples import Samples

_UPLOAD = re.compile(r"u-[0-9a-f]{16}\.[a-z0-9]{2,5}")
_ROW = re.compile(r"row-(\d{1,9})")
_KEPT = 256


class Workspace:
    """The runs below a folder, and the one that labels, maps and is corrected.

    An image has a short name on the page: `row-7` is the run's own image number 7, `u-...` an upload, `c-...` a cell
    of a map. No path of the machine is ever taken from the page.

    Args:
        engine: Holds the run's model; None where there is no run yet, and the page shows runs only.
        root: The folder of all runs.
    """

    def __init__(self, engine: Engine | None, root: str | Path = ROOT) -> None:
        self.engine, self.root = engine, Path(root)
        self.run = engine.served.run if engine else None
        self.folder = self.run.folder / "app" if self.run else self.root / ".app"
        self.uploads, self.maps_folder = self.folder / "uploads", self.folder / "maps"
        self.jobs = Jobs(self.folder / "jobs")
        self._turn = threading.Lock()
        self._arrays: OrderedDict[str, np.ndarray] = OrderedDict()
        self._maps: OrderedDict[tuple[str, str, int], np.ndarray] = OrderedDict()

    @property
    def here(self) -> Run:
        """The run, or the fault that there is none."""
        if self.run is None:
            raise UserError(f"{self.root}/: no run with a model yet; train one with `rsml train`, then open it here")
        return self.run

    @property
    def served(self) -> Served:
        """The run's best model, the newest of it."""
        if self.engine is None:
            raise UserError(f"{self.root}/: no model is open; train a run, then open it with `rsml app RUN`")
        return self.engine.served

    @property
    def model(self) -> SceneModel:
        """The same, and what its numbers mean."""
        return self.served.scene_model

    @cached_property
    def journal(self) -> Journal:
        """The corrections of the run's labels."""
        about = {"run": str(self.here.folder.resolve()), "root": str(self.samples.root.resolve())}
        return Journal(self.folder / "journal.jsonl", **about, labels=list(self.samples.label_names))

    @cached_property
    def samples(self) -> Samples:
        """The images of the run."""
        return self.here.read_samples()

    def colours(self) -> list[str]:
        """A colour of each label, as maps have accustomed people to."""
        found = label_colours(self.model.labels)
        return ["#8b9097" if one is None else "#" + "".join(f"{round(255 * c):02x}" for c in one) for one in found]

    def new_upload(self, name: str) -> tuple[str, Path]:
        """A short name and a place for a file; of its own name only the ending is kept."""
        suffix = re.sub(r"[^a-z0-9]", "", Path(name).suffix.lower())[:5]
        short = f"u-{secrets.token_hex(8)}.{suffix if len(suffix) > 1 else 'img'}"
        self.uploads.mkdir(parents=True, exist_ok=True)
        return short, self.uploads / short

    def keep_array(self, image: np.ndarray) -> str:
        """Keeps pixels under a short name for a while."""
        short = f"c-{secrets.token_hex(8)}"
        with self._turn:
            _remember(self._arrays, short, image)
        return short

    def file(self, short: str) -> Path:
        """The file behind a short name."""
        if match := _ROW.fullmatch(short):
            row = int(match[1])
            if row < len(self.samples):
                return Path(str(self.samples.files[row]))
        elif _UPLOAD.fullmatch(short) and (self.uploads / short).is_file():
            return self.uploads / short
        raise UserError(f"{short}: no such image here any more; drop it again")

    def pixels(self, short: str) -> np.ndarray:
        """An image to be seen, `(height, width, 3)` uint8."""
        with self._turn:
            image = self._arrays.get(short)
        if image is None:
            reading = self.model.reading
            image = decode(self.file(short), bands=reading["bands"], value_range=reading["value_range"])
        return as_rgb(image)

    def _input(self, short: str, served: Served) -> np.ndarray:
        with self._turn:
            image = self._arrays.get(short)
        if image is None:
            file = self.file(short)
            return served.read(file.read_bytes(), short, self.engine.max_pixels if self.engine else 2**26)[None]
        return served.scene_model.fit(image)[None]

    def class_map(self, short: str, column: int) -> np.ndarray:
        """`(h, w)` from 0 to 1: where the score of a label comes from."""
        served = self.served
        if not 0 <= column < len(served.scene_model.labels):
            raise UserError(f"label {column}: the model has {len(served.scene_model.labels)}, counted from 0")
        key = served.fingerprint, short, column
        with self._turn:
            found = self._maps.get(key)
        if found is None:
            found = served.answer("maps", self._input(short, served), [(column,)])[0][0]
            with self._turn:
                _remember(self._maps, key, found)
        return found

    def vector(self, short: str) -> np.ndarray:
        """`(1, width)` embedding."""
        return np.stack(self.served.answer("embedding", self._input(short, self.served), [()]))


def _remember(kept: OrderedDict, name: object, value: np.ndarray) -> None:
    kept[name] = value
    while len(kept) > _KEPT:
        kept.popitem(last=False)


def picture(image: np.ndarray, kind: str = "JPEG") -> Response:
    """An answer that is an image."""
    stream = io.BytesIO()
    options = {"quality": 86} if kind == "JPEG" else {"compress_level": 1}
    Image.fromarray(np.ascontiguousarray(image)).save(stream, kind, **options)
    headers = {"Cache-Control": "private, max-age=600"}
    return Response(stream.getvalue(), media_type=f"image/{kind.lower()}", headers=headers)
