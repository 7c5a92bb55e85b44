"""The data sets known by name: labels in order, layout, counts, and where a person gets them under which terms."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rsml.data.spelling import label_key, match_labels
from rsml.tasks import Task
from rsml.utils.errors import UserError


@dataclass(frozen=True)
class KnownSet:
    """What is known of one published data set.

    Args:
        name: the name its papers use.
        task: `"multi-label"` or `"single-label"`.
        labels: label or class names, in the order of the published files.
        images: how many images the whole set has.
        scenes: for a multi-label set whose file names begin with a scene class, those classes.
        folders: names that its folder usually has.
        layout: what lies inside, one entry a line.
        inside: paths of which at least one must exist in its folder.
        citation: the paper to cite.
        source: where a person gets it.
        terms: what may be done with it.
    """

    name: str
    task: Task
    labels: tuple[str, ...]
    images: int
    folders: tuple[str, ...]
    layout: tuple[str, ...]
    inside: tuple[str, ...]
    citation: str
    source: str
    terms: str
    scenes: tuple[str, ...] = ()


_UCM_CLASSES = tuple(
    """agricultural airplane baseballdiamond beach buildings chaparral denseresidential forest freeway golfcourse harbor
    intersection mediumresidential mobilehomepark overpass parkinglot river runway sparseresidential storagetanks
    tenniscourt""".split()  # noqa: SIM905
)
_AID_CLASSES = tuple(
    """Airport BareLand BaseballField Beach Bridge Center Church Commercial DenseResidential Desert Farmland Forest
    Industrial Meadow MediumResidential Mountain Park Parking Playground Pond Port RailwayStation Resort River School
    SparseResidential Square Stadium StorageTanks Viaduct""".split()  # noqa: SIM905
)
_NWPU_CLASSES = tuple(
    """airplane airport baseball_diamond basketball_court beach bridge chaparral church circular_farmland cloud
    commercial_area dense_residential desert forest freeway golf_course ground_track_field harbor industrial_area
    intersection island lake meadow medium_residential mobile_home_park mountain overpass palace parking_lot railway
    railway_station rectangular_farmland river roundabout runway sea_ice ship snowberg sparse_residential stadium
    storage_tank tennis_court terrace thermal_power_station wetland""".split()  # noqa: SIM905
)
_WHU_CLASSES = tuple(
    """Airport Beach Bridge Commercial Desert Farmland Forest Industrial Meadow Mountain Park Parking Pond Port
    Residential River Viaduct footballField railwayStation""".split()  # noqa: SIM905
)
_UCM_LABELS = tuple(
    """airplane bare-soil buildings cars chaparral court dock field grass mobile-home pavement sand sea ship tanks trees
    water""".split()  # noqa: SIM905
)
_DFC15_LABELS = ("impervious", "water", "clutter", "vegetation", "building", "tree", "boat", "car")

_GOOGLE_EARTH = "research use; the images are Google Earth's and its terms hold"

CATALOG: tuple[KnownSet, ...] = (
    KnownSet(
        name="UC Merced",
        task="single-label",
        labels=_UCM_CLASSES,
        images=2100,
        folders=("UCMerced_LandUse", "UCMerced", "UC_Merced", "UCM", "ucmerced", "ucm"),
        layout=("Images/<class>/<class>00.tif ... <class>99.tif",),
        inside=("Images/agricultural", "agricultural", "train/agricultural"),
        citation="Yang and Newsam, Bag-of-visual-words and spatial extensions for land-use classification, "
        "ACM GIS 2010",
        source="http://weegee.vision.ucmerced.edu/datasets/landuse.html",
        terms="images in the public domain (USGS National Map Urban Area Imagery); cite the paper",
    ),
    KnownSet(
        name="UC Merced-ML",
        task="multi-label",
        labels=_UCM_LABELS,
        images=2100,
        scenes=_UCM_CLASSES,
        folders=("UCMerced_ML", "UCMerced_LandUse", "UCMerced", "UC_Merced", "UCM_ML", "UCM", "ucmerced", "ucm"),
        layout=("LandUse_Multilabeled.txt", "Images/<class>/<class>00.tif ... <class>99.tif"),
        inside=("LandUse_Multilabeled.txt",),
        citation="Chaudhuri et al., Multilabel remote sensing image retrieval using a semisupervised graph-theoretic "
        "method, IEEE TGRS 2018",
        source="labels: https://bigearth.eu/datasets.html (UC Merced Land Use, multi-label); "
        "images: http://weegee.vision.ucmerced.edu/datasets/landuse.html",
        terms="images in the public domain (USGS National Map Urban Area Imagery); labels for research; cite both",
    ),
    KnownSet(
        name="AID",
        task="single-label",
        labels=_AID_CLASSES,
        images=10000,
        folders=("AID", "aid", "AID_dataset"),
        layout=("<Class>/<class>_1.jpg ...",),
        inside=("Airport", "train/Airport", "airport"),
        citation="Xia et al., AID: A benchmark data set for performance evaluation of aerial scene classification, "
        "IEEE TGRS 2017",
        source="https://captain-whu.github.io/AID/",
        terms=_GOOGLE_EARTH,
    ),
    KnownSet(
        name="AID-ML",
        task="multi-label",
        labels=_UCM_LABELS,
        images=3000,
        scenes=_AID_CLASSES,
        folders=("AID_multilabel", "AID-Multilabel", "AID_ML", "AID-ML", "aid_ml", "aid_multilabel"),
        layout=("multilabel.csv", "images_tr/<Class>/<class>_1.jpg ...", "images_test/<Class>/<class>_2.jpg ..."),
        inside=("multilabel.csv",),
        citation="Hua, Mou and Zhu, Relation network for multilabel aerial image classification, IEEE TGRS 2020",
        source="https://github.com/Hua-YS/AID-Multilabel-Dataset",
        terms=_GOOGLE_EARTH,
    ),
    KnownSet(
        name="DFC15-ML",
        task="multi-label",
        labels=_DFC15_LABELS,
        images=3342,
        folders=("DFC15_multilabel", "DFC15-Multilabel", "DFC15_ML", "DFC15-ML", "DFC_15", "dfc15", "dfc15_multilabel"),
        layout=("multilabel.csv", "images_tr/1.png ...", "images_test/2.png ..."),
        inside=("multilabel.csv",),
        citation="Hua, Mou and Zhu, Recurrently exploring class-wise attention in a hybrid convolutional and "
        "bidirectional LSTM network for multi-label aerial image classification, ISPRS JPRS 2019",
        source="https://github.com/Hua-YS/DFC15-Multilabel-Dataset",
        terms="research use under the terms of the IEEE GRSS data fusion contest 2015",
    ),
    KnownSet(
        name="NWPU-RESISC45",
        task="single-label",
        labels=_NWPU_CLASSES,
        images=31500,
        folders=("NWPU-RESISC45", "NWPU_RESISC45", "RESISC45", "resisc45", "nwpu"),
        layout=("<class>/<class>_001.jpg ... <class>_700.jpg",),
        inside=("baseball_diamond", "train/baseball_diamond"),
        citation="Cheng, Han and Lu, Remote sensing image scene classification: benchmark and state of the art, "
        "Proceedings of the IEEE 2017",
        source="https://gcheng-nwpu.github.io/ (NWPU-RESISC45)",
        terms=_GOOGLE_EARTH,
    ),
    KnownSet(
        name="WHU-RS19",
        task="single-label",
        labels=_WHU_CLASSES,
        images=1005,
        folders=("WHU-RS19", "WHU_RS19", "RSDataset", "whu-rs19", "whu_rs19"),
        layout=("<Class>/<class>_01.jpg ...",),
        inside=("footballField", "train/footballField"),
        citation="Dai and Yang, Satellite image classification via two-layer sparse coding with biased image "
        "representation, IEEE GRSL 2011",
        source="https://captain-whu.github.io/BED4RS/ (WHU-RS19)",
        terms=_GOOGLE_EARTH,
    ),
)


def find(name: str) -> KnownSet:
    """Returns the known data set of that name, however it is spelt, or tells the nearest one."""
    names = {_key(known.name): known for known in CATALOG}
    short = {"ucm": "ucmerced", "ucmml": "ucmercedml", "ucmercedmultilabel": "ucmercedml", "resisc45": "nwpuresisc45"}
    short |= {"aidmultilabel": "aidml", "dfc15multilabel": "dfc15ml", "dfc15": "dfc15ml", "nwpu": "nwpuresisc45"}
    key = _key(name)
    key = short.get(key, key)
    if key in names:
        return names[key]
    nearest = difflib.get_close_matches(key, names, n=1, cutoff=0.0)
    raise UserError(
        f"data set {name!r} is unknown; the nearest is {names[nearest[0]].name!r}; known are "
        + ", ".join(known.name for known in CATALOG)
    )


def locate(name: str, root: str | Path) -> Path:
    """Returns the folder of a known data set at or under `root`, or says where it looked and how to get the set."""
    known, root = find(name), Path(root)
    looked = [root, *(root / folder for folder in known.folders), *(root / f / f for f in known.folders[:1])]
    for folder in looked:
        if any((folder / inside).exists() for inside in known.inside):
            return folder
    raise UserError(
        f"{known.name} was not found: looked for {' or '.join(known.inside)} in {root} and its folders "
        f"{', '.join(known.folders)}; {how_to_get(known)}, and unpack it so that there is "
        f"{root / known.folders[0]} with {' and '.join(known.layout)}"
    )


def how_to_get(known: KnownSet) -> str:
    """Returns one clause that says where a person gets the set and under which terms."""
    return f"get it from {known.source} ({known.terms})"


def recognise(labels: Iterable[str], task: Task, scenes: Iterable[str] = (), count: int = 0) -> KnownSet | None:
    """Returns the known data set that has exactly these labels, in any spelling and order, or None.

    UC Merced-ML and AID-ML share their 17 labels: the scene classes tell them apart, and where there are none, the
    number of images.
    """
    labels = tuple(labels)
    hits = [known for known in CATALOG if known.task == task and match_labels(labels, known.labels)]
    if len(hits) > 1:
        keys = {label_key(scene) for scene in scenes if scene}
        by_scene = [known for known in hits if keys and keys <= {label_key(scene) for scene in known.scenes}]
        hits = by_scene or [known for known in hits if known.images == count]
    return hits[0] if len(hits) == 1 else None


def _key(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
