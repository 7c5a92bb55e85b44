"""Every family of backbones: flat, any size and bands, stages, insertion, saving, half precision."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from rsml.config import Data, Evaluation, Experiment, Model, Training
from rsml.models import insert_after, load_backbone, output_of, stages_of, swin, vit
from rsml.models.names import _OWN, known
from rsml.models.surgery import feature_map, rebuild
from rsml.training.loop import train

# A small member of each family, images that no stride divides, and the map that they make.
SIZE = (70, 50)
MAPS = {
    "resnet18": (3, 2, 512),
    "vgg16_bn": (2, 1, 512),
    "swin_t": (3, 2, 768),
    "swin_v2_t": (3, 2, 768),
    "convnext_tiny": (2, 1, 768),
    "vit_s_16": (4, 3, 384),
    "vit_s_14_dinov2_reg4": (5, 3, 384),
    "vit_s_16_dinov3": (4, 3, 384),
    "efficientnet_lite0": (3, 2, 1280),
}
QUICK = ("resnet18", "swin_t", "vit_s_16", "efficientnet_lite0")
# Numbers up to the feature map, batch statistics included, in the networks of torchvision and timm.
PARAMETERS = {
    "resnet34": 21_301_696,
    "resnet50": 23_561_152,
    "resnet101": 42_605_504,
    "wide_resnet50_2": 66_902_464,
    "swin_b": 86_743_224,
    "swin_v2_b": 86_905_848,
    "vit_b_16": 85_798_656,
    "convnext_base": 87_564_416,
    "efficientnet_lite4": 11_837_936,
}
PIXELS = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3)).astype("float32")


def run(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(keras.ops.cast(model(pixels, training=False), "float32"))


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MAPS]
)
def test_a_family_keeps_the_contract(name, tmp_path):
    backbone = load_backbone(name, image_size=SIZE)
    model = backbone.model
    assert model.output_shape == (None, *MAPS[name])
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert list(backbone.stages) == ["stage1", "stage2", "stage3", "stage4"]
    maps = [output_of(model, stage) for stage in backbone.stages]
    assert all(len(tensor.shape) == 4 for tensor in maps)
    assert feature_map(model) is model.output

    # What is inserted at a stage is its end, and reaches what comes after.
    filled = insert_after(model, "stage2", keras.layers.Rescaling(-1.0, name="turned"))
    assert stages_of(filled)["stage2"] == "turned"
    before, after = run(model, PIXELS), run(filled, PIXELS)
    assert before.std() > 1e-3 and np.abs(before - after).max() > 1e-3

    # Plain Keras reads the file, and the network takes images of another size.
    filled.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(run(loaded, PIXELS), after, atol=1e-5)
    other = rebuild(loaded, inputs=keras.Input((96, 64, 3)))
    assert np.isfinite(run(other, np.zeros((1, 96, 64, 3), "float32"))).all()


@pytest.mark.parametrize("name", ["resnet18", "swin_t", "vit_s_16"])
def test_bands_and_half_precision(name):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        backbone = load_backbone(name, image_size=SIZE, bands=5)
        features = backbone.model(np.repeat(PIXELS[:1, ..., :1], 5, -1), training=False)
    finally:
        keras.config.set_dtype_policy("float32")
    assert backbone.model.input_shape == (None, *SIZE, 5)
    assert features.dtype == "float16" and np.isfinite(np.asarray(features)).all()


def test_a_layer_put_after_tokens_sees_a_map():
    model = load_backbone("vit_s_16", image_size=64).model
    seen = []

    class Look(keras.layers.Layer):
        def call(self, x):
            seen.append(x.shape)
            return 0 * x

    filled = insert_after(model, "blocks_11_add2", Look(name="look"))
    assert seen[0] == (None, 4, 4, 384)
    # Patches that are zero are normalised to zero, but for the norm's own bias, which begins as zero.
    assert not run(filled, PIXELS[:, :64, :48].repeat(2, 2)[:, :, :64]).any()


def test_class_token_and_registers_take_part():
    model = known("vit_s_14_dinov2_reg4").build((28, 28), 3)
    for layer in model.layers:
        if "_ls" in layer.name:
            layer.set_weights([np.ones(384, "float32")])
    image = np.random.default_rng(0).normal(size=(1, 28, 28, 3)).astype("float32")
    tokens = model.get_layer("token_embed")
    before = run(model, image)
    for weight in (tokens.cls_token, tokens.reg_token):
        weight.assign(weight + 1.0 * np.random.default_rng(1).normal(size=weight.shape))
        after = run(model, image)
        assert np.abs(after - before).max() > 1e-3
        before = after


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_larger_members_have_their_published_size(name):
    model = known(name).build((64, 64), 3)
    positions = 14 * 14 - 4 * 4 if name.startswith("vit") else 0  # theirs are for 224 pixels
    assert model.count_params() + positions * 768 == PARAMETERS[name]


def test_every_name_of_ours_is_built_by_its_family():
    assert {"resnet101", "vgg16_bn_mlp", "swin_v2_b", "vit_l_14_dinov2_reg4", "vit_l_16_dinov3"} <= set(_OWN)
    assert len(_OWN) >= 40


@pytest.mark.slow
@pytest.mark.parametrize(("family", "name", "methods"), [(vit, "vit_s_16", "signa+r4c"), (swin, "swin_t", "r4c")])
def test_token_networks_train_with_the_methods(family, name, methods, multilabel_csv, tmp_path, monkeypatch):
    few = 4 if family is vit else (1, 1, 1, 1)
    monkeypatch.setitem(family._FORMS, name, replace(family._FORMS[name], blocks=few))
    experiment = Experiment(
        name="run",
        data=Data(source=str(multilabel_csv), image_size=32),
        model=Model(backbone=name),
        methods=methods,
        training=Training(epochs=1, batch_size=8),
        evaluation=Evaluation(figures=False, page=False, resamples=0),
    )
    run = train(experiment, root=tmp_path)
    assert np.isfinite(run.history["loss"]).all()
    scores = keras.saving.load_model(run.files.best)(PIXELS[:, :32, :32], training=False)
    assert scores.shape == (2, 3) and np.isfinite(scores).all()
