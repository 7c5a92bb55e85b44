"""Do class maps look where a label is? Trains plain, SIGNA and R4C on drawn scenes, whose masks are known.

    python benchmarks/faithfulness.py --root build/faithfulness

Prints the table of docs/class-maps.md: pointing game and energy inside beside a random map, on all labels that cover
less than half of their image and on small ones alone, and deletion and insertion beside random blocks.
"""

import argparse
import re
import sys
from pathlib import Path

import numpy as np

import rsml
from rsml.config import Augment, Data, Experiment, Training
from rsml.data.options import Scenes
from rsml.explain.class_maps import METHODS, ClassMaps, resized
from rsml.explain.faithfulness import area_under, block_order, energy_inside, pointing
from rsml.scenes.drawing import draw

LARGE, SMALL = 0.5, 0.05


def experiment(kind: str, size: int, count: int) -> Experiment:
    return Experiment(
        name=f"{kind}-{size}",
        data=Data(source="scenes", image_size=size, scenes=Scenes(count=count, size=size), fractions=(60, 20, 20)),
        methods=() if kind == "plain" else kind,
        augment=Augment(brightness=(0.8, 1.2)),
        training=Training(epochs=14 if size == 64 else 10, batch_size=32, learning_rate=2e-3, warmup_epochs=1),
    )


def measure(run: rsml.Run, size: int, tries: int) -> list[list[str]]:
    part, model = run.samples.part("test"), run.model()
    images = rsml.images(part.files.tolist(), size=size)
    scenes = [draw(int(re.findall(r"(\d+)", Path(path).stem)[-1]), size=size) for path in part.paths]
    for row in (0, len(scenes) - 1):
        assert np.array_equal(scenes[row].labels, part.labels[row]), "these are not the scenes that were drawn"
    masks = {
        (row, column): scenes[row].coverage(name) > 0.5
        for row in range(len(part))
        for column, name in enumerate(part.label_names)
        if part.labels[row, column]
    }
    masks = {pair: mask for pair, mask in masks.items() if 0 < mask.mean() < LARGE}
    small = [pair for pair, mask in masks.items() if mask.mean() < SMALL]
    random = np.random.default_rng(0)
    tried = [list(masks)[place] for place in random.choice(len(masks), min(tries, len(masks)), replace=False)]

    def areas(order_of) -> list[float]:
        found = []
        for row, column in tried:
            order = order_of(row, column)
            score = lambda batch, column=column: model.predict_on_batch(batch)[:, column]  # noqa: E731
            found.append([area_under(images[row], order, score, insert=insert) for insert in (False, True)])
        return np.mean(found, axis=0).tolist()

    chance = areas(lambda row, column: np.random.default_rng([row, column]).permutation(64))
    share = [np.mean([masks[pair].mean() for pair in pairs]) for pairs in (masks, small)]
    name, f1 = run.name.rpartition("-")[0], run.metrics["test"]["example_f1"]
    label = [name, f"{size}", f"{100 * f1:.1f}"]
    rows = [[*label, "random", *(f"{share[0]:.3f} {share[0]:.3f} {share[1]:.3f} {share[1]:.3f}".split()),
             *(f"{area:.3f}" for area in chance)]]  # fmt: skip
    for method in METHODS:
        maps = resized(ClassMaps(model, method=method)(images), (size, size))
        cells = []
        for pairs in (list(masks), small):
            cells += [
                np.mean([measured(maps[pair], masks[pair]) for pair in pairs]) for measured in (pointing, energy_inside)
            ]
        cells += areas(lambda row, column, maps=maps: block_order(maps[row, column]))
        rows.append([*label, method, *(f"{cell:.3f}" for cell in cells)])
    print(f"{run.name}: {len(masks)} pairs of image and label, {len(small)} small", file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="build/faithfulness", help="folder of the runs (default: %(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--pairs", type=int, default=80, help="for deletion and insertion (default: %(default)s)")
    parser.add_argument("--count", type=int, default=1050, help="scenes (default: %(default)s)")
    options = parser.parse_args()
    header = [
        "model",
        "px",
        "F1",
        "map",
        "pointing",
        "energy",
        "pointing, small",
        "energy, small",
        "deletion",
        "insertion",
    ]
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header), flush=True)
    for size in options.sizes:
        for kind in ("plain", "signa", "r4c"):
            run = rsml.train(experiment(kind, size, options.count), root=options.root)
            for row in measure(run, size, options.pairs):
                print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
