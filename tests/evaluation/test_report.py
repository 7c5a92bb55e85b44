"""The summary's content, and tables that say what the summary says."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from rsml.evaluation import bootstrap_interval, multilabel_metrics, singlelabel_metrics
from rsml.evaluation.report import (
    confusion_table,
    full_report,
    headline_table,
    per_label_table,
    render,
    summary,
    summary_intervals,
)
from rsml.utils.errors import UserError

GOLDEN = np.load(Path(__file__).parents[1] / "data" / "metrics_0.npz")
LABELS, SCORES = GOLDEN["labels"], GOLDEN["scores"]
NAMES = [f"label {number}" for number in range(17)]


@pytest.fixture(scope="module")
def multilabel():
    thresholds = np.linspace(0.3, 0.7, 17)
    return summary("multi-label", NAMES, LABELS, SCORES, thresholds, edge_counts=range(17), resamples=60)


@pytest.fixture(scope="module")
def singlelabel():
    generator = np.random.default_rng(0)
    truth = generator.integers(6, size=90)
    truth[truth == 5] = 4  # Class 5 never occurs.
    scores = generator.random((90, 6)) + 0.6 * np.eye(6)[truth]
    return truth, scores, summary("single-label", list("abcdef"), truth, scores)


def test_summary_is_json_and_holds_the_metrics(multilabel):
    text = json.dumps(multilabel, allow_nan=False)
    assert json.loads(text) == multilabel
    expected = multilabel_metrics(LABELS, SCORES, np.linspace(0.3, 0.7, 17))
    assert multilabel["task"] == "multi-label"
    assert multilabel["images"] == 50
    for name, value in expected.items():
        if np.ndim(value) == 0:
            assert multilabel["metrics"][name] == value
        else:
            found = [entry[name.removeprefix("per_label_")] for entry in multilabel["per_label"]]
            np.testing.assert_array_equal(np.array(found, dtype=float), value)
    assert [entry["label"] for entry in multilabel["per_label"]] == NAMES
    assert [entry["edges"] for entry in multilabel["per_label"]] == list(range(17))
    assert multilabel["per_label"][16]["threshold"] == 0.7
    # The last label never occurs: its average precision is undefined.
    assert multilabel["per_label"][16]["ap"] is None
    assert multilabel["per_label"][16]["support"] == 0


def test_summary_holds_the_bootstrap(multilabel):
    interval = bootstrap_interval(LABELS, SCORES, "example_f1", threshold=np.linspace(0.3, 0.7, 17), resamples=60)
    assert multilabel["intervals"]["metrics"]["example_f1"] == [interval.low, interval.high]
    assert (multilabel["intervals"]["level"], multilabel["intervals"]["resamples"]) == (0.95, 60)
    assert multilabel["per_label"][16]["ap_interval"] == [None, None]
    low, high = multilabel["per_label"][0]["f1_interval"]
    assert low < multilabel["per_label"][0]["f1"] < high


def test_single_label_summary(singlelabel):
    truth, scores, result = singlelabel
    expected = singlelabel_metrics(truth, scores)
    assert result["metrics"]["accuracy"] == expected["accuracy"]
    assert result["confusion_matrix"] == expected["confusion_matrix"].tolist()
    assert "intervals" not in result
    assert "threshold" not in result["per_label"][0]
    json.dumps(result, allow_nan=False)
    one_hot = np.eye(6)[truth]
    assert summary("single-label", list("abcdef"), one_hot, scores, None) == result


def test_headline_text_says_the_golden_numbers():
    table = headline_table(summary("multi-label", NAMES, LABELS, SCORES))
    lines = {title: cells.split() for title, _, cells in (line.partition("  ") for line in table.splitlines())}
    assert lines["images, F of means"] == ["63.59", "69.48", "55.71", "74.06"]
    assert lines["labels, F of means"] == ["60.61", "65.72", "53.66", "69.63"]
    assert lines["all at once (micro)"] == ["63.99", "69.85", "56.13", "74.39"]
    assert lines["each image (samples)"][:2] == ["61.57", "67.53"]
    assert lines["mAP (%)"] == ["71.84"]
    assert lines["Hamming loss (%)"] == ["24.24"]
    assert lines["coverage (labels)"] == ["9.30"]
    assert table.startswith("50 images, 17 labels, threshold 0.5\n")


def test_headline_intervals_and_markdown(multilabel):
    table = headline_table(multilabel, "markdown")
    assert "a threshold for each label; [95 % interval of 60 resamples]" in table
    value = multilabel["metrics"]["map_over_seen_labels"]
    low, high = multilabel["intervals"]["metrics"]["map_over_seen_labels"]
    row = next(line for line in table.splitlines() if line.startswith("| mAP"))
    assert row.split("|")[2].strip() == f"{100 * value:.2f} [{100 * low:.1f}, {100 * high:.1f}]"
    widths = {line.count("|") for line in table.splitlines() if line.startswith("| mean") or line.startswith("| %")}
    assert widths == {6}


def test_text_columns_line_up(multilabel, singlelabel):
    for table in (per_label_table(multilabel), per_label_table(singlelabel[2]), confusion_table(singlelabel[2])):
        header, rule, *rows = table.split("\n\n")[0].splitlines()
        assert set(rule) == {"-", " "}
        ends = [place for place in range(len(rule)) if rule[place : place + 2] in ("- ", "-")]
        for row in [header, *rows]:
            assert all(row.ljust(len(rule))[end + 1 : end + 3].strip() == "" for end in ends)
            assert len(row) <= len(rule)


def test_per_label_text(multilabel):
    lines = per_label_table(multilabel).splitlines()
    assert lines[0].split()[:6] == ["label", "images", "AP", "precision", "recall", "F1"]
    assert lines[0].endswith("edges  threshold")
    first, last = lines[2], lines[18]
    entry = multilabel["per_label"][0]
    assert f"{100 * entry['f1']:.2f}" in first.split()
    assert first.endswith("0.300")
    assert last.split()[2:4] == ["0", "-"]
    plain = per_label_table(summary("multi-label", NAMES, LABELS, SCORES)).splitlines()[0]
    assert "edges" not in plain
    assert "interval" not in plain


def test_csv_reads_back_exactly(multilabel):
    rows = list(csv.DictReader(io.StringIO(headline_table(multilabel, "csv"))))
    assert {row["metric"]: float(row["value"]) for row in rows} == multilabel["metrics"]
    assert float(rows[0]["low"]) == multilabel["intervals"]["metrics"][rows[0]["metric"]][0]
    rows = list(csv.DictReader(io.StringIO(per_label_table(multilabel, "csv"))))
    assert [float(row["f1"]) for row in rows] == [entry["f1"] for entry in multilabel["per_label"]]
    assert rows[16]["ap"] == ""
    assert rows[3]["edges"] == "3"


def test_tables_from_json_are_the_same(multilabel, singlelabel):
    for result in (multilabel, singlelabel[2]):
        again = json.loads(json.dumps(result))
        for style in ("text", "markdown", "csv"):
            assert headline_table(again, style) == headline_table(result, style)
            assert per_label_table(again, style) == per_label_table(result, style)


def test_single_label_headline_and_confusions(singlelabel):
    truth, scores, result = singlelabel
    table = headline_table(result)
    accuracy = (scores.argmax(1) == truth).mean()
    row = next(line for line in table.splitlines() if line.startswith("accuracy"))
    assert row.split()[-1] == f"{100 * accuracy:.2f}"
    assert "6 classes" in table
    counts = np.array(result["confusion_matrix"])
    support = counts.sum(1)
    np.fill_diagonal(counts, 0)
    first = confusion_table(result, most=3).splitlines()[2].split()
    worst = np.unravel_index(counts.argmax(), counts.shape)
    share = 100 * counts.max() / support[worst[0]]
    assert first == ["abcdef"[worst[0]], "abcdef"[worst[1]], str(counts.max()), f"{share:.2f}"]
    assert len(confusion_table(result, most=3).splitlines()) == 5


def test_markdown_escapes_and_csv_quotes():
    assert "a\\|b" in render(["x", "y"], [["a|b", "1"]], "markdown")
    assert '"a,b",1' in render(["x", "y"], [["a,b", "1"]], "csv")


def test_bad_input_is_one_line():
    with pytest.raises(UserError, match="16 label names do not fit 17"):
        summary("multi-label", NAMES[:-1], LABELS, SCORES)
    with pytest.raises(UserError, match="edge counts"):
        summary("multi-label", NAMES, LABELS, SCORES, edge_counts=[1, 2])
    with pytest.raises(UserError, match="unknown task 'multilabel'"):
        summary("multilabel", NAMES, LABELS, SCORES)
    with pytest.raises(UserError, match="unknown table style 'html'"):
        headline_table(summary("multi-label", NAMES, LABELS, SCORES), "html")


def test_every_label_has_its_intervals_and_the_full_report_names_the_confusions(singlelabel):
    truth, scores, _ = singlelabel
    evaluation = summary("single-label", list("abcdef"), truth, scores, resamples=80)
    recall = bootstrap_interval(truth, scores, "per_label_recall", resamples=80)
    text = full_report(evaluation)
    row = next(line for line in text.splitlines() if line.startswith("b "))
    value, low, high = (100 * float(ends[1]) for ends in (recall.value, recall.low, recall.high))
    assert f"{value:.2f} [{low:.1f}, {high:.1f}]" in row
    assert row.count("[") == 4
    worst = confusion_table(evaluation).splitlines()[2]
    assert worst in text and "[95 % interval of 80 resamples]" in text


def test_labels_too_rare_to_judge_are_marked_in_every_table():
    labels = np.zeros((30, 3), int)
    labels[:10, 0] = labels[:9, 1] = labels[:, 2] = 1
    scores = np.random.default_rng(0).random((30, 3))
    evaluation = summary("multi-label", ["ten", "nine", "all"], labels, scores, valid_counts=[1, 1, 0])
    rows = {line.split()[0] for line in per_label_table(evaluation).splitlines()[2:5]}
    assert rows == {"ten", "nine*", "all!"}
    assert "\n*: fewer than 10 images" in per_label_table(evaluation)
    assert "\n!: no image in the validation part" in per_label_table(evaluation)
    assert "\nnine: fewer than 10 images" in headline_table(evaluation, "markdown")
    assert "\nall: no image in the validation part" in headline_table(evaluation)
    common = summary("multi-label", ["ten", "all"], labels[:, ::2], scores[:, ::2], valid_counts=[3, 3])
    assert "fewer" not in full_report(common) and "*" not in full_report(common)
    with pytest.raises(UserError, match="2 valid counts do not fit 3"):
        summary("multi-label", ["ten", "nine", "all"], labels, scores, valid_counts=[1, 1])


def test_the_intervals_made_beforehand_are_those_made_here():
    made = summary_intervals("multi-label", LABELS, SCORES, resamples=40)
    given = summary("multi-label", NAMES, LABELS, SCORES, intervals=made)
    assert given == summary("multi-label", NAMES, LABELS, SCORES, resamples=40)
    assert summary("single-label", ["a"], [0], [[1.0]])["images"] == 1
    assert headline_table(summary("single-label", ["a"], [0], [[1.0]])).startswith("1 image, 1 class\n")
