"""SIGNA: attention over channels that is guided by labels which occur together.

    python examples/signa.py --epochs 20 --count 1890

A graph of labels is counted from the training part; its layer goes into the backbone after stage 2, and the saved model
carries graph and word vectors.
"""

import argparse

import rsml
from rsml.config import Data, Experiment, Training
from rsml.data.options import Scenes
from rsml.layers import SIGNA
from rsml.methods import Signa


def main() -> None:
    """Trains, then shows what the method left in the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=630, help="scenes to draw")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--folder", default="data", help="where the scenes are kept")
    parser.add_argument("--root", default="checkpoint", help="where the run goes")
    options = parser.parse_args()

    experiment = Experiment(
        name="example-signa",
        data=Data(source="scenes", scenes=Scenes(count=options.count), folder=options.folder, image_size=64),
        methods=Signa(after=("stage2",), heads=2, gnn="graphsage"),
        training=Training(epochs=options.epochs, batch_size=32, learning_rate=2e-3),
        evaluation={"figures": False, "page": False},
    )
    run = rsml.train(experiment, root=options.root)

    # The model is complete in itself: the layer in it still knows which labels listen to which.
    model = run.model()
    layer = next(layer for layer in model.layers if isinstance(layer, SIGNA))
    names = run.samples.label_names
    for name, row in zip(names, layer.graph, strict=True):
        others = ", ".join(f"{names[j]} ({row[j]:.2f})" for j in row.argsort()[::-1] if row[j])
        print(f"{name} listens to {others or 'no other label'}")

    metrics = run.metrics["test"]
    print(f"example F1 {metrics['example_f1']:.3f}, mAP {metrics['map_over_seen_labels']:.3f}")


if __name__ == "__main__":
    main()
