"""GRN: an embedding in which images with like labels are neighbours, and retrieval by it.

    python examples/grn.py --epochs 20 --count 1890

A memory of one vector for each training image is part of the training; the saved model keeps the layer "embedding".
"""

import argparse

import keras
import numpy as np

import rsml
from rsml.config import Data, Experiment, Training
from rsml.data.options import Scenes
from rsml.data.pipeline import evaluation_dataset
from rsml.methods import GRN


def main() -> None:
    """Trains, then shows what the method left in the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=630, help="scenes to draw")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--folder", default="data", help="where the scenes are kept")
    parser.add_argument("--root", default="checkpoint", help="where the run goes")
    options = parser.parse_args()

    data = Data(source="scenes", scenes=Scenes(count=options.count), folder=options.folder, image_size=64)
    experiment = Experiment(
        name="example-grn",
        data=data,
        methods=GRN(dim=64),
        training=Training(epochs=options.epochs, batch_size=32, learning_rate=2e-3, monitor="knn_samples_f1"),
        evaluation={"figures": False, "page": False},
    )
    run = rsml.train(experiment, root=options.root)

    # Cut the model at its embedding; neighbours are the largest dot products of vectors of unit length.
    model = run.model()
    embed = keras.Model(model.input, model.get_layer("embedding").output)
    samples = run.samples
    vectors = {
        part: embed.predict(
            evaluation_dataset(samples.part(part), batch_size=32, **data.reading(), cache=data.cache), verbose=0
        )
        for part in ("train", "test")
    }
    archive, queries = samples.part("train"), samples.part("test")
    nearest = np.argsort(-vectors["test"] @ vectors["train"].T, axis=1)[:, :5]
    agreement = (archive.labels[nearest] == queries.labels[:, None]).mean()
    by_chance = (archive.labels[None] == queries.labels[:, None]).mean()
    print(f"labels that a query and its 5 nearest share: {agreement:.3f} (any two images: {by_chance:.3f})")


if __name__ == "__main__":
    main()
