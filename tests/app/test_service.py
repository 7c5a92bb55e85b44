"""The routes give the numbers of the commands, whatever lies beside an image in its request."""

import base64
import json

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from rsml.app.engine import Engine
from rsml.cli.main import main
from rsml.explain.class_maps import ClassMaps
from rsml.prediction.scene_model import SceneModel
from rsml.retrieval import build_index
from rsml.retrieval.embedding import Embedder
from tests.app.conftest import LABELS, encoded, open_client, upload, write_model

GREY = encoded(np.full((32, 32, 3), 90, np.uint8))
BAD = {
    "empty": b"",
    "html": b"<!DOCTYPE html>",
    "cut": encoded(np.zeros((32, 32, 3), np.uint8))[:40],
    "bomb": encoded(np.zeros((101, 100, 3), np.uint8)),
    "noise": bytes(range(256)),
    "tiff": b"II*\0\xff\xff\xff\xff",
}


def as_json(pictures, how):
    contents = [path.read_bytes() for path in pictures]
    named = {"base64": [base64.b64encode(content).decode() for content in contents]}
    named["path"] = [path.name for path in pictures]
    named["absolute"] = [str(path) for path in pictures]
    return {"images": [{"path" if how == "absolute" else how: value} for value in named[how]]}


@pytest.mark.parametrize("how", ["form", "base64", "path", "absolute"])
def test_scores_and_labels_are_those_of_predict(how, client, model_file, pictures, tmp_path, capsys):
    assert main(["predict", str(model_file), *map(str, pictures), "--json", "--out", str(tmp_path / "p.csv")]) == 0
    expected = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    if how == "form":
        reply = upload(client, "/v1/predict", *[path.read_bytes() for path in pictures])
    else:
        reply = client.post("/v1/predict", json=as_json(pictures, how))
    assert reply.status_code == 200
    for found, wanted in zip(reply.json()["images"], expected, strict=True):
        assert found["labels"] == wanted["labels"]
        assert found["scores"] == pytest.approx(wanted["scores"], abs=1e-6)
    # Images taken for each other would show.
    assert min(np.diff(sorted(one["scores"]["forest"] for one in expected))) > 1e-4


@pytest.mark.parametrize(("views", "data"), [(8, {}), (1, {"antialias": False})])
def test_views_and_plain_resizing_are_those_of_the_model(views, data, pictures, tmp_path):
    file = write_model(tmp_path / "m.keras", 1, **data)
    model = SceneModel.load(file)
    expected = SceneModel(model.model, model.labels, model.task, model.thresholds, model.reading, views)
    with Engine(file, views=views, batch_size=2, watch=None) as engine:
        assert engine.served.scene_model.reading["antialias"] is data.get("antialias", True)
        found = [future.result(60) for future in engine.ask("scores", [(p.name, p.read_bytes) for p in pictures])]
    np.testing.assert_allclose(found, expected.scores([str(path) for path in pictures]), atol=1e-6)


def test_embeddings_maps_and_neighbours_are_those_of_the_library(engine, model_file, pictures, tmp_path):
    model, files = SceneModel.load(model_file), [str(path) for path in pictures]
    embedder = Embedder(model)
    index, _ = build_index(tmp_path / "index", embedder, files)
    client, contents = open_client(engine, index=tmp_path / "index"), [path.read_bytes() for path in pictures]

    vectors = np.concatenate([batch for _, batch in embedder.stream(files, [])])
    found = [one["embedding"] for one in upload(client, "/v1/embed", *contents).json()["images"]]
    np.testing.assert_allclose(found, vectors, atol=1e-5)

    rows, values = index.search(vectors, 2)
    for number, one in enumerate(upload(client, "/v1/similar?k=2", *contents).json()["images"]):
        assert [near["path"] for near in one["similar"]] == [pictures[row].name for row in rows[number]]
        assert [near["value"] for near in one["similar"]] == pytest.approx(values[number], abs=1e-5)

    images = np.stack([engine.served.read(content, "x", 10_000) for content in contents])
    maps = ClassMaps(model.model)(images)
    explained = upload(client, "/v1/explain?label=sand&label=water&label=forest", *contents).json()["images"]
    for number, one in enumerate(explained):
        for label in one["maps"]:
            np.testing.assert_allclose(label["map"], maps[number, LABELS.index(label["label"])], atol=1e-3)
    scores = model.scores(files)
    for number, one in enumerate(upload(client, "/v1/explain", *contents).json()["images"]):
        named = {name for name, there in zip(LABELS, model.decide(scores[number]), strict=True) if there}
        assert {label["label"] for label in one["maps"]} == (named or {LABELS[scores[number].argmax()]})


@pytest.mark.parametrize("route", ["predict", "embed", "explain"])
def test_a_bad_image_fails_alone(route, client):
    alone = upload(client, f"/v1/{route}", GREY).json()["images"][0]
    for name, content in BAD.items():
        reply = upload(client, f"/v1/{route}", GREY, content, GREY)
        first, bad, last = reply.json()["images"]
        assert reply.status_code == 200 and set(bad) == {"name", "error"} and bad["error"], name
        assert "Traceback" not in bad["error"] and "\n" not in bad["error"]
        for one in (first, last):
            assert {**one, "name": ""}.keys() == alone.keys() and "error" not in one
            if route == "predict":
                assert one["scores"] == pytest.approx(alone["scores"], abs=1e-6)
    none = upload(client, f"/v1/{route}", *BAD.values())
    assert none.status_code == 422 and all("error" in one for one in none.json()["images"])


def test_what_is_wrong_with_a_request_is_said_in_a_line(client):
    good = base64.b64encode(GREY).decode()
    for status, options in (
        (415, {"content": b"x"}),
        (422, {"json": {"images": []}}),
        (422, {"json": {"images": [{}]}}),
        (422, {"json": {"images": [{"base64": good, "path": "a"}]}}),
        (422, {"json": {"images": [{"base64": good}], "trust": True}}),
        (422, {"json": {"images": [{"base64": "%%"}]}}),
        (422, {"content": b"{", "headers": {"content-type": "application/json"}}),
        (422, {"content": b"\xff", "headers": {"content-type": "application/json"}}),
        (400, {"content": b"--x", "headers": {"content-type": "multipart/form-data"}}),
        (422, {"data": {"images": "text"}, "files": {"images": ("a", GREY)}}),
        (413, {"json": {"images": [{"base64": good}] * 9}}),
        (400, {"files": [("images", ("a", GREY))] * 9}),
        (413, {"content": b"x" * 400_001}),
        (413, {"content": (b"x" * 1000 for _ in range(401)), "headers": {"content-type": "application/json"}}),
    ):
        reply = client.post("/v1/predict", **options)
        assert reply.status_code == status, (status, options, reply.text[:300])
        assert reply.json()["error"] and "\n" not in reply.json()["error"]
    for path, status in (("/v1/similar?k=0", 422), ("/v1/similar", 409), ("/v1/explain?label=watr", 409)):
        assert upload(client, path, GREY).status_code == status
    assert "water" in upload(client, "/v1/explain?label=watr", GREY).json()["error"]
    assert "rsml retrieve index" in upload(client, "/v1/similar", GREY).json()["error"]


def test_the_model_describes_itself(client, engine, model_file):
    about = client.get("/v1/model").json()
    assert about["labels"] == list(LABELS) and about["task"] == "multi-label" and about["views"] == 2
    assert about["thresholds"] == {"water": 0.4, "forest": 0.5, "sand": 0.6}
    assert about["calibration"]["scale"] == [1.5, 0.7, 1.0]
    assert (
        about["fingerprint"]
        == engine.served.fingerprint
        == upload(client, "/v1/predict", GREY).json()["model"]["fingerprint"]
    )


def test_metrics_count_what_happened(engine):
    client = open_client(engine)
    upload(client, "/v1/predict", GREY, b"", GREY)
    upload(client, "/v1/predict", b"")
    for path in ("/nowhere/1", "/nowhere/2", "/healthz"):
        client.get(path)
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }
    assert found["rsml_images_total", "answered"] == 2 and found["rsml_images_total", "bad"] == 2
    assert found["rsml_requests_total", "/v1/predict", "200"] == 1
    assert found["rsml_requests_total", "/v1/predict", "422"] == 1
    assert found["rsml_requests_total", "other", "404"] == 2
    assert found["rsml_batch_images_sum", "scores"] == 2
    assert found["rsml_images_in_work",] == 0 and found["rsml_queue_places",] == 256
    assert found["process_resident_memory_bytes",] > 1e7


def test_the_openapi_document_names_all_and_nothing_outside(client):
    document = client.get("/openapi.json").json()
    assert {"/v1/predict", "/v1/embed", "/v1/similar", "/v1/explain", "/v1/model", "/healthz", "/metrics"} <= set(
        document["paths"]
    )
    body = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    assert set(body) == {"multipart/form-data", "application/json"}
    text = json.dumps(document)
    for reference in {part.split('"')[0] for part in text.split('"$ref": "#/components/schemas/')[1:]}:
        assert reference in document["components"]["schemas"]
    assert "http" not in text.replace("HTTPValidationError", "")
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
