"""GRN as a method: the published steps, what is learned by which loss, resuming, and what the saved model holds."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsRegressor

from rsml.config import Data, Experiment, Training, override
from rsml.config_files import load_config
from rsml.data.pipeline import evaluation_dataset
from rsml.methods import GRN, LabelContext
from rsml.models import load_backbone
from rsml.prediction.scene_model import SceneModel
from rsml.retrieval.embedding import Embedder
from rsml.training.loop import train
from rsml.utils.errors import UserError
from tests.methods.resuming import check_that_a_stop_is_made_good, state_of
from tests.methods.steps import CONTEXT, IMAGES, LABELS, built, saved_and_loaded, trained

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def experiment(multilabel_csv):
    return Experiment(
        name="run",
        data=Data(source=str(multilabel_csv), task="multi-label", image_size=32),
        methods=GRN(dim=8, momentum_steps={0.6: 0.8}),
        training=Training(epochs=3, batch_size=7, schedule="constant", monitor="knn_samples_f1"),
        evaluation={"figures": False, "page": False, "resamples": 0},
    )


@pytest.fixture(scope="module")
def whole(experiment, tmp_path_factory):
    """The experiment, trained without a stop."""
    return train(experiment, root=tmp_path_factory.mktemp("whole"))


def memory_of(run):
    (memory,) = [array for array in state_of(run).values() if array.shape == (24, 8)]
    return memory


def test_three_steps_of_the_term_equal_the_published_code():
    recorded = np.load(ROOT / "tests" / "data" / "grn_2.npz")
    options = {name: float(recorded[name]) for name in ("momentum", "temperature", "margin")}
    dim = recorded["memory_0"].shape[1]
    context = LabelContext(tuple(map(str, range(17))), "multi-label", recorded["labels"], epochs=1, seed=0)
    (term,) = GRN(dim=dim, momentum_steps={}, **options).terms(context)
    term.memory.memory.assign(recorded["memory_0"])
    term.begin_epoch(0)

    @tf.function
    def step(index, feature):
        with tf.GradientTape() as tape:
            tape.watch(feature)
            loss = term(tf.gather(recorded["labels"], index), index, {"embedding": feature})
        return loss, tape.gradient(loss, feature)

    for number in range(3):
        loss, gradient = step(tf.constant(recorded[f"index_{number}"]), tf.constant(recorded[f"feature_{number}"]))
        np.testing.assert_allclose(loss, recorded[f"loss_{number}"], rtol=1e-6)
        np.testing.assert_allclose(gradient, recorded[f"grad_{number}"], rtol=1e-5, atol=3e-6)
        np.testing.assert_allclose(term.memory.memory.numpy(), recorded[f"memory_{number + 1}"], atol=2e-7)


def test_a_stop_in_the_middle_of_an_epoch_is_made_good_memory_included(experiment, whole, tmp_path, monkeypatch):
    check_that_a_stop_is_made_good(experiment, whole, tmp_path, monkeypatch)


def test_the_memory_is_in_the_state_and_not_in_the_model(whole):
    np.testing.assert_allclose(np.linalg.norm(memory_of(whole), axis=1), 1, atol=1e-5)
    model = keras.models.load_model(whole.files.best)
    assert (24, 8) not in [weight.shape for weight in model.weights]


def test_the_history_has_the_summands_and_the_neighbours_vote(whole, multilabel_csv):
    history = pd.read_csv(whole.files.history)
    np.testing.assert_allclose(history["loss"], history["objective"] + history["sndl"], rtol=1e-4)
    assert history["sndl"].iloc[-1] < history["sndl"].iloc[0]
    # The last epoch's vote again, by scikit-learn, from the memory and the model that the run left.
    samples = whole.read_samples()
    valid = samples.part("valid")
    last = keras.models.load_model(whole.files.last)
    embedder = keras.Model(last.input, last.get_layer("embedding").output)
    (images, _), *_ = evaluation_dataset(valid, image_size=32, batch_size=8)
    queries = embedder(images, training=False)
    voting = KNeighborsRegressor(10, weights="distance").fit(memory_of(whole), samples.part("train").labels)
    expected = f1_score(valid.labels, voting.predict(queries) > 0.5, average="samples")
    assert history["val_knn_samples_f1"].iloc[-1] == pytest.approx(expected, abs=1e-6)


def test_retrieval_cuts_the_saved_model_at_the_embedding(whole, tmp_path):
    scene_model = SceneModel.load(whole.files.best)
    embedder = Embedder(scene_model, "run")
    assert (embedder.layer.name, embedder.width) == ("embedding", 8)
    vectors, scores = embedder.model(IMAGES, training=False)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    projection = keras.Model(scene_model.model.input, scene_model.model.get_layer("projection").output)
    raw = projection(IMAGES, training=False)
    np.testing.assert_allclose(vectors, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-6)
    scene_model.model.save(tmp_path / "model.h5")
    again = Embedder(SceneModel.load(tmp_path / "model.h5"), "h5")
    assert again.fingerprint == embedder.fingerprint
    for found, before in zip(again.model(IMAGES, training=False), (vectors, scores), strict=True):
        np.testing.assert_allclose(found, before, atol=1e-6)


def test_the_run_serves_as_a_backbone_without_its_heads(whole):
    backbone = load_backbone(whole.files.best, image_size=32)
    assert backbone.model.output_shape == (None, 1, 1, 128)
    assert "projection" not in [layer.name for layer in backbone.model.layers]


def gradients(*settings):
    """Whether each loss reaches the first convolution, the projection and the classifier."""
    classifier, trainer = built("methods=grn", "methods.grn.dim=8", *settings)
    network, (term,) = classifier.network, trainer.terms
    first = next(layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)).kernel
    places = {"backbone": first, "projection": network.get_layer("projection").kernel}
    places["classifier"] = network.get_layer("logits").kernel
    with tf.GradientTape(persistent=True) as tape:
        outputs = network(IMAGES, training=True)
        labels = tf.constant(LABELS, tf.float32)
        losses = {"sndl": term(labels, tf.range(6), outputs), "objective": trainer.objective(labels, outputs["logits"])}
    reached = {}
    for name, loss in losses.items():
        found = tape.gradient(loss, [variable.value for variable in places.values()])
        reached[name] = {
            place
            for place, gradient in zip(places, found, strict=True)
            if gradient is not None and np.abs(gradient).max() > 0
        }
    return reached


@pytest.mark.parametrize(
    ("settings", "by_objective"),
    [
        ([], {"backbone", "projection", "classifier"}),
        (["methods.grn.classifier=features"], {"backbone", "classifier"}),
        (["methods.grn.bce=false"], {"classifier"}),
        (["methods.grn.bce=false", "methods.grn.classifier=features"], {"classifier"}),
    ],
)
def test_each_loss_moves_what_it_should(settings, by_objective):
    assert gradients(*settings) == {"sndl": {"backbone", "projection"}, "objective": by_objective}


def test_heat_maps_see_through_the_classifier_of_pure_sndl():
    classifier, _ = built("methods=grn", "methods.grn.bce=false")
    served = classifier.served(labels=CONTEXT.names, task=CONTEXT.task)
    images = tf.constant(IMAGES)
    with tf.GradientTape() as tape:
        tape.watch(images)
        scores = served(images, training=False)
    assert np.abs(tape.gradient(scores, images)).max() > 0


def test_the_momentum_follows_the_paper_from_any_epoch_on():
    options = GRN()
    assert [options.momentum_at(epoch, 130) for epoch in (0, 79, 80, 119, 120, 129)] == [0.5, 0.5, 0.8, 0.8, 0.9, 0.9]
    assert [options.momentum_at(epoch, 13) for epoch in (7, 8, 11, 12)] == [0.5, 0.8, 0.8, 0.9]
    assert GRN(momentum=0.3, momentum_steps={}).momentum_at(100, 130) == 0.3
    (term,) = options.terms(LabelContext(CONTEXT.names, "multi-label", LABELS, epochs=130, seed=0))
    for epoch, expected in [(100, 0.8), (0, 0.5), (125, 0.9)]:
        term.begin_epoch(epoch)
        assert term.memory.momentum == pytest.approx(expected)


@pytest.mark.parametrize(
    "methods",
    [
        ["methods=signa+grn", "methods.signa.heads=1"],
        ["methods=grn+ml-gcn", "methods.grn.classifier=features"],
        ["methods=grn+r4c", "methods.grn.bce=false"],
    ],
    ids=lambda settings: settings[0],
)
def test_with_others_it_trains_a_step_saves_and_loads(methods, tmp_path):
    classifier, trainer, step = trained(*methods)
    summands = {name: value for name, value in step.items() if name != "loss"}
    assert step["loss"] == pytest.approx(sum(summands.values()), rel=1e-5)
    # A vector moves from noise at least as far as half of its way.
    np.testing.assert_allclose(np.linalg.norm(trainer.terms[0].memory.memory.numpy(), axis=1), 1, atol=1e-5)
    loaded, before, after = saved_and_loaded(classifier, tmp_path / "model.keras")
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert loaded.get_layer("embedding").output.shape == (None, 128)


def test_in_half_precision_the_embedding_and_its_loss_stay_whole():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        classifier, trainer = built("methods=grn", "methods.grn.dim=8")
        served = classifier.served(labels=CONTEXT.names, task=CONTEXT.task)
        outputs = classifier.network(IMAGES, training=True)
        loss = trainer.terms[0](LABELS, np.arange(6), outputs)
    finally:
        keras.config.set_dtype_policy(before)
    assert {outputs["embedding"].dtype, outputs["logits"].dtype, loss.dtype} == {tf.float32}
    assert served.get_layer("beside_embedding").compute_dtype == "float32"
    assert np.isfinite(loss)


def test_what_cannot_be_is_one_line(experiment, tmp_path):
    lonely = LabelContext(("trees",), "multi-label", LABELS[:1, :1], epochs=1, seed=0)
    with pytest.raises(UserError, match="only one; add more"):
        GRN().terms(lonely)
    with pytest.raises(UserError, match="'knn_samples_f1' is not a multi-label metric; known: "):
        train(override(experiment, ["methods=plain", "name=plain"])[0], root=tmp_path)
    with pytest.raises(UserError, match="grn and ml-gcn each bring a classifier"):
        override(experiment, ["methods=grn+ml-gcn"])
    with pytest.raises(UserError, match=r"known: .*knn_samples_f1"):
        train(override(experiment, ["training.monitor=knn_f1", "name=other"])[0], root=tmp_path)


@pytest.mark.parametrize("bce", [True, False])
def test_the_config_is_the_papers_recipe(bce):
    experiment = load_config(ROOT / "configs" / "grn.py", [f"bce={bce}"])
    training, augment = experiment.training, experiment.augment
    assert experiment.methods == (GRN(bce=bce),)
    assert (training.optimizer, training.nesterov, training.momentum) == ("sgd", True, 0.9)
    assert (training.learning_rate, training.backbone_rate, training.weight_decay) == (0.1, 1.0, 1e-4)
    assert (training.epochs, training.batch_size, training.monitor) == (130, 256, "knn_samples_f1")
    assert (training.schedule, training.step_epochs, training.step_factor) == ("step", 30, 0.5)
    assert (augment.greyscale, augment.hue, augment.brightness, augment.vertical_flip) == (0.2, 0.4, (0.6, 1.4), False)
