"""Makes the tiny data sets under tests/data/sets, one in each published layout: python tests/data/make_fixtures.py

The images are drawn here (8 x 8 pixels of a plain colour with one odd pixel), so that no published image is needed.
"""

import csv
import pickle
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

SETS = Path(__file__).parent / "sets"
LABELS = "airplane bare-soil buildings cars chaparral court dock field grass mobile-home pavement sand sea ship tanks"
UCM = [*LABELS.split(), "trees", "water"]
DFC15 = ["impervious", "water", "clutter", "vegetation", "building", "tree", "boat", "car"]


def draw(path: Path, number: int) -> None:
    """Writes an image whose pixels no other number has."""
    pixels = np.full((8, 8, 3), (40 * number % 256, 90, 30 + number), dtype=np.uint8)
    pixels[number % 8, number // 8 % 8] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_table(path: Path, delimiter: str, header: list[str], rows: dict[str, list[str]]) -> None:
    """Writes one row an image, 1 for each label it has."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(header)
        for name, labels in rows.items():
            writer.writerow([name, *(int(label in labels) for label in header[1:])])


def class_folders() -> None:
    number = 0
    for folder, suffixes in {
        "field": ["png", "jpg", "tif"],
        "harbor": ["PNG", "bmp"],
        "tennis_court": ["jpeg", "gif"],
    }.items():
        for suffix in suffixes:
            number += 1
            draw(SETS / "class_folders" / folder / f"{folder}_{number}.{suffix}", number)
    for side, count in {"train": 3, "val": 1, "test": 2}.items():
        for folder in ("field", "harbor"):
            for _ in range(count):
                number += 1
                draw(SETS / "split_folders" / side / folder / f"{number:03}.png", number)


UCM_ROWS = {
    "airplane00": ["airplane", "cars", "pavement"],
    "airplane01": ["airplane", "grass", "pavement"],
    "beach00": ["sand", "sea"],
    "beach01": ["sand", "sea", "trees"],
    "harbor00": ["dock", "ship", "water"],
    "harbor01": ["dock", "ship", "water", "cars"],
}


def uc_merced() -> None:
    root = SETS / "ucm_ml"
    for number, name in enumerate(UCM_ROWS):
        draw(root / "Images" / name[:-2] / f"{name}.tif", number + 20)
    write_table(root / "LandUse_Multilabeled.txt", "\t", ["IMAGE\\LABEL", *UCM], UCM_ROWS)


def aid() -> None:
    root = SETS / "aid_ml"
    rows = {
        "airport_1": ["airplane", "cars", "pavement"],
        "airport_2": ["airplane", "bare-soil", "pavement"],
        "bareland_1": ["bare-soil"],
        "storagetanks_7": ["tanks", "pavement"],
    }
    folders = {"airport": "Airport", "bareland": "BareLand", "storagetanks": "StorageTanks"}
    for number, name in enumerate(rows):
        side = "images_test" if name == "airport_2" else "images_tr"
        draw(root / side / folders[name.split("_")[0]] / f"{name}.jpg", number + 30)
    write_table(root / "multilabel.csv", ",", ["image\\label", *UCM], rows)


def dfc15() -> None:
    root = SETS / "dfc15_ml"
    rows = {"1": ["impervious", "water"], "2": ["clutter", "car"], "10": ["boat", "water"]}
    for number, name in enumerate(rows):
        draw(root / ("images_test" if name == "2" else "images_tr") / f"{name}.png", number + 40)
    write_table(root / "multilabel.csv", ",", ["IMAGE\\LABEL", *DFC15], rows)


def grn() -> None:
    """As its authors wrote it: a dictionary in a dictionary, pickled by numpy with protocol 2."""
    table = defaultdict(None, {n: np.array([int(label in found) for label in UCM]) for n, found in UCM_ROWS.items()})
    with open(SETS / "ucm_ml.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(np.array({"nm2label": table}, dtype=object), file, protocol=2)


if __name__ == "__main__":
    class_folders()
    uc_merced()
    aid()
    dfc15()
    grn()
    files = [path for path in SETS.rglob("*") if path.is_file()]
    print(f"{len(files)} files, {sum(path.stat().st_size for path in files)} bytes in {SETS}")
