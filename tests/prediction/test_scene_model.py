from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image

from rsml.data.pipeline import evaluation_dataset
from rsml.layers import SIGNA, ScenePredictions
from rsml.layers.scene_predictions import predictions_of
from rsml.prediction.find_model import split_inputs
from rsml.prediction.scene_model import SceneModel
from rsml.utils.errors import UserError


def test_the_model_is_known_from_the_images(run, scene_folder):
    assert split_inputs([str(run.folder), "a.png"]) == (str(run.folder), ["a.png"])
    assert split_inputs(["model.keras"]) == ("model.keras", [])
    assert split_inputs([str(scene_folder)]) == (None, [str(scene_folder)])
    assert split_inputs([]) == (None, [])


def test_h5_gives_the_same_scores(run, tmp_path):
    model = keras.models.load_model(run.files.best)
    file = tmp_path / "model.h5"
    model.save(file)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    scene_model = SceneModel.load(file)
    assert scene_model.labels == ("water", "trees", "grass")
    np.testing.assert_allclose(
        scene_model.model.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-6
    )


def test_a_graph_of_other_labels_is_refused():
    image = keras.Input((32, 32, 3))
    x = SIGNA(np.zeros((4, 4)), np.eye(4), heads=1, name="attention")(keras.layers.Conv2D(8, 3)(image))
    logits = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, ScenePredictions(["sea", "sand"])(logits))
    with pytest.raises(UserError, match=r"'attention' holds a graph of 4 labels, but the model has 2"):
        SceneModel.of(model)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [("a.keras", None, "a.keras"), ("a.h5", b"text", "a.h5"), ("a.keras", b"PK\x03\x04", "a.keras")],
)
def test_what_is_no_checkpoint_is_one_line(tmp_path, name, content, said):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=said) as fault:
        SceneModel.load(file)
    assert "\n" not in str(fault.value)


def test_a_models_fingerprint_is_of_its_weights_and_of_all_that_its_numbers_mean(run):
    one, again = SceneModel.load(run.files.best), SceneModel.load(run.files.best)
    assert one.fingerprint == again.fingerprint
    others = [replace(one, views=4), replace(one, thresholds=one.thresholds + 0.1), replace(one, reading={})]
    last = predictions_of(again.model)
    last.calibration = {"scale": [2.0] * len(last.labels), "bias": [0.0] * len(last.labels)}
    assert len({one.fingerprint, replace(again).fingerprint, *(other.fingerprint for other in others)}) == 5


@pytest.mark.parametrize("antialias", [True, False])
def test_an_image_in_memory_is_brought_to_size_as_files_are(run, tmp_path, antialias):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 41, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    model = SceneModel.load(run.files.best)
    model = replace(model, reading={**model.reading, "antialias": antialias})
    (images, _), *_ = evaluation_dataset([str(tmp_path / "a.png")], batch_size=1, **model.reading)
    np.testing.assert_array_equal(model.fit(pixels), images[0])
