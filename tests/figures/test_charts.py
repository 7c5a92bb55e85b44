"""Charts hold the numbers that they were given, leave pyplot alone and are written whole or not at all."""

import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rsml.evaluation import bootstrap_interval, multilabel_metrics
from rsml.figures import charts as figures
from rsml.figures.style import BLUE, GREY, ORANGE, label_colours
from rsml.utils.errors import UserError


def colour(value):
    return matplotlib.colors.to_hex(value)


def names_at(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def part(images=80, labels=5):
    generator = np.random.default_rng(0)
    truth = (generator.random((images, labels)) < [0.1, 0.5, 0.3, 0.2, 0.4][:labels]).astype(int)
    return truth, generator.random(truth.shape) * 0.7 + 0.3 * truth


NAMES = ["airplane", "bare-soil", "buildings", "cars", "chaparral"]


def test_label_counts():
    labels, _ = part()
    splits = np.array(["train"] * 50 + ["valid"] * 10 + ["test"] * 20)
    axes = figures.label_counts(labels, splits, NAMES).axes[0]
    order = np.argsort(-labels.sum(0), kind="stable")
    assert names_at(axes.yaxis) == [NAMES[label] for label in order]
    assert len(axes.patches) == 15
    for place, name in enumerate(("train", "valid", "test")):
        bars = axes.containers[place]
        expected = labels[splits == name].sum(0)[order]
        assert [bar.get_width() for bar in bars] == expected.tolist()
        assert {colour(bar.get_facecolor()) for bar in bars} == {figures.SPLIT_COLOURS[name]}
    # Bars of one label follow one another.
    assert axes.containers[2][0].get_x() == labels[:60].sum(0)[order[0]]
    assert texts(axes)[0].startswith(f"{labels.sum(0).max()}  (")
    assert axes.get_xlabel() == "images"
    undivided = figures.label_counts(labels, [""] * 80, NAMES).axes[0]
    assert len(undivided.patches) == 5
    assert undivided.get_legend() is None


def test_label_graph_shows_probabilities_before_and_after():
    labels = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 0, 0]])
    counts = labels.T @ labels
    figure = figures.label_graph(counts, ["a", "b", "c"], threshold=0.5)
    before, after = figure.axes[:2]
    # Half of a's images have b, a quarter has c; the threshold keeps the half and drops the quarter.
    np.testing.assert_allclose(np.nan_to_num(before.images[0].get_array()), [[1, 0.5, 0.25], [1, 1, 0.5], [1, 1, 1]])
    np.testing.assert_allclose(
        np.ma.filled(after.images[0].get_array(), 0) * 1.0, [[0, 0.5, 0], [1, 0, 0.5], [1, 1, 0]]
    )
    assert after.get_title() == "kept by Q = 0.5: 5 directed edges"
    assert names_at(before.xaxis) == names_at(before.yaxis) == ["a", "b", "c"]
    assert ".25" in texts(before)
    assert ".25" not in texts(after)


def test_per_label_f1_beside_another_run_and_against_edges():
    f1, other = [0.9, 0.5, 0.7, 0.4, 1.0], [0.8, 0.6, 0.7, 0.1, 1.0]
    options = {"other": other, "names": ("signa", "plain"), "edge_counts": [3, 9, 10, 0, 1]}
    figure = figures.per_label_f1(f1, NAMES, **options)
    bars, scatter = figure.axes
    assert [bar.get_width() for bar in bars.containers[0]] == pytest.approx([90, 50, 70, 40, 100])
    assert [bar.get_width() for bar in bars.containers[1]] == pytest.approx([80, 60, 70, 10, 100])
    assert [colour(container[0].get_facecolor()) for container in bars.containers] == [BLUE, GREY]
    assert [text.get_text() for text in bars.get_legend().get_texts()] == ["signa", "plain"]
    assert "90.0  (+10.0)" in texts(bars)
    assert "50.0  (-10.0)" in texts(bars)
    points = scatter.collections[0].get_offsets()
    np.testing.assert_allclose(points, np.column_stack([[3, 9, 10, 0, 1], [10, -10, 0, 30, 0]]), atol=1e-9)
    assert sorted(texts(scatter)) == sorted(NAMES)
    assert scatter.get_ylabel() == "F1 of signa minus plain (points)"
    alone = figures.per_label_f1(f1, NAMES)
    assert len(alone.axes) == 1
    assert len(alone.axes[0].patches) == 5


def test_names_beside_points_do_not_cover_each_other():
    generator = np.random.default_rng(0)
    names = [f"long label name {number}" for number in range(40)]
    figure = figures.per_label_f1(generator.random(40), names, edge_counts=generator.integers(0, 25, 40))
    scatter = figure.axes[1]
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in scatter.texts]
    # A name without a free place is left out; the bars at the left have them all.
    assert len(boxes) >= 36
    overlapping = [(i, j) for i in range(len(boxes)) for j in range(i) if boxes[i].shrunk(0.98, 0.9).overlaps(boxes[j])]
    assert not overlapping


def test_confusion_matrix_has_counts_shares_and_recalls():
    counts = np.array([[8, 2, 0], [1, 3, 0], [0, 0, 0]])
    axes = figures.confusion_matrix(counts, ["beach", "river", "forest"]).axes[0]
    np.testing.assert_allclose(np.nan_to_num(axes.images[0].get_array()), [[0.8, 0.2, 0], [0.25, 0.75, 0], [0, 0, 0]])
    cells = {text.get_position(): (text.get_text(), text.get_color()) for text in axes.texts}
    assert cells[(0, 0)] == ("8", "white")
    assert cells[(1, 0)] == ("2", "#a32020")
    assert set(cells) == {(0, 0), (1, 0), (0, 1), (1, 1)}
    assert names_at(axes.xaxis) == ["beach", "river", "forest"]
    assert names_at(axes.yaxis) == ["beach  80 %", "river  75 %", "forest  -"]
    assert axes.get_title() == "11 of 14 images right (78.57 %)"


def test_confusion_matrix_grows_with_the_classes():
    small = figures.confusion_matrix(np.eye(21, dtype=int), [str(i) for i in range(21)])
    large = figures.confusion_matrix(np.eye(45, dtype=int), [str(i) for i in range(45)])
    assert large.get_figwidth() > 1.7 * small.get_figwidth()
    assert len(large.axes[0].texts) == 45


def test_learning_curves():
    history = pd.DataFrame(
        {
            "epoch": [0, 1, 2],
            "loss": [1.0, 0.5, 0.2],
            "val_loss": [1.1, 0.7, 0.6],
            "val_example_f1": [0.2, 0.5, 0.6],
            "val_coverage_error": [3.0, 2.0, 1.0],
            "learning_rate": [1e-3, 1e-3, 1e-4],
            "backbone_learning_rate": [1e-4, 1e-4, 0],
        }
    )
    figure = figures.learning_curves(history, best=1)
    assert [axes.get_title() for axes in figure.axes] == ["loss", "example F1", "learning rate"]
    loss, f1, rate = figure.axes
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), history["loss"])
    np.testing.assert_array_equal(loss.lines[1].get_ydata(), history["val_loss"])
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["train", "valid", "chosen epoch"]
    assert colour(loss.lines[1].get_color()) == BLUE
    assert (f1.lines[-1].get_xdata()[0], colour(f1.lines[-1].get_color())) == (1, ORANGE)
    assert rate.get_yscale() == "log"
    assert [text.get_text() for text in rate.get_legend().get_texts()] == ["new parts", "backbone", "chosen epoch"]
    np.testing.assert_array_equal(rate.lines[1].get_ydata(), [1e-4, 1e-4, np.nan])
    chosen = figures.learning_curves(history.drop(columns="epoch"), ["coverage_error"])
    assert chosen.axes[0].get_title() == "coverage error"
    np.testing.assert_array_equal(chosen.axes[0].lines[0].get_xdata(), [0, 1, 2])
    with pytest.raises(UserError, match="no accuracy: its columns are epoch, loss"):
        figures.learning_curves(history, ["accuracy"])


def test_precision_recall_passes_through_the_threshold():
    labels, scores = part()
    labels[:, 4] = 0
    figure = figures.precision_recall(labels, scores, NAMES, [0.5, 0.4, 0.5, 0.6, 0.5])
    metrics = multilabel_metrics(labels, scores, [0.5, 0.4, 0.5, 0.6, 0.5])
    for column, axes in enumerate(figure.axes[:4]):
        curve, dot = axes.lines
        point = dot.get_xdata()[0], dot.get_ydata()[0]
        assert point == pytest.approx((metrics["per_label_recall"][column], metrics["per_label_precision"][column]))
        assert np.isclose(np.column_stack(curve.get_data()), point).all(axis=1).any()
        # The area under the steps is the average precision.
        recall, precision = curve.get_data()
        area = (np.diff(recall) * precision[1:]).sum()
        assert area == pytest.approx(metrics["per_label_ap"][column])
        assert texts(axes)[0].startswith(f"AP {100 * area:.1f}\n")
        assert axes.get_title() == NAMES[column]
    assert texts(figure.axes[4]) == ["never occurs"]


def test_bootstrap_chart_counts_every_resample():
    generator = np.random.default_rng(0)
    truth = generator.integers(3, size=90)
    scores = generator.random((90, 3)) + 0.5 * np.eye(3)[truth]
    interval = bootstrap_interval(truth, scores, "accuracy", resamples=300)
    figure = figures.bootstrap_chart(interval)
    axes = figure.axes[0]
    bars = axes.containers[0]
    assert sum(bar.get_height() for bar in bars) == 300
    # Accuracy moves in steps of one image: every bin is as wide as a whole number of steps.
    steps = bars[0].get_width() / (100 / 90)
    assert steps == pytest.approx(round(steps))
    assert axes.lines[0].get_xdata()[0] == 100 * interval.value
    shaded = axes.patches[0]
    assert (shaded.get_x(), shaded.get_x() + shaded.get_width()) == pytest.approx(
        (100 * interval.low, 100 * interval.high)
    )
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [str(interval)]
    assert axes.get_xlabel() == "accuracy (%) over 300 resampled test sets; shaded: 95 % interval"
    both = figures.bootstrap_chart({"a": interval, "b": interval}, "kappa").axes[0]
    assert len(both.containers) == 2
    constant = bootstrap_interval([0, 0], [[1.0, 0.0], [1.0, 0.0]], "accuracy", resamples=10)
    assert sum(bar.get_height() for bar in figures.bootstrap_chart(constant).axes[0].containers[0]) == 10
    undefined = bootstrap_interval([0, 0], [[1.0, 0.0], [1.0, 0.0]], "kappa", resamples=10)
    with pytest.raises(UserError, match="kappa is undefined"):
        figures.bootstrap_chart(undefined, "kappa")


def test_tsne_keeps_clusters_and_repeats_itself():
    generator = np.random.default_rng(0)
    centre = np.repeat([[0.0] * 20, [8.0] * 20], 15, axis=0)
    features = centre + generator.normal(size=(30, 20))
    points, again = (figures.tsne(features, perplexity=8, seed=3) for _ in range(2))
    assert points.shape == (30, 2)
    np.testing.assert_array_equal(points, again)
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    nearest = distance.argmin(1)
    assert ((np.arange(30) < 15) == (nearest < 15)).all()
    assert figures.tsne(features[:4]).shape == (4, 2)
    with pytest.raises(UserError, match="at least 3 images"):
        figures.tsne(features[:2])


def test_feature_map_colours_by_label():
    labels, _ = part()
    points = np.random.default_rng(1).random((80, 2))
    figure = figures.feature_map(points, labels, NAMES, ["cars", "airplane"])
    assert [axes.get_title() for axes in figure.axes] == [
        f"cars ({labels[:, 3].sum()})",
        f"airplane ({labels[:, 0].sum()})",
    ]
    own = figure.axes[0].collections[1]
    np.testing.assert_allclose(own.get_offsets(), points[labels[:, 3] == 1])
    np.testing.assert_allclose(own.get_facecolor()[0][:3], label_colours(NAMES)[3])
    known = [colour for colour in label_colours(NAMES) if colour is not None]
    assert len(set(known)) == len(known) > 0
    classes = np.arange(80) % 5
    single = figures.feature_map(points, classes, NAMES).axes[0]
    assert [text.get_text() for text in single.get_legend().get_texts()] == NAMES
    np.testing.assert_allclose(single.collections[2].get_offsets(), points[classes == 2])
    assert len({colour(group.get_facecolor()[0]) for group in single.collections}) == 5
    with pytest.raises(UserError, match="no label is named 'tree'"):
        figures.feature_map(points, labels, NAMES, ["tree"])


def test_several_feature_maps_lie_beside_each_other():
    labels, _ = part()
    maps = {"signa": np.random.default_rng(1).random((80, 2)), "plain": np.random.default_rng(2).random((80, 2))}
    figure = figures.feature_map(maps, labels, NAMES)
    assert len(figure.axes) == 2 * len(NAMES)
    assert [axes.get_title() for axes in figure.axes[2:4]] == [
        f"{NAMES[1]} ({labels[:, 1].sum()}): {name}" for name in maps
    ]
    for axes, points in zip(figure.axes[2:4], maps.values(), strict=True):
        np.testing.assert_allclose(axes.collections[1].get_offsets(), points[labels[:, 1] == 1])
    classes = np.arange(80) % 5
    left, right = figures.feature_map(maps, classes, NAMES).axes
    assert (left.get_title(), right.get_title()) == tuple(maps)
    np.testing.assert_allclose(right.collections[2].get_offsets(), maps["plain"][classes == 2])
    assert left.get_legend() is None and len(right.get_legend().get_texts()) == 5


def test_save_writes_whole_files_of_the_asked_kind(tmp_path):
    figure = figures.label_counts(*part()[:1], ["train"] * 80, NAMES)
    path = figures.save(figure, tmp_path / "deep" / "counts.png", dpi=60)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.width == pytest.approx(7.5 * 60, rel=0.1)
    assert figures.save(figure, tmp_path / "counts.pdf").read_bytes().startswith(b"%PDF")
    before = path.read_bytes()
    figure.savefig = None  # A failure while writing.
    with pytest.raises(TypeError):
        figures.save(figure, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["counts.png"]


def test_nothing_touches_pyplot_tensorflow_or_settings():
    code = (
        "import sys, matplotlib; before = repr(matplotlib.rcParams.copy());"
        "from rsml.evaluation import report; from rsml.figures import charts as figures;"
        "figures.label_counts([[1, 0], [1, 1]], ['train', 'test'], ['a', 'b']);"
        "assert repr(matplotlib.rcParams.copy()) == before;"
        "print(sorted({'tensorflow', 'keras', 'matplotlib.pyplot', 'sklearn'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
