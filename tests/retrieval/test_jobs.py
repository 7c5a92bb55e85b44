import json
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import rsml.retrieval
from rsml.cli.main import main as rsml
from rsml.config import Data, Experiment
from rsml.data.images import decode
from rsml.data.source import load_samples
from rsml.layers import ScenePredictions
from rsml.prediction.scene_model import SceneModel
from rsml.retrieval import Index, knn_f1, retrieval_metrics
from rsml.retrieval.embedding import Embedder
from rsml.run import Run
from rsml.utils.errors import UserError


def classifier(samples, seed=0, embedding=False):
    """Colours of an image's quarters, mixed at random; with the head of GRN if asked."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((32, 32, 3))
    x = keras.layers.AveragePooling2D(16)(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.Conv2D(12, 2, activation="relu", name="convolution")(x)
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    if embedding:
        x = keras.layers.Dense(8, name="embedding")(x)
    x = keras.layers.Dense(len(samples.label_names), name="logits")(x)
    return keras.Model(image, ScenePredictions(labels=samples.label_names, task=samples.task, name="predictions")(x))


@pytest.fixture(scope="module")
def run(multilabel_csv, tmp_path_factory):
    data = Data(source=str(multilabel_csv), task="multi-label", image_size=32)
    run = Run.start(Experiment(name="colours", data=data), root=tmp_path_factory.mktemp("checkpoint"))
    samples = load_samples(data)
    run.write_samples(samples)
    run.write_model(classifier(samples), run.files.best)
    return run


def features(run, files, layer="features"):
    model = keras.models.load_model(run.files.best)
    return keras.Model(model.input, model.get_layer(layer).output).predict(
        np.stack([decode(file) for file in files]), verbose=0
    )


def cosine(a, b):
    return (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T


def test_search_finds_what_the_model_finds_alike(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert rsml(["retrieve", "index", str(run.folder), "--split", "train", "--out", "index", "--batch-size", "7"]) == 0
    assert "index: 24 images, 12 values each (features), cosine" in capsys.readouterr().out
    samples = run.read_samples()
    archive, test = samples.part("train"), samples.part("test")
    (tmp_path / "broken.png").write_bytes(b"no image")
    new = tmp_path / "new.png"
    Image.fromarray(np.full((32, 32, 3), (45, 75, 150), np.uint8)).save(new)
    asked = [str(archive.files[0]), str(test.files[0]), str(new)]
    assert rsml(["retrieve", "search", "index", *asked, "broken.png", "-k", "3"]) == 3
    assert "skipped: broken.png: " in capsys.readouterr().err
    found = pd.read_csv("neighbours.csv", keep_default_na=False)
    similar = cosine(features(run, asked), features(run, archive.files))
    similar[0, 0] = -np.inf  # itself
    assert found["rank"].tolist() == [1, 2, 3] * 3
    np.testing.assert_array_equal(found["row"].to_numpy().reshape(3, 3), np.argsort(-similar, axis=1)[:, :3])
    np.testing.assert_allclose(
        found["similarity"].to_numpy().reshape(3, 3), -np.sort(-similar, axis=1)[:, :3], atol=2e-6
    )
    assert found["path"].tolist() == archive.paths[found["row"]].tolist()
    assert found["labels_from"][::3].tolist() == ["index", "run", "model"]
    names = np.array(samples.label_names)
    assert found["query_labels"][3] == "; ".join(names[test.labels[0] == 1])
    decided = SceneModel.load(run.files.best).model.predict(decode(new)[None], verbose=0)[0] > 0.5
    assert found["query_labels"][6] == "; ".join(names[decided])
    for line, row in enumerate(found["row"]):
        own = (archive.labels[0], test.labels[0], decided)[line // 3]
        assert found["shared"][line] == int(archive.labels[row] @ own)
    with Image.open("neighbours.png") as sheet:
        # Three rows of four pictures.
        assert sheet.width > 4 * 200 and 1.0 < sheet.width / sheet.height < 2.5


def test_search_by_row_needs_no_model(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rsml(["retrieve", "index", str(run.folder), "--out", "index", "--distance", "l2"])
    index = Index.open("index")
    about = json.loads(Path("index/index.json").read_text())
    Path("index/index.json").write_text(json.dumps(about | {"model": about["model"] | {"source": "gone"}}))
    assert rsml(["retrieve", "search", "index", "--row", "5", "0", "-k", "100", "--no-figure"]) == 0
    found = pd.read_csv("neighbours.csv")
    assert len(found) == 2 * 35 and not Path("neighbours.png").exists()
    apart = np.linalg.norm(index.vectors - index.vectors[5], axis=1)
    np.testing.assert_allclose(found["distance"][:35], np.sort(np.delete(apart, 5)), atol=2e-6)
    assert rsml(["retrieve", "search", "index", "--row", "5", "-k", "1", "--keep-self", "--no-figure"]) == 0
    assert pd.read_csv("neighbours.csv")["row"].tolist() == [5]


def test_measure_is_the_protocol_written_out(run, capsys):
    assert rsml(["retrieve", "measure", str(run.folder), "--at", "1", "6", "24", "-k", "5"]) == 0
    shown = capsys.readouterr().out
    measured = json.loads((run.folder / "retrieval.json").read_text())
    samples = run.read_samples()
    archive, test = samples.part("train"), samples.part("test")
    bank, queries = features(run, archive.files), features(run, test.files)
    ranking = np.argsort(-cosine(queries, bank), axis=1, kind="stable")
    expected = retrieval_metrics(test.labels, ranking, archive.labels, at=(1, 6, 24))
    for depth in (1, 6, 24):
        for name, value in measured["at"][str(depth)].items():
            assert value == pytest.approx(expected[f"{name}@{depth}"]), (name, depth)
    assert measured["knn"] == {
        "k": 5,
        "samples_f1": pytest.approx(knn_f1(bank, archive.labels, queries, test.labels, 5)),
    }
    assert measured["queries"] == len(test) == 6 and measured["archive"] == 24
    row = next(line for line in shown.splitlines() if line.startswith("| 6 |"))
    assert float(row.split("|")[2]) == round(100 * expected["map@6"], 2)
    # Measured again with another model of the same run, nothing old is used.
    run.write_model(classifier(samples, seed=1), run.files.best)
    assert rsml(["retrieve", "measure", str(run.folder), "--json"]) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["model"]["fingerprint"] != measured["model"]["fingerprint"]
    assert list(again["at"]) == ["5", "10", "20"]
    run.write_model(classifier(samples), run.files.best)


def test_the_own_image_does_not_answer(run, capsys):
    assert rsml(["retrieve", "measure", str(run.folder), "--queries", "train", "--at", "23", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["queries"] == 24
    assert rsml(["retrieve", "measure", str(run.folder), "--queries", "train", "--at", "24"]) == 2
    assert "--at 24: the archive has 23 images for a query" in capsys.readouterr().err


def test_the_model_is_cut_at_the_embedding_else_the_features(multilabel_csv, scene_folder):
    samples = load_samples(Data(source=str(multilabel_csv), task="multi-label", image_size=32))
    plain = Embedder(SceneModel.of(classifier(samples)))
    headed = Embedder(SceneModel.of(classifier(samples, embedding=True)))
    assert (plain.layer.name, plain.width, headed.layer.name, headed.width) == ("features", 12, "embedding", 8)
    with pytest.raises(UserError, match=r"no layer 'featurs' \(did you mean 'features'\?\)"):
        Embedder(SceneModel.of(classifier(samples)), "run", "featurs")
    with pytest.raises(UserError, match=r"layer 'convolution' has outputs of shape \(None, 1, 1, 12\)"):
        Embedder(SceneModel.of(classifier(samples)), "run", "convolution")
    files = [str(file) for file in samples.files[:5]]
    batches = list(headed.stream_labels(files, [], batch_size=3))
    assert [len(vectors) for _, vectors, _ in batches] == [3, 2]
    pixels = np.stack([decode(file) for file in files])
    vectors = headed.model.predict(pixels, verbose=0)[0]
    np.testing.assert_allclose(np.concatenate([v for _, v, _ in batches]), vectors, rtol=1e-5)
    assert [name for names, _, _ in batches for name in names] == files


def test_the_fingerprint_is_the_models(multilabel_csv, tmp_path):
    samples = load_samples(Data(source=str(multilabel_csv), task="multi-label", image_size=32))
    model = classifier(samples)
    first = Embedder(SceneModel.of(model)).fingerprint
    model.save(tmp_path / "copy.keras")
    keras.utils.clear_session()
    classifier(samples, seed=3)
    assert Embedder(SceneModel.load(tmp_path / "copy.keras")).fingerprint == first
    model.get_layer("logits").bias.assign_add(np.ones(3))  # above the cut
    assert Embedder(SceneModel.of(model)).fingerprint == first
    model.get_layer("convolution").bias.assign_add(np.eye(12)[3] * 1e-6)
    assert Embedder(SceneModel.of(model)).fingerprint != first


def test_user_faults_are_one_line(run, tmp_path, monkeypatch, capsys, scene_folder):
    monkeypatch.chdir(tmp_path)
    image = str(scene_folder / "water" / "water00.png")
    rsml(["retrieve", "index", str(run.folder), image, "--out", "index"])
    other = Run(tmp_path / "other")
    other.folder.mkdir()
    other.write_model(classifier(run.read_samples(), seed=5), other.files.best)
    (tmp_path / "broken.png").write_bytes(b"no image")
    capsys.readouterr()
    for arguments, words in (
        (["search", "nowhere", image], "nowhere: not an index folder"),
        (["search", "index"], "index: nothing asked; give images, or rows of the index with --row"),
        (["search", "index", "--row", "1"], "--row 1: index has the rows 0 to 0"),
        (["search", "index", image], "an archive of one, the query itself"),
        (["search", "index", image, "--model", str(other.files.best)], "index: an index made by another model"),
        (["search", "index", image, "--model", "gone"], "gone: the model of index is not there any more"),
        (["search", "index", "broken.png"], "none of the 1 queries could be read, the first: broken.png: not an image"),
        (["index", str(other.files.best), image, "--out", "index"], "index: an index made by another model"),
        (["index", str(run.files.best), "--out", "x"], "a checkpoint file alone knows no data"),
        (["index", str(run.folder), image, "--split", "test", "--out", "x"], "two different jobs"),
        (["index", str(run.folder), image, "--out", "x", "--approximate", "ivf"], "gains nothing"),
        (["measure", str(run.folder), "--at", "25"], "--at 25: the archive has 24 images"),
        (["measure", str(run.folder), "--at", "0"], "--at: '0': expected a whole number of 1 or more"),
        (["measure", str(run.folder), "-k", "0"], "-k: '0': expected a whole number of 1 or more"),
        (["measure", str(run.folder), "--out", "retrieval"], "expected a file ending in .json"),
    ):
        assert rsml(["retrieve", *arguments]) == 2, arguments
        said = capsys.readouterr().err.strip().splitlines()
        assert said[-1].startswith("error: ") and words in said[-1], (arguments, said)
