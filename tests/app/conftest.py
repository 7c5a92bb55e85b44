"""A small calibrated classifier, images of several kinds, and an application over them."""

import io

import keras
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from rsml.app.engine import Engine
from rsml.app.security import Limits
from rsml.app.server import create_app
from rsml.layers.scene_predictions import ScenePredictions
from rsml.utils.files import replacing

LABELS = ("water", "forest", "sand")
TOKEN = "0123456789abcdef"


def write_model(path, seed=0, **data):
    """A classifier with calibration, thresholds and views, whose scores lie apart."""
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 64, -2.0)(pixels)
    x = keras.layers.Conv2D(6, 3, strides=2, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    x = keras.layers.Dense(3, kernel_initializer=keras.initializers.RandomNormal(stddev=4.0))(x)
    last = ScenePredictions(
        LABELS,
        thresholds=[0.4, 0.5, 0.6],
        calibration={"scale": [1.5, 0.7, 1.0], "bias": [0.1, -0.2, 0.3]},
        experiment={"name": "m", "data": {"source": "x", "image_size": 32, **data}, "evaluation": {"views": 2}},
    )
    with replacing(path) as beside:
        keras.Model(pixels, last(x)).save(beside)
    return path


def encoded(pixels, form="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def model_file(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "m.keras")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder of images of several formats, sizes and depths."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)

    def pixels(*shape):
        colour = random.integers(0, 200, shape[2:])
        return (colour + random.integers(0, 56, shape)).astype(np.uint8)

    (folder / "same.png").write_bytes(encoded(pixels(32, 32, 3)))
    (folder / "large.jpg").write_bytes(encoded(pixels(90, 70, 3), "JPEG"))
    (folder / "grey.bmp").write_bytes(encoded(pixels(20, 40), "BMP"))
    (folder / "deep.tif").write_bytes(encoded(pixels(40, 40).astype(np.uint16) * 257, "TIFF"))
    (folder / "webp.webp").write_bytes(encoded(pixels(50, 50, 3), "WEBP", lossless=True))
    return sorted(folder.iterdir())


@pytest.fixture(scope="session")
def engine(model_file):
    with Engine(model_file, batch_size=4, max_pixels=10_000) as engine:
        yield engine


def open_client(engine, **options):
    """A client on loopback."""
    return TestClient(create_app(engine, **options), base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.fixture(scope="session")
def client(engine, pictures):
    # Without its lifespan, which would close the engine that all share.
    return open_client(engine, limits=Limits(body=400_000, pixels=10_000, images=8), roots=[pictures[0].parent])


def upload(client, path, *contents, **options):
    """Sends contents as a form."""
    return client.post(path, files=[("images", (f"{n}.png", content)) for n, content in enumerate(contents)], **options)
