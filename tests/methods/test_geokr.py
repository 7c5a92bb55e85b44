"""GeoKR as a method: how the teacher moves, what is resumed and what is saved, and where its weights can start."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from rsml.config import Augment, Data, Experiment, Training, override
from rsml.config_files import load_config
from rsml.data.pipeline import training_dataset
from rsml.data.source import load_samples
from rsml.methods import GeoKR
from rsml.methods.objectives import CrossEntropy
from rsml.training.loop import build, precision, train
from rsml.utils.errors import UserError
from tests.methods.resuming import check_that_a_stop_is_made_good
from tests.methods.steps import CONTEXT, IMAGES, built

ROOT = Path(__file__).parents[2]
SHARES = np.random.default_rng(0).dirichlet(np.ones(3), 6).astype("float32")
MAPPED = replace(CONTEXT, task="proportions", training_labels=SHARES)


@pytest.fixture(scope="module")
def experiment(share_table):
    return Experiment(
        name="run",
        data=Data(source=str(share_table), image_size=32),
        methods=GeoKR(update_steps=(1, 3), alpha=0.8),
        training=Training(epochs=3, batch_size=7, schedule="constant"),
        evaluation={"figures": False, "page": False, "resamples": 0},
    )


@pytest.fixture(scope="module")
def whole(experiment, tmp_path_factory):
    """The experiment, trained without a stop."""
    return train(experiment, root=tmp_path_factory.mktemp("whole"))


def steps_of(*settings, count=3, batch=6, optimizer=None):
    """The teacher's term, and student and teacher before the first step and after each one."""
    _, trainer = built("methods=geokr", *settings, context=MAPPED)
    trainer.compile(optimizer or keras.optimizers.SGD(0.1), loss=None, run_eagerly=True)
    (term,) = trainer.terms
    about = {"labels": SHARES[:batch], "index": np.arange(batch)}
    kept = [(trainer.network.get_weights(), term.state.teacher.get_weights())]
    for _ in range(count):
        trainer.train_on_batch(IMAGES[:batch], about)
        kept.append((trainer.network.get_weights(), term.state.teacher.get_weights()))
    return term, kept


def test_the_objective_is_the_published_one():
    recorded = np.load(ROOT / "tests" / "data" / "geokr_0.npz")
    found = CrossEntropy().function("proportions")(recorded["proportions"], recorded["student"])
    np.testing.assert_allclose(found, recorded["classification"], rtol=1e-6)


def test_after_every_step_the_teacher_moves_to_the_students_last_weights():
    term, kept = steps_of("methods.geokr.update=step", "methods.geokr.alpha=0.9")
    moving = [variable.path.endswith(("moving_mean", "moving_variance")) for variable in term.state.teacher.weights]
    assert 0 < sum(moving) < len(moving)
    for number in (2, 3):
        student, before, after = kept[number - 1][0], kept[number - 1][1], kept[number][1]
        for own, teacher, found, average in zip(student, before, after, moving, strict=True):
            if not average:
                np.testing.assert_allclose(found, 0.9 * teacher + 0.1 * own, rtol=1e-5, atol=1e-7)
    # The student's step comes after the teacher's look, so the first one moves nothing.
    for teacher, found, average in zip(kept[0][1], kept[1][1], moving, strict=True):
        assert average or np.array_equal(teacher, found)


def test_between_updates_only_the_averages_of_batch_normalisation_follow():
    term, kept = steps_of()
    for first, last, variable in zip(kept[0][1], kept[-1][1], term.state.teacher.weights, strict=True):
        follows = variable.path.endswith(("moving_mean", "moving_variance"))
        assert np.array_equal(first, last) != follows, variable.path


def test_the_teacher_begins_as_the_student_and_is_out_of_the_optimizers_reach():
    _, trainer = built("methods=geokr", context=MAPPED)
    (term,) = trainer.terms
    for own, other in zip(term.state.teacher.weights, trainer.network.weights, strict=True):
        np.testing.assert_array_equal(own, other)
    reached = {id(variable) for variable in trainer.trainable_variables}
    assert reached == {id(variable) for variable in trainer.network.trainable_variables}


def test_the_consistency_pulls_on_the_student_as_published():
    import tensorflow as tf

    _, trainer = built("methods=geokr", context=MAPPED)
    (term,) = trainer.terms
    logits = tf.Variable(np.random.default_rng(1).normal(size=(6, 3)).astype("float32"))
    teacher = np.log(keras.ops.softmax(term.state.teacher(IMAGES, training=True)))
    with tf.GradientTape() as tape:
        outputs = {**term.prepare(IMAGES, 6), "logits": tf.convert_to_tensor(logits)}
        loss = term(SHARES, np.arange(6), outputs)
    student = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(loss, -(student * teacher).mean(), rtol=1e-4)
    # d/ds of -mean(p t) with p = softmax(s): -p (t - sum(p t)) / (images * classes).
    expected = -student * (teacher - (student * teacher).sum(axis=1, keepdims=True)) / student.size
    np.testing.assert_allclose(tape.gradient(loss, logits), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("steps", "moves"), [((2, 4), [0, 1, 1, 2, 2, 2, 2, 3]), ((1,), [1, 2, 3, 4, 5, 6, 7, 8])])
def test_after_the_schedule_the_teacher_moves_at_multiples_of_its_last_step(steps, moves):
    options = GeoKR(update_steps=steps)
    assert [int(options.updates_after(np.int64(16 * step))) for step in range(1, 9)] == moves


def test_the_published_schedule_in_other_batches():
    options = GeoKR()
    at_batch_8 = [500 * 2, 10500 * 2, 20500 * 2, 30500 * 2, 61000 * 2, 91500 * 2]
    for number, step in enumerate(at_batch_8):
        assert int(options.updates_after(np.int64(8 * step - 8))) == number
        assert int(options.updates_after(np.int64(8 * step))) == number + 1


def test_the_teacher_moves_when_the_schedule_says_so():
    # 6 images a step: 16 are passed with the third step, 32 with the sixth, 48 with the eighth.
    term, _ = steps_of("methods.geokr.update_steps=[1]", "methods.geokr.alpha=0", count=9)
    assert int(term.state.images) == 54 and int(term.state.moved) == 3


def test_a_stop_in_the_middle_of_an_epoch_is_made_good_teacher_included(experiment, whole, tmp_path, monkeypatch):
    check_that_a_stop_is_made_good(experiment, whole, tmp_path, monkeypatch)


def test_the_state_has_both_networks_and_the_product_only_the_student(experiment, whole):
    model = keras.models.load_model(whole.files.best)
    kernel = next(weight.shape for weight in model.weights if len(weight.shape) == 4)
    with np.load(whole.files.state) as state:
        # Student, teacher, and two slots of Adam.
        assert sum(state[name].shape == kernel for name in state.files) == 4
    assert len(model.weights) == len(built("methods=plain", context=MAPPED)[0].network.weights)
    scores = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)


def test_the_history_has_both_losses_and_how_far_the_shares_are(whole):
    history = pd.read_csv(whole.files.history)
    np.testing.assert_allclose(history["loss"], history["objective"] + history["consistency"], rtol=1e-4)
    assert (history["val_kl_divergence"] > 0).all() and history["val_dominant_accuracy"].between(0, 1).all()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_keeps_a_teacher_in_full_precision(policy):
    with precision(policy):
        term, kept = steps_of("methods.geokr.update=step", count=2)
    assert {layer.compute_dtype for layer in term.state.teacher.layers} >= {policy.removeprefix("mixed_")}
    assert {variable.dtype for variable in term.state.teacher.weights} == {"float32"}
    assert all(np.isfinite(array).all() for array in kept[-1][1])
    assert any(not np.array_equal(old, new) for old, new in zip(kept[1][1], kept[2][1], strict=True))


def test_half_precision_trains_through_a_run(experiment, tmp_path):
    settings = ["training.precision=mixed_float16", "training.epochs=1", "methods.geokr.update=step"]
    run = train(override(experiment, settings)[0], root=tmp_path)
    assert np.isfinite(pd.read_csv(run.files.history)["consistency"]).all()
    with np.load(run.files.state) as state:
        assert {state[name].dtype for name in state.files if state[name].ndim > 1} == {np.dtype("float32")}


def test_without_a_teacher_the_cross_entropy_is_all():
    _, trainer = built("methods=geokr", "methods.geokr.teacher=false", context=MAPPED)
    assert trainer.terms == [] and len(trainer.weights) == len(trainer.network.weights)


@pytest.mark.parametrize(
    ("settings", "bands", "loaded"),
    [
        ([], 3, "26 of 27 layers loaded by name"),
        (["methods=signa", "methods.signa.heads=1"], 3, "26 of 28 layers"),
        ([], 4, "adapted from 3 to 4 bands"),
    ],
)
def test_a_classifier_starts_from_the_students_backbone(whole, settings, bands, loaded):
    asked = [f"model.weights={whole.folder}", *settings]
    if bands == 4:
        asked.append("data.bands=[1,2,3,4]")
    experiment = override(Experiment(name="x", data=Data(image_size=32)), asked)[0]
    classifier = build(experiment, CONTEXT)
    report = classifier.backbone.report
    assert loaded in report.text() and "logits" in report.unused
    student = {layer.name: layer for layer in keras.models.load_model(whole.files.best).layers}
    for layer in classifier.backbone_layers():
        if bands == 3 or layer.name != "stem_conv":
            for value, again in zip(layer.weights, student[layer.name].weights, strict=True):
                np.testing.assert_array_equal(value, again)
    assert classifier.backbone.pretrained


def test_another_backbone_hands_on_its_weights_too(tmp_path):
    asked = ["model.backbone=resnet18", "methods=geokr"]
    student = built(*asked, context=MAPPED)[0].served(labels=list(MAPPED.names), task="proportions")
    student.save(tmp_path / "student.keras")
    start = f"model.weights={tmp_path / 'student.keras'}"
    experiment = override(Experiment(name="x", data=Data(image_size=32)), ["model.backbone=resnet18", start])[0]
    report = build(experiment, CONTEXT).backbone.report
    loaded, of = report.layers
    assert loaded == of >= 40 and report.unused == [] and report.parameters[0] == report.parameters[1] > 11e6
    # With the same labels the classifier is taken over too; with others it is not.
    classifier = build(experiment, CONTEXT)
    own, theirs = (one.get_layer("logits").get_weights()[0] for one in (classifier.network, student))
    np.testing.assert_array_equal(own, theirs)
    others = build(experiment, replace(CONTEXT, names=("sea", "sand", "snow")))
    assert others.backbone.report.unused == ["logits"]
    assert not np.allclose(others.network.get_layer("logits").get_weights()[0], theirs)


def test_jitter_of_colours_that_the_bands_have_not_is_refused_with_the_config(share_table):
    samples = load_samples(Data(source=str(share_table)))
    for refused in (
        lambda: override(Experiment(name="x"), ["data.bands=[1,2,3,4]", "augment.hue=0.3"]),
        lambda: training_dataset(samples, image_size=8, batch_size=2, epochs=1, bands=(1, 2), augment=Augment(hue=0.3)),
    ):
        with pytest.raises(UserError, match=r"^augment: hue need RGB images, these have [24] bands") as fault:
            refused()
        assert "\n" not in str(fault.value)


def test_other_tasks_are_refused_in_one_line():
    with pytest.raises(UserError, match=r"method 'geokr' is for proportions data, found multi-label data"):
        built("methods=geokr")
    with pytest.raises(UserError, match=r"method 'grn' is for multi-label and single-label data, found proportions"):
        built("methods=grn", context=MAPPED)
    with pytest.raises(UserError, match="steps that rise"):
        override(Experiment(name="x"), ["methods=geokr", "methods.geokr.update_steps=[5,5]"])


def test_the_recipes_are_the_published_ones():
    recipe = load_config(ROOT / "configs" / "geokr_resnet50.py", ["backbone=vgg16", "precision=mixed_float16"])
    assert recipe.training.precision == "mixed_float16" and recipe.model.backbone == "vgg16"
    assert recipe.methods[0].alpha == 0.95 and recipe.methods[0].update == "schedule"
    assert recipe.augment.brightness == (0.7, 1.3) and recipe.augment.hue == 0.3
    four = load_config(ROOT / "configs" / "geokr_resnet50.py", ["bands=2,3,4,8"])
    assert four.data.bands == (2, 3, 4, 8) and four.augment.hue == 0 and four.augment.saturation is None
    small = load_config(ROOT / "configs" / "geokr.py")
    assert small.data.scenes.seed != load_config(ROOT / "configs" / "scenes.py").data.scenes.seed
