"""What the page works on: a folder of runs, the model of one of them, its journal, jobs and uploads."""

from __future__ import annotations

import io
import re
import secrets
import threading
from collections import OrderedDict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import Response
from PIL import Image

from rsml.app.jobs import Jobs
from rsml.app.journal import Journal
from rsml.data.images import decode, resize
from rsml.figures.style import label_colours
from rsml.prediction.scene_model import SceneModel
from rsml.retrieval.embedding import Embedder
from rsml.run import ROOT, Run
from rsml.utils.errors import UserError

if TYPE_CHECKING:
    from rsml.data.samples import Samples
    from rsml.explain.class_maps import ClassMaps

_UPLOAD = re.compile(r"u-[0-9a-f]{16}\.[a-z0-9]{2,5}")
_ROW = re.compile(r"row-(\d{1,9})")
_KEPT = 64


class Workspace:
    """The runs below a folder and the one that labels, maps and is corrected.

    An image has a short name on the page: `row-7` is the run's own image number 7, `u-...` an upload, `c-...` a cell
    of a map. No path of the machine is ever taken from the page.

    Args:
        run: The run; None where there is none yet, and the page shows runs only.
        root: The folder of all runs.
    """

    def __init__(self, run: Run | None, root: str | Path = ROOT) -> None:
        self.run, self.root = run, Path(root)
        self.folder = run.folder / "app" if run else self.root / ".app"
        self.uploads, self.maps_folder, self.index = (self.folder / n for n in ("uploads", "maps", "index"))
        self.jobs = Jobs(self.folder / "jobs")
        self.turn = threading.RLock()
        self._arrays: OrderedDict[str, np.ndarray] = OrderedDict()
        self._maps: OrderedDict[str, np.ndarray] = OrderedDict()

    @property
    def here(self) -> Run:
        """The run, or the fault that there is none."""
        if self.run is None:
            raise UserError(f"{self.root}/: no run with a model yet; train one with `rsml train`, then open it here")
        return self.run

    @cached_property
    def journal(self) -> Journal:
        """The corrections of the run's labels."""
        about = {"run": str(self.here.folder.resolve()), "root": str(self.samples.root.resolve())}
        return Journal(self.folder / "journal.jsonl", **about, labels=list(self.samples.label_names))

    @cached_property
    def samples(self) -> Samples:
        """The images of the run."""
        return self.here.read_samples()

    @cached_property
    def model(self) -> SceneModel:
        """The run's best model, opened when it is first needed."""
        return SceneModel.load(self.here.files.best, trust=self.here.experiment.model.trust)

    @cached_property
    def embedder(self) -> Embedder:
        """Its embedding."""
        return Embedder(self.model, str(self.here.folder.resolve()))

    @cached_property
    def _class_maps(self) -> ClassMaps:
        from rsml.explain.class_maps import ClassMaps

        return ClassMaps(self.model.model)

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
        with self.turn:
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
        """An image as the model's bands, `(height, width, bands)` uint8."""
        with self.turn:
            if short in self._arrays:
                return self._arrays[short]
        reading = self.model.reading
        return decode(self.file(short), bands=reading["bands"], value_range=reading["value_range"])

    def _input(self, short: str) -> np.ndarray:
        size = tuple(self.model.reading["image_size"])
        return resize(self.pixels(short), (size[0], size[1]))[None].astype(np.float32)

    def class_maps(self, short: str) -> np.ndarray:
        """`(labels, h, w)` from 0 to 1: where the score of each label comes from."""
        with self.turn:
            if short not in self._maps:
                _remember(self._maps, short, self._class_maps(self._input(short))[0])
            return self._maps[short]

    def vector(self, short: str) -> np.ndarray:
        """`(1, width)` embedding."""
        with self.turn:
            return np.asarray(self.embedder.model.predict_on_batch(self._input(short))[0], np.float32)


def _remember(kept: OrderedDict[str, np.ndarray], name: str, value: np.ndarray) -> None:
    kept[name] = value
    while len(kept) > _KEPT:
        kept.popitem(last=False)


def rgb(image: np.ndarray) -> np.ndarray:
    """Three bands to be seen."""
    return image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)


def picture(image: np.ndarray, side: int, kind: str = "JPEG") -> Response:
    """An answer that is an image, its longer side at most so many pixels."""
    shown = Image.fromarray(np.ascontiguousarray(image))
    shown.thumbnail((side, side))
    stream = io.BytesIO()
    shown.save(stream, kind, **({"quality": 86} if kind == "JPEG" else {"compress_level": 1}))
    return Response(stream.getvalue(), media_type=f"image/{kind.lower()}", headers={"Cache-Control": "private, max-age=600"})
