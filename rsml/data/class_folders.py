"""Whether class folders fit together: none without images, the same classes in every part."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from rsml.utils.errors import UserError

logger = logging.getLogger("rsml")

_DOCUMENTS = (".txt", ".md", ".pdf", ".csv", ".tsv", ".npy", ".json", ".xml", ".html", ".py")


def bare_folders(source: Path, paths: Sequence[str], below: Sequence[str]) -> list[str]:
    """Returns the folders beside those of the classes and parts that hold no image; one of documents is meant so."""
    filled = {parent for path in paths for parent in map(str, PurePosixPath(path).parents)}
    prefixes = {path.removesuffix(rest) for path, rest in zip(paths, below, strict=True)}
    levels = {level for prefix in prefixes for level in (PurePosixPath(prefix), *PurePosixPath(prefix).parents)}
    bare = []
    for level in levels:
        with os.scandir(source / level) as entries:
            names = [entry.name for entry in entries if entry.is_dir() and entry.name != "__MACOSX"]
        bare += [path for name in names if name[0] != "." and (path := str(level / name)) not in filled]
    return sorted(path for path in bare if not _holds_documents(source / path))


def _holds_documents(folder: Path) -> bool:
    return any(name.lower().endswith(_DOCUMENTS) for _, _, files in os.walk(folder) for name in files)


def compare_sides(source: Path, classes: dict[str, set[str]], allow_missing: bool) -> None:
    """Refuses parts whose class folders differ; only a test part may do with fewer classes."""
    trained = classes.get("train")
    differences = []
    for side in ("valid", "test") if trained else ():
        there = classes.get(side, trained)
        if there - trained:
            differences.append(f"train lacks {', '.join(sorted(there - trained))} of {side}")
        if trained - there and side == "valid":
            differences.append(f"valid lacks {', '.join(sorted(trained - there))} of train")
        elif trained - there:
            logger.warning("%s: no image of %s is in test", source, ", ".join(sorted(trained - there)))
    if differences and not allow_missing:
        raise UserError(
            f"{source}: its parts have different class folders: {'; '.join(differences)}; give each part every class"
        )
    if differences:
        logger.warning("%s: its parts have different class folders: %s", source, "; ".join(differences))
