import csv

import keras
import numpy as np
import pytest
from PIL import Image

from rsml.cli.main import main
from rsml.explain.explaining import Explainer, Targets, explain, explain_signa
from rsml.explain.pictures import Shown, overlay
from rsml.explain.signa import SignaExplanation
from rsml.layers import SIGNA, ScenePredictions
from rsml.prediction.scene_model import SceneModel
from rsml.utils.errors import UserError

LABELS = ["sea", "sand", "trees"]
GRAPH = np.array([[0, 0.6, 0], [0.5, 0, 0], [0, 0.4, 0]], np.float32)


def small_model(name="small", labels=LABELS, signa=True, **options):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(6, 3, strides=4, padding="same", activation="relu", name="map")(
        keras.layers.Rescaling(1 / 255)(inputs)
    )
    if signa:
        vectors = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
        x = SIGNA(GRAPH, vectors, heads=2, name="signa_map", **options)(x)
    x = keras.layers.Dense(len(labels), name="logits")(keras.layers.GlobalAveragePooling2D(name="features")(x))
    return keras.Model(inputs, ScenePredictions(labels, name="predictions")(x), name=name)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    names = [str(folder / f"{number}.png") for number in range(4)]
    for name in names:
        Image.fromarray(random.integers(0, 255, (40, 32, 3), np.uint8)).save(name)
    return names


@pytest.fixture(scope="module")
def model():
    return SceneModel.of(small_model())


def test_pictures_arrays_and_verdicts(files, model, tmp_path):
    scores = np.concatenate([model.model.predict(decoded(file), verbose=0) for file in files])
    truth = (scores > 0.5).astype(np.int8)
    truth[2] = 1 - truth[2]  # all wrong
    truth[3] = -1  # not known
    other = SceneModel.of(small_model("other", signa=False))
    explainers = [Explainer.of("first", model), Explainer.of("second", other)]
    explain(explainers, Targets(files, truth), tmp_path, most=3, batch_size=2)
    rows = list(csv.DictReader((tmp_path / "labels.csv").open()))
    assert len(rows) == 3 * 2 * 3 and rows[0]["image"] == files[2]  # the wrong one comes first
    own = [row for row in rows if row["model"] == "first"]
    assert {row["verdict"] for row in own[:3]} <= {"wrong", "missed"}
    np.testing.assert_allclose([float(row["score"]) for row in own[:3]], scores[2], atol=1e-5)
    assert sorted(row["rank"] for row in own[:3]) == ["1", "2", "3"]
    with np.load(tmp_path / "maps.npz") as kept:
        assert kept["maps first"].shape == (3, 3, 8, 8) and kept["labels"].tolist() == LABELS
        assert kept["images"].tolist()[0] == files[2]
    assert len(list(tmp_path.glob("*.jpg"))) == 3


def decoded(file):
    from rsml.data.images import decode, resize

    return resize(decode(file), (32, 32))[None].astype("float32")


def test_a_georeferenced_tile_gets_a_geotiff(model, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    transform = rasterio.transform.from_origin(500_000, 4_000_000, 2.0, 2.0)
    file = tmp_path / "tile.tif"
    profile = {"driver": "GTiff", "width": 32, "height": 32, "count": 3, "dtype": "uint8"}
    with rasterio.open(file, "w", **profile, crs="EPSG:32612", transform=transform) as target:
        target.write(np.random.default_rng(0).integers(0, 255, (3, 32, 32), np.uint8))
    explain([Explainer.of("m", model)], Targets.of_files([str(file)], 3, None), tmp_path / "out")
    with rasterio.open(tmp_path / "out" / "000-tile.tif") as made:
        assert made.transform == transform and made.crs.to_epsg() == 32612
        assert made.descriptions == tuple(LABELS) and made.read().max() <= 1.0001


def test_models_of_other_labels_are_refused(files, model, tmp_path):
    other = SceneModel.of(small_model(labels=["sea", "sand", "lake"], signa=False))
    sides = [Explainer.of("a", model), Explainer.of("b", other)]
    with pytest.raises(UserError, match=r"a and b: their labels differ \(lake\)"):
        explain(sides, Targets.of_files(files, 3, None), tmp_path)


def test_verdicts():
    cases = ((True, True), (True, False), (False, True), (False, False), (True, None))
    verdicts = [Shown("x", 0.5, 1, given, true, np.ones((2, 2))).verdict for given, true in cases]
    assert verdicts == ["right", "wrong", "missed", "absent", ""]


def test_an_overlay_leaves_dark_places_to_the_image():
    image = np.full((16, 16, 3), 100, np.uint8)
    found = overlay(image, np.kron([[0, 1.0]], np.ones((8, 4))))
    assert np.abs(found[:, 0].astype(int) - 100).max() <= 1 and np.ptp(found[:, -1], axis=-1).min() > 50


@pytest.mark.parametrize("options", [{}, {"gnn": "gcn", "expansion": "full", "residual": False}])
def test_heads_add_up_to_what_the_layer_multiplies(options):
    model = small_model(**options)
    images = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype("float32")
    signa = SignaExplanation(model, images)
    layer = model.get_layer("signa_map")
    before = keras.Model(model.input, layer.input).predict(images, verbose=0)
    after = keras.Model(model.input, layer.output).predict(images, verbose=0)
    heads = signa.channel_weights("signa_map")
    assert heads.shape == (3, 2, 6)
    weights = heads.sum(axis=1) + layer.out_bias.numpy() + (1 if layer.residual else 0)
    np.testing.assert_allclose(before * weights[:, None, None], after, atol=1e-4)


def test_an_edge_taken_out_does_what_a_layer_without_it_does():
    model = small_model()
    images = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype("float32")
    signa = SignaExplanation(model, images)
    found = signa.ablations(labels=False)
    assert {(one.source, one.target) for one in found} == {("sand", "sea"), ("sea", "sand"), ("sand", "trees")}
    graph = GRAPH.copy()
    graph[0, 1] = 0  # sea listens to sand no more
    layer = model.get_layer("signa_map")
    other = SIGNA.from_config({**layer.get_config(), "graph": graph.tolist()})
    other.build((None, 8, 8, 6))
    for mine, theirs in zip(other.weights, layer.weights, strict=True):
        mine.assign(theirs)
    features = model.get_layer("features")(other(keras.Model(model.input, layer.input)(images)))
    logits = keras.ops.convert_to_numpy(model.get_layer("logits")(features))
    one = next(one for one in found if (one.source, one.target) == ("sand", "sea"))
    np.testing.assert_allclose(one.shift, (logits - signa.logits).mean(axis=0), atol=1e-5)
    assert one.weight == pytest.approx(0.6) and one.moved > 0 and one.strength > 0
    np.testing.assert_allclose(SignaExplanation(model, images).logits, signa.logits, atol=1e-6)  # all is back in place


def test_signa_files_are_written_where_there_is_a_signa_layer(files, model, tmp_path):
    made = explain_signa(model, files, tmp_path)
    assert made == ["signa_ablations.csv", "signa_ablations.png", "signa_map_heads.png"]
    table = list(csv.DictReader((tmp_path / "signa_ablations.csv").open()))
    assert len(table) == 3 + 3 and set(LABELS) < set(table[0])
    assert explain_signa(SceneModel.of(small_model(signa=False)), files, tmp_path) == []
    with pytest.raises(UserError, match="plain: has no SIGNA layer"):
        SignaExplanation(small_model("plain", signa=False), np.zeros((1, 32, 32, 3)))


def test_bad_input_is_one_line(files, tmp_path, capfd):
    file = tmp_path / "m.keras"
    small_model().save(file)
    wrong = {
        "layer 'features': its output (6) is no feature map": [str(file), *files, "--after", "features"],
        "label 'lake': the model has no such label": [str(file), *files, "--label", "lake"],
        "a checkpoint file alone knows no data": [str(file)],
        "no such": [str(file), str(tmp_path / "none.png")],
    }
    for expected, arguments in wrong.items():
        assert main(["explain", *arguments, "--out", str(tmp_path / "out")]) == 2
        (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
        assert expected in line
