import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rsml.config import Data, Experiment
from rsml.data.samples import Samples
from rsml.evaluation.report import summary, summary_intervals
from rsml.report.drawing import _ticks, line_chart
from rsml.report.facts import Facts, keep_made_with
from rsml.report.page import write_page
from rsml.run import Run
from rsml.training.certainty import Certainty
from rsml.utils.errors import UserError

LABELS = ("sea", "sand", "trees")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def make_run(folder: Path, images: Path, task="multi-label", seed=0, count=60, names=LABELS) -> Run:
    """A finished run without a model: the page then goes without class maps."""
    random = np.random.default_rng(0)
    labels = np.eye(3)[random.integers(0, 3, count)] if task == "single-label" else random.random((count, 3)) < 0.4
    splits = np.array(["train", "valid", "test"])[np.arange(count) % 3]
    paths = [f"{number}.png" for number in range(count)]
    samples = Samples(paths, labels, names, task, images, splits=splits)
    experiment = Experiment(name=folder.name, seed=seed, data=Data(source=str(images), task=task))
    run = Run.start(experiment, folder.parent)
    run.write_samples(samples)
    run.files.best.write_bytes(b"")
    run.write_history([{"epoch": e, "loss": 1 / e, "val_loss": 1.2 / e, "learning_rate": 0.1 / e,
                        "val_example_f1": 0.3 + e / 20 - e**2 / 200, "val_accuracy": 0.4}
                       for e in range(1, 9)])  # fmt: skip
    part = samples.part("test")
    raw = np.clip(0.45 * part.labels + 0.6 * np.random.default_rng(seed).random(part.labels.shape), 0.01, 0.99)
    scores = raw / raw.sum(1, keepdims=True) if task == "single-label" else raw
    scores = scores.round(6)
    intervals = summary_intervals(task, part.labels, scores, resamples=50)
    found = summary(task, names, part.labels, scores, 0.5, intervals=intervals)
    found |= Certainty(task).measured(part, scores, 50)
    decided = scores > 0.5
    lines = ["path," + ",".join(f"score {name}" for name in names) + "," + ",".join(names)]
    for path, row, given in zip(part.paths, scores, decided, strict=True):
        lines.append(f"{path}," + ",".join(f"{v:.6f}" for v in row) + "," + ",".join(str(int(v)) for v in given))
    run.files.predictions.write_text("\n".join(lines) + "\n")
    keep_made_with(run, 0)
    run.write_evaluation({"test": found})
    return run


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for number in range(60):
        Image.fromarray(random.integers(0, 255, (24, 24, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def run(images, tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "first", images)


@pytest.fixture(scope="module")
def other(images, run):
    return make_run(run.folder.parent / "other", images, seed=1)


def embedded(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def test_the_page_is_one_file_that_asks_for_nothing(run, other):
    file = write_page([run.folder, other.folder])
    page = file.read_text()
    assert file == run.files.page and len(page) < 6_000_000
    assert not re.search(r'(src|href)="(?!data:|#)', page) and "@import" not in page and "url(" not in page
    for text in ("first", "3 labels", "20 train, 20 valid, 20 test", "no file occurs twice", "the 5th was chosen"):
        assert text in page
    # Tables and pictures are there without the script.
    assert page.count("<tr data-label=") == 3 and page.count("data:image/jpeg") > 5
    assert "Compared" in page and ">other<" in page


def test_counts_behind_a_slider_are_those_of_the_scores(run):
    facts = Facts.read(run.folder)
    for column, row in enumerate(facts.labels()):
        for place in (0, 30, 77, 100):
            given = facts.scores[:, column] > place / 100
            assert row["named"][place] == given.sum()
            assert row["hits"][place] == (given & (facts.samples.labels[:, column] > 0)).sum()
        # The last place is the model's own threshold, where the counts give the table's own figures.
        assert row["hits"][101] / max(row["named"][101], 1) == pytest.approx(row["precision"] or 0)
        assert "only" in row["warning"]


def test_cells_hold_the_images_of_their_mistakes(run, images, tmp_path):
    facts = Facts.read(run.folder)
    found = facts.confusion()
    assert found["names"][-1] == "nothing"
    for cell, rows in found["cells"].items():
        missed, wrong = (int(part) for part in cell.split("-"))
        for row in rows:
            if missed < 3:
                assert facts.truth[row, missed] and not facts.given[row, missed]
            if wrong < 3:
                assert facts.given[row, wrong] and not facts.truth[row, wrong]
    every = {row for rows in found["cells"].values() for row in rows}
    assert every == set(np.flatnonzero((facts.truth != facts.given).any(axis=1)))
    single = Facts.read(make_run(tmp_path / "single", images, "single-label").folder)
    matrix = single.evaluation["confusion_matrix"]
    for cell, rows in single.confusion()["cells"].items():
        true, called = (int(part) for part in cell.split("-"))
        assert len(rows) == matrix[true][called]
    page = write_page([single.run.folder]).read_text()
    assert "Rows are true classes" in page and 'type="range"' not in page


def test_hostile_names_stay_text(images, tmp_path):
    evil = "</script><script>alert(1)</script><b>"
    run = make_run(tmp_path / "run", images, names=("sea", "sand", evil))
    page = write_page([run.folder]).read_text()
    assert "<script>alert" not in page and embedded(page)["labels"][2]["label"] == evil


def test_what_cannot_be_reported_is_named(run, images, tmp_path):
    bare = make_run(tmp_path / "bare", images)
    bare.files.predictions.unlink()
    with pytest.raises(
        UserError, match=r"no scores of its test part are kept in predictions.csv; write them again with"
    ):
        write_page([bare.folder])
    bare.files.metrics.unlink()
    with pytest.raises(UserError, match=r"no metrics.json yet"):
        write_page([bare.folder])
    fewer = make_run(tmp_path / "fewer", images, count=30)
    with pytest.raises(UserError, match=r"their images differ \(20 and 10"):
        write_page([run.folder, fewer.folder])
    single = make_run(tmp_path / "single", images, "single-label")
    with pytest.raises(UserError, match="one is multi-label, the other single-label"):
        write_page([run.folder, single.folder])
    with pytest.raises(UserError, match="not a run folder"):
        write_page([tmp_path])


def test_a_run_of_one_epoch_and_moved_images_has_a_page(images, tmp_path):
    run = make_run(tmp_path / "run", images)
    run.write_history([{"epoch": 1, "loss": float("nan"), "val_loss": 0.5, "val_example_f1": 0.5}])
    shutil.move(run.files.origin, tmp_path / "kept")
    about = json.loads((tmp_path / "kept").read_text())
    run.files.origin.write_text(json.dumps({**about, "root": "/nowhere"}))
    page = write_page([run.folder]).read_text()
    assert (
        "the images lie elsewhere now" in page and "NaN" not in page and "nan" not in page.lower().split("<style>")[0]
    )


def test_charts_stay_within_their_frame():
    chart = line_chart("loss", {"a": [3.0, float("nan"), 1.0], "b": [0.0, 0.0, 0.0]}, [1, 2, 3], mark=3)
    assert [len(line["points"]) for line in chart["lines"]] == [2, 3]
    for line in chart["lines"]:
        for x, y, *_ in line["points"]:
            assert chart["left"] <= x <= chart["right"] and chart["top"] <= y <= chart["floor"]
    assert chart["mark"] == chart["right"]
    assert _ticks(0, 1, 4) == [0.0, 0.5, 1.0] and _ticks(1, 14, 6) == [5.0, 10.0]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("width", [1280, 380])
def test_in_a_browser_sliders_sorting_and_cells_do_what_they_say(run, other, width):
    playwright = pytest.importorskip("playwright.sync_api")
    file = write_page([run.folder, other.folder])
    facts = Facts.read(run.folder)
    with playwright.sync_playwright() as session:
        browser = session.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme="dark")
        seen, said = [], []
        page.on("request", lambda request: seen.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(file.as_uri())

        slider = page.locator("tr[data-label='1'] input[type=range]")
        slider.focus()
        page.keyboard.press("Home")
        for _ in range(42):
            page.keyboard.press("ArrowRight")
        given, true = facts.scores[:, 1] > 0.42, facts.truth[:, 1]
        hits = (given & true).sum()
        shown = [page.locator(f"tr[data-label='1'] .m-{key} b").inner_text() for key in ("precision", "recall", "f1")]
        expected = (hits / given.sum(), hits / true.sum(), 2 * hits / (given.sum() + true.sum()))
        assert shown == [f"{100 * value:.1f}" for value in expected]
        page.locator("tr[data-label='1'] .reset").click()
        assert page.locator("tr[data-label='1'] output").inner_text() == "0.500"

        header = page.locator("#per-label thead button", has_text="F1")
        header.click()
        values = [float(text) for text in page.locator("#per-label .m-f1 b").all_inner_texts()]
        assert values == sorted(values, reverse=True)
        header.press("Enter")
        values = [float(text) for text in page.locator("#per-label .m-f1 b").all_inner_texts()]
        assert values == sorted(values)
        assert page.locator("#per-label th[aria-sort]").get_attribute("aria-sort") == "ascending"

        button = page.locator("[data-cell]").first
        rows = facts.confusion()["cells"][button.get_attribute("data-cell")]
        button.click()
        assert page.locator("#cell > div").count() == len(rows) and page.locator("#cell img").count() == len(rows)

        # Nothing is wider than the window, nothing was asked for, nothing went wrong.
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert [url for url in seen if not url.startswith("data:")] == [file.as_uri()] and said == []
        assert _contrast(page) >= 4.5
        browser.close()


def _contrast(page) -> float:
    """The least contrast between a text and its card, as WCAG counts it."""
    return page.evaluate(
        """() => {
          const linear = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
          const light = text => text.match(/[\\d.]+/g).slice(0, 3).map(v => linear(v / 255)).reduce(
            (sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
          const card = light(getComputedStyle(document.querySelector('.card')).backgroundColor);
          const texts = '.card p, .card b, .card .ends, .card dt, .card th, .note, .warn, .key';
          return Math.min(...[...document.querySelectorAll(texts)].map(element => {
            const own = light(getComputedStyle(element).color);
            return (Math.max(own, card) + 0.05) / (Math.min(own, card) + 0.05); }));
        }"""
    )
