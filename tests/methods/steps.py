"""One training step of any experiment on random images, without a run folder, as the method tests need it."""

import keras
import numpy as np

from rsml.config import Data, Experiment, override
from rsml.methods import LabelContext
from rsml.training.loop import build, choose_objective
from rsml.training.trainer import Trainer

LABELS = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 1, 0]], dtype=np.uint8)
CONTEXT = LabelContext(("trees", "grass", "bare-soil"), "multi-label", LABELS, epochs=4, seed=0)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3)).astype("float32")
ABOUT = {"labels": LABELS.astype("float32"), "index": np.arange(6)}


def built(*settings, context=CONTEXT):
    """The classifier of an experiment and the trainer over it."""
    keras.utils.set_random_seed(0)
    experiment = override(Experiment(name="x", data=Data(image_size=32)), settings)[0]
    classifier = build(experiment, context)
    terms = [term for method in experiment.applied_methods() for term in method.terms(context)]
    objective = choose_objective(experiment, context.task).function(context.task)
    return classifier, Trainer(classifier.network, objective, terms)


def trained(*settings):
    """The same after one step, and that step's summands by name."""
    classifier, trainer = built(*settings)
    # Eagerly, since tracing a graph for one step takes longer than the step.
    trainer.compile(keras.optimizers.Adam(1e-3), loss=None, run_eagerly=True)
    return classifier, trainer, trainer.train_on_batch(IMAGES, ABOUT, return_dict=True)


def saved_and_loaded(classifier, path):
    """The served model after a round trip, beside its probabilities before and after."""
    served = classifier.served(labels=CONTEXT.names, task=CONTEXT.task)
    served.save(path)
    again = keras.models.load_model(path)
    return again, served(IMAGES, training=False), again(IMAGES, training=False)
