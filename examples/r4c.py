"""R4C: labels, images and features put in the right order, by losses that learn to rank.

    python examples/r4c.py --epochs 20 --count 1890

Three approximate-NDCG losses take the place of cross entropy; virtual labels around 0.5 make 0.5 the threshold.
"""

import argparse

import numpy as np

import rsml
from rsml.config import Data, Experiment, Training
from rsml.data.options import Scenes
from rsml.methods import R4C
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
        name="example-r4c",
        data=Data(source="scenes", scenes=Scenes(count=options.count), folder=options.folder, image_size=64),
        methods=R4C(ranking_weight=1.0),
        training=Training(epochs=options.epochs, batch_size=32, learning_rate=1e-3),
        evaluation={"figures": False, "page": False},
    )
    run = rsml.train(experiment, root=options.root)

    # Every summand of the loss is a column of the history.
    history = run.history
    print(history[["epoch", "feature_ranking", "label_ranking", "sample_ranking"]].round(2).to_string(index=False))

    test = run.samples.part("test")
    scores = SceneModel.load(run.files.best).scores(test, 32)
    for labels, row in list(zip(test.labels, scores, strict=True))[:3]:
        names = np.array(test.label_names)
        ranked = ", ".join(f"{names[j]} {row[j]:.2f}" for j in np.argsort(-row)[:5])
        print(f"{' + '.join(names[labels > 0])}: {ranked}")
    metrics = run.metrics["test"]
    print(f"example F1 {metrics['example_f1']:.3f}, mAP {metrics['map_over_seen_labels']:.3f}")


if __name__ == "__main__":
    main()
