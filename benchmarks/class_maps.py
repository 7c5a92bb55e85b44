"""What class maps cost beside a forward pass: all 17 labels at the last map, or at an earlier stage.

    python benchmarks/class_maps.py [--backbone resnet18] [--size 224]

Passes and maps take turns, and the median of each is shown, so that other work on the machine slows both alike.
"""

import argparse
import time

import numpy as np
import tensorflow as tf

from rsml.explain.class_maps import METHODS, ClassMaps
from rsml.models import build_classifier, load_backbone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--labels", type=int, default=17)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    backbone = load_backbone(options.backbone, image_size=options.size)
    names = [f"label {number}" for number in range(options.labels)]
    model = build_classifier(backbone, options.labels).served(labels=names)
    images = tf.random.stateless_uniform((options.batch, options.size, options.size, 3), (0, 1), maxval=255.0)
    forward = tf.function(lambda batch: model(batch, training=False))
    timed = {"forward pass": lambda: forward(images).numpy()}
    numpy_images = images.numpy()
    for method in METHODS:
        for after in (None, "stage3"):
            maps = ClassMaps(model, after, method)
            title = f"{method}, {maps.after} ({maps.size[0]} x {maps.size[1]})"
            timed[title] = lambda maps=maps: maps(numpy_images, batch_size=options.batch)
    seconds = {title: [] for title in timed}
    for round_ in range(options.rounds + 1):
        for title, run in timed.items():
            started = time.perf_counter()
            run()
            if round_:  # the first one compiles
                seconds[title].append(time.perf_counter() - started)
    base = float(np.median(seconds["forward pass"]))
    print(f"{options.backbone}, {options.batch} images of {options.size} px, {options.labels} labels")
    for title, each in seconds.items():
        ratios = np.array(each) / np.array(seconds["forward pass"])
        print(f"{title:45} {1000 * np.median(each):8.0f} ms  {np.median(ratios):5.2f} forward passes")
    print(f"(one forward pass: {1000 * base:.0f} ms)")


if __name__ == "__main__":
    main()
