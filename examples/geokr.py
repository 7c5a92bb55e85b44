"""GeoKR: learn from the land cover under images, without a label, then classify with few labels.

    python examples/geokr.py --epochs 20 --count 1890

The maps come with the drawn scenes. The student's backbone is then the start of a classifier of other scenes, of which
one in ten has labels.
"""

import argparse

import rsml
from rsml.config import Augment, Data, Experiment, Model, Training
from rsml.data.options import Scenes
from rsml.methods import GeoKR


def main() -> None:
    """Trains, then shows what the method left in the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=630, help="scenes to draw")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--folder", default="data", help="where the scenes are kept")
    parser.add_argument("--root", default="checkpoint", help="where the run goes")
    options = parser.parse_args()

    drawn = {"source": "scenes", "folder": options.folder, "image_size": 64}
    training = Training(epochs=options.epochs, batch_size=32, learning_rate=2e-3)
    pretrained = rsml.train(
        Experiment(
            name="example-geokr",
            data=Data(task="proportions", scenes=Scenes(count=options.count, seed=1), **drawn),
            methods=GeoKR(update="step", alpha=0.99),
            augment=Augment(quarter_turns=True),
            training=training,
            evaluation={"figures": False, "page": False},
        ),
        root=options.root,
    )

    for name, weights in (("scratch", None), ("pretrained", str(pretrained.folder))):
        run = rsml.train(
            Experiment(
                name=f"example-geokr-{name}",
                data=Data(scenes=Scenes(count=options.count), train_fraction=0.1, keep_steps=True, **drawn),
                model=Model(weights=weights),
                training=training.model_copy(update={"backbone_rate": 1.0}),
                evaluation={"figures": False, "page": False},
            ),
            root=options.root,
        )
        metrics = run.metrics["test"]
        print(f"{name}: example F1 {metrics['example_f1']:.3f}, mAP {metrics['map_over_seen_labels']:.3f}")


if __name__ == "__main__":
    main()
