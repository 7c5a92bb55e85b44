"""The page in a real browser: every flow end to end, a killed server, and nothing asked of any other machine."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rsml.config import Data, Evaluation, Experiment, Training
from rsml.data.corrections import read_decisions
from rsml.data.readers import read_samples
from rsml.run import Run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
playwright = pytest.importorskip("playwright.sync_api", reason="the page is looked at with Playwright")
pytest.importorskip("fastapi")
rasterio = pytest.importorskip("rasterio")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]
SECONDS = 180_000
LABELS = ["water", "trees", "grass"]


class Server:
    """`rsml app` as a process that can be killed and started again."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.start()

    def start(self):
        command = [sys.executable, "-m", "rsml", "app", "checkpoint/first", "--port", "0", "--no-browser"]
        environment = {**os.environ, "PYTHONPATH": os.getcwd(), "CUDA_VISIBLE_DEVICES": ""}
        self.process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, text=True)
        self.address = re.search(r"http://\S+", self.process.stdout.readline())[0]

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait()


@pytest.fixture(scope="module")
def folder(multilabel_csv, tmp_path_factory):
    """A finished run of a tiny network, and a second one that knows the same labels."""
    from rsml.training import train

    place = tmp_path_factory.mktemp("work")
    for seed, name in enumerate(("first", "second")):
        experiment = Experiment(
            name=name,
            seed=seed,
            data=Data(source=str(multilabel_csv), image_size=32),
            training=Training(epochs=2 - seed, batch_size=8),
            evaluation=Evaluation(resamples=20, figures=False, page=not seed),
        )
        train(experiment, root=place / "checkpoint")
    pixels = np.random.default_rng(0).integers(60, 200, (160, 224, 3), np.uint8)
    where = rasterio.transform.from_origin(400_000, 4_000_000, 0.3, 0.3)
    about = {"driver": "GTiff", "height": 160, "width": 224, "count": 3, "dtype": "uint8"}
    with rasterio.open(place / "placed.tif", "w", **about, crs="EPSG:32612", transform=where) as target:
        target.write(np.moveaxis(pixels, -1, 0))
    Image.fromarray(pixels).save(place / "plain.png")
    (place / "broken.png").write_bytes(b"no image")
    return place


@pytest.fixture(scope="module")
def server(folder):
    served = Server(folder)
    yield served
    assert served.stop() == 0


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, server):
    """A tab; whatever it asks of another machine, or complains of, fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.set_default_timeout(SECONDS)
    asked, complaints = [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    tab.complaints = complaints
    yield tab
    context.close()
    assert asked
    assert [url for url in asked if not re.match(r"http://127\.0\.0\.1[:/]|blob:|data:", url)] == []
    assert complaints == []


def test_label_shows_the_numbers_of_predict_class_maps_and_similar_scenes(page, server, folder):
    run = Run.open(folder / "checkpoint" / "first")
    image = str(run.samples.part("test").files[0])
    page.goto(server.address)
    page.set_input_files("input[aria-label='Choose images']", [image, str(folder / "broken.png")])
    page.wait_for_selector(".card.image")
    assert "not an image" in page.inner_text(".card.bad")
    table = run.predict([image])
    shown = {}
    for button in page.query_selector_all(".card.image .score"):
        shown[button.query_selector(".name").inner_text()] = button.query_selector(".number").inner_text()
    assert shown == {name: f"{100 * table[f'score {name}'][0]:.1f}" for name in LABELS}

    page.focus(".card.image .score")  # the keyboard shows class maps as the pointer does
    top = max(LABELS, key=lambda name: table[f"score {name}"][0])
    page.wait_for_selector(f".card.image .picture[data-map={top}]:not(.loading)")
    assert "/map/" in page.get_attribute(".card.image .picture", "src")

    page.click("text=Most similar training scenes")
    page.click("text=/Index the .* training images/")
    page.wait_for_selector(".thumbs img")
    assert page.locator(".thumbs li").count() == 12
    values = [float(text) for text in page.locator(".thumbs b").all_inner_texts()]
    assert values == sorted(values, reverse=True)


def test_runs_are_filtered_compared_and_reported(page, server, browser):
    page.goto(f"{server.address}#runs")
    page.wait_for_selector("tr[data-run=second]")
    page.fill("input[type=search]", "sec")
    page.wait_for_selector("tr[data-run=first]", state="detached")
    page.fill("input[type=search]", "")
    page.check("input[aria-label='Compare first']")
    page.check("input[aria-label='Compare second']")
    page.click("text=Compare 2")
    page.wait_for_selector("text=Comparison")
    assert re.search(r"second\s.*[+-]?\d+\.\d \(-?\d+\.\d to -?\d+\.\d\)", page.inner_text("main"))
    page.click("tr[data-run=first] a")
    page.wait_for_selector(".chart svg path.line")
    with page.context.expect_page() as opened:
        page.click("text=Open the report")
    opened.value.wait_for_selector("h1")
    assert "first" in opened.value.inner_text("h1")


def test_a_killed_server_loses_no_decision_and_no_map(page, server, folder):
    """Both are under way when it is killed; the same page goes on with the next server, at another address."""
    page.goto(f"{server.address}#map")
    page.fill("input[aria-label='Window in pixels']", "32")
    page.fill("input[aria-label='Step in pixels']", "2")
    page.set_input_files("input[aria-label='Choose a raster']", str(folder / "placed.tif"))
    page.wait_for_selector("main .job.running")
    page.goto(f"{server.address}#correct")
    page.click("text=Score the images")
    page.wait_for_selector(".correct")
    row = page.get_attribute(".correct", "data-row")
    label = page.locator(".mark").nth(0)
    was = label.get_attribute("aria-pressed")
    page.keyboard.press("1")
    assert label.get_attribute("aria-pressed") != was
    page.fill("input[aria-label='Note about this image']", "checked")
    page.press("input[aria-label='Note about this image']", "Enter")
    page.wait_for_selector(f".correct:not([data-row='{row}'])")
    second = page.get_attribute(".correct", "data-row")
    server.kill()
    page.keyboard.press("Enter")  # nobody answers: it is said, and the image stays
    page.wait_for_selector(".toast.bad")
    assert page.get_attribute(".correct", "data-row") == second
    assert any("ERR_CONNECTION_REFUSED" in text for text in page.complaints)
    journal = read_decisions(folder / "checkpoint/first/app/journal.jsonl")
    assert [one.note for one in journal.current().values()] == ["checked"]

    server.start()
    page.goto(f"{server.address}#correct")
    page.wait_for_selector(f".correct[data-row='{second}']")  # the first is decided, the second is not
    page.goto(f"{server.address}#map")
    page.wait_for_selector("[data-map] h3")
    assert page.inner_text("[data-map] h3") == "placed.tif"
    page.complaints.clear()


def test_correct_undo_skip_export_and_two_tabs(page, server, folder):
    page.goto(f"{server.address}#correct")
    page.click("[data-queue=random]")
    page.wait_for_selector("text=Drawn by chance")
    row = page.get_attribute(".correct", "data-row")
    other = page.context.new_page()
    other.goto(f"{server.address}#correct")
    other.click("[data-queue=random]")
    other.wait_for_selector("text=Drawn by chance")
    assert other.get_attribute(".correct", "data-row") != row  # two people are not shown the same image

    page.keyboard.press("ArrowRight")
    page.wait_for_selector(f".correct:not([data-row='{row}'])")
    page.keyboard.press("Backspace")
    page.wait_for_selector(f".correct[data-row='{row}']")
    # Meanwhile somebody else decides about the very same image.
    samples = Run(folder / "checkpoint/first").samples
    path = str(samples.paths[int(row)])
    seen = read_decisions(folder / "checkpoint/first/app/journal.jsonl").versions[path]
    body = {"row": int(row), "labels": ["water"], "seen": seen, "by": "Ada"}
    answer = other.request.post(f"{server.address}page/corrections", data=body)
    assert answer.ok
    page.locator(".mark").nth(1).click()
    page.keyboard.press("Enter")
    page.wait_for_selector("text=/was decided at .* by Ada/")
    assert read_decisions(folder / "checkpoint/first/app/journal.jsonl").current()[path].labels == ("water",)
    assert page.locator(".mark[aria-pressed=true]").all_inner_texts()[0].split()[1] == "water"
    assert all("409" in text for text in page.complaints)
    page.complaints.clear()

    table = folder / "corrected.csv"
    table.write_bytes(page.request.get(f"{server.address}page/corrections.csv").body())
    with open(table, newline="") as file:
        rows = {line["path"]: line for line in csv.DictReader(file)}
    corrected = rows[os.path.abspath(samples.files[int(row)])]
    assert [corrected[name] for name in LABELS] == ["1", "0", "0"]
    again = read_samples(table)  # as any CSV of labels
    assert (len(again), again.label_names, again.splits.tolist()) == (36, samples.label_names, samples.splits.tolist())


def test_a_training_with_the_corrections_is_watched_and_stopped(page, server, folder):
    journal = folder / "checkpoint/first/app/journal.jsonl"
    if not journal.exists():
        assert page.request.post(f"{server.address}page/corrections", data={"row": 0, "labels": ["water"]}).ok
    page.goto(f"{server.address}#correct")
    page.wait_for_selector("text=Train again with them")
    page.fill("input[aria-label='Name of the new run']", "mended")
    page.click("text=Train again with them")
    page.wait_for_selector("h1:has-text('mended')")
    page.wait_for_selector("text=/finished · epoch 2 of 2/")
    page.wait_for_selector(".chart svg path.line")
    mended = Run(folder / "checkpoint/mended")
    before = Run(folder / "checkpoint/first").samples
    decided_now = read_decisions(journal).current()
    for row, path in enumerate(before.paths.tolist()):
        names = {LABELS[column] for column in np.flatnonzero(mended.samples.labels[row])}
        own = {LABELS[column] for column in np.flatnonzero(before.labels[row])}
        decided = decided_now[path].labels if path in decided_now else None
        assert names == (own if decided is None else set(decided))

    # A long one, begun in a terminal, is seen while it learns and stopped from the page.
    command = [sys.executable, "-m", "rsml", "train", "--config", str(folder / "checkpoint/first/config.json")]
    command += ["--name", "long", "--set", "training.epochs=5000"]
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "CUDA_VISIBLE_DEVICES": ""}
    training = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    while not (folder / "checkpoint/long/history.csv").exists():
        assert training.poll() is None
        time.sleep(0.1)
    page.goto(f"{server.address}#runs/long")
    page.wait_for_selector(".chart svg path.line")

    def epoch():
        return int(re.search(r"epoch (\d+) of 5000", page.inner_text("main"))[1])

    seen = epoch()
    while epoch() < seen + 2:  # the curves grow
        page.wait_for_timeout(200)
    page.click("text=Stop cleanly")
    page.wait_for_selector("text=not finished")
    assert training.wait() == 130
    assert len(Run(folder / "checkpoint/long").history) > seen


@pytest.mark.parametrize("raster", ["placed.tif", "plain.png"])
def test_a_map_with_and_without_coordinates_is_looked_at(page, server, folder, raster):
    page.goto(f"{server.address}#map")
    if raster == "plain.png":
        page.set_input_files("input[aria-label='Choose a raster']", str(folder / raster))
    page.click(f"[data-map]:has-text('{raster}')")
    page.wait_for_selector("[data-layer=water]")
    for name in LABELS:
        page.set_checked(f"[data-layer={name}] input[type=checkbox]", True)
    page.focus("canvas")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".tip b")
    place = re.search(r"Row (\d+), column (\d+)", page.inner_text(".tip b"))
    row, column = int(place[1]), int(place[2])
    page.keyboard.press("Enter")
    page.wait_for_selector(".viewer .score")
    number = page.evaluate("() => location.hash").split("/")[1]
    kept = folder / "checkpoint/first/app/maps" / number
    with rasterio.open(kept / "probabilities.tif") as dataset:
        scores = dataset.read()[:, row, column]
    shown = {one.query_selector(".name").inner_text(): one.query_selector(".number").inner_text()
             for one in page.query_selector_all(".viewer .score")}  # fmt: skip
    assert shown == {name: f"{100 * score:.1f}" for name, score in zip(LABELS, scores, strict=True)}
    assert ("EPSG:32612" if raster == "placed.tif" else "no coordinates") in page.inner_text("main")

    # Above every score nothing of a layer is left; below every score it covers the imagery.
    page.hover("canvas")
    page.mouse.move(5, 5)
    for name in LABELS:
        page.set_checked(f"[data-layer={name}] input[type=checkbox]", False)
    imagery = _middle(page)
    page.set_checked("[data-layer=water] input[type=checkbox]", True)
    page.fill("input[aria-label='Opacity of water']", "1")
    page.fill("input[aria-label='Threshold of water']", "1")
    np.testing.assert_array_equal(_middle(page), imagery)
    page.fill("input[aria-label='Threshold of water']", "0")
    covered = _middle(page)
    assert np.abs(covered - imagery).mean() > 20
    assert (covered[..., 2] > covered[..., 0]).mean() > 0.9  # water is blue on any map

    for name in ("tiles.gpkg", "probabilities.tif", "tiles.qml", "probabilities.qml"):
        answer = page.request.get(f"{server.address}page/maps/{number}/files/{name}")
        assert answer.ok
        if not name.endswith("qml"):
            assert answer.body() == (kept / name).read_bytes()


def _middle(page):
    """Pixels of the middle of the map as the screen shows them."""
    page.wait_for_timeout(700)
    picture = Image.open(io.BytesIO(page.locator("canvas").screenshot())).convert("RGB")
    width, height = picture.size
    return np.asarray(picture.crop((width // 3, height // 3, 2 * width // 3, 2 * height // 3)), int)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 380])
def test_every_view_fits_its_screen_and_names_its_controls(browser, server, folder, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    for view, there in (("label", ".drop"), ("map", "[data-map]"), ("correct", ".correct"), ("runs", "tr[data-run]"),
                        ("runs/first", ".chart")):  # fmt: skip
        page.goto(f"{server.address}#{view}")
        page.wait_for_selector(there)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        nameless = page.evaluate(
            "() => [...document.querySelectorAll('button, a, input, select, img, canvas, progress')].filter((one) => "
            "!(one.getAttribute('aria-label') ?? one.alt ?? one.innerText?.trim()) && one.getAttribute('alt') === null "
            "&& !one.closest('label')?.innerText).map((one) => one.outerHTML)"
        )
        assert nameless == []
    paper = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) > 380) == (scheme == "light")
    context.close()


@pytest.mark.parametrize(
    "path",
    [
        "page/images/..%2f..%2fconfig.json/picture",
        "page/images/u-0000000000000000.png/picture",
        "page/images/row-9999/picture",
        "page/runs/..%2f..%2fx/report",
        "page/runs/%2e%2e/history",
        "page/maps/..%2fjobs",
        "page/jobs/..%2fx/cancel",
        "static/..%2fpage.py",
        "static/../page.py",
    ],
)
def test_no_name_leads_out_of_its_folder(page, server, path):
    page.goto(server.address)
    answer = page.request.fetch(server.address + path, method="POST" if "cancel" in path else "GET")
    assert 400 <= answer.status < 500
    assert not re.search(r"Traceback|import annotations", answer.text())


def test_a_page_of_another_site_can_do_nothing(page, server, folder):
    page.goto(server.address)
    body = json.dumps({"row": 0, "labels": ["water"]})
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
        headers |= {"content-type": "application/json"}
        assert page.request.post(f"{server.address}page/corrections", data=body, headers=headers).status == 403
    assert page.request.get(server.address, headers={"host": "evil.example"}).status == 421
