"""ICE: cross entropy plus the margin by which a wrong class wins, and a deep linear classifier.

    python examples/ice.py --epochs 20 --count 1890

Each drawn scene has one class here. The loss is also there for any Keras model: `rsml.losses.ImprovedCrossEntropy`.
"""

import argparse

import numpy as np

import rsml
from rsml.config import Data, Experiment, Training
from rsml.data.options import Scenes
from rsml.losses import ImprovedCrossEntropy
from rsml.methods import ICE
from rsml.prediction.scene_model import SceneModel


def main() -> None:
    """Trains, then shows what the method left in the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=630, help="scenes to draw")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--folder", default="data", help="where the scenes are kept")
    parser.add_argument("--root", default="checkpoint", help="where the run goes")
    options = parser.parse_args()

    experiment = Experiment(
        name="example-ice",
        data=Data(
            source="scenes",
            scenes=Scenes(count=options.count),
            folder=options.folder,
            task="single-label",
            image_size=64,
        ),
        # The small network makes 2 x 2 features of 64 pixels; the paper pools 4 x 4 of larger images.
        methods=ICE(pool=2, widths=(128, 64)),
        training=Training(epochs=options.epochs, batch_size=32, learning_rate=2e-3),
        evaluation={"figures": False, "page": False},
    )
    run = rsml.train(experiment, root=options.root)

    test = run.samples.part("test")
    scores = SceneModel.load(run.files.best).scores(test, 32)
    truth, best = test.labels.argmax(axis=1), scores.argmax(axis=1)
    loss = ImprovedCrossEntropy(reduction=None)(test.labels, scores)
    print(f"accuracy {np.mean(truth == best):.3f}, improved cross entropy {np.mean(loss):.3f}")
    worst = int(np.argmax(loss))
    names = test.label_names
    print(f"hardest: {test.paths[worst]}, a {names[truth[worst]]} taken for a {names[best[worst]]}")


if __name__ == "__main__":
    main()
