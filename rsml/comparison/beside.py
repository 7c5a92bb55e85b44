"""One method beside another, label by label: tables of both, gain against edges, maps of features, pictures."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsml.comparison.paired import Scored
from rsml.tasks import task
from rsml.utils.files import replacing, write_text

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

    from rsml.data.images import ImageError
    from rsml.data.samples import Samples

Side = Sequence[Scored]
MAPPED, PANEL, PANEL_SEEDS = 500, 8, 3
"""At most so many images in a map of features and in the panel, and runs of each side in the panel."""

_OF_SHARES = (("error", "absolute_error", -1), ("recall", "dominant_recall", 1))
_OF_DECISIONS = (("F1", "f1", 1), ("precision", "precision", 1), ("recall", "recall", 1), ("AP", "ap", 1))


def measures(of_task: str) -> tuple[tuple[str, str, int], ...]:
    """What is measured of a label, the measure that leads first: head in tables, name, and -1 where less is better."""
    return _OF_SHARES if task(of_task).shares else _OF_DECISIONS


@dataclass(frozen=True)
class Beside:
    """Two methods on the same images, of one or several seeds each.

    Attributes:
        names: What the two are called.
        sides: Their runs, paired in order.
        samples: All images of the first run, divided.
        part: Those that were measured.
        rows: A row a label, the largest gain first: label, images, edges where labels have a graph, and for each
            measure `<name>_a`, `<name>_b`, `<name>_gain` as fractions, means over seeds; of several seeds
            `<name>_deviation` too, that of the gain over pairs. A gain above 0 is better, also where the measure is
            an error.
        correlation: Of gain and edges, by rank, over the labels that occur; None where that says nothing.
    """

    names: tuple[str, str]
    sides: tuple[Side, Side]
    samples: Samples
    part: Samples
    rows: pd.DataFrame
    correlation: float | None

    @property
    def folder(self) -> Path:
        """Where the files go if nobody says: beside the first run."""
        name = "test-" + "-".join(name.replace("/", "-") for name in self.names)
        return Path(os.path.relpath(self.sides[0][0].run.folder.resolve().parent / name))

    def text(self) -> str:
        """The table of labels, aligned, and how gain and edges go together."""
        from rsml.utils.tables import render

        header, rows, attached = self._cells(("a", "b"))
        about = f"a: {self.names[0]}\nb: {self.names[1]}\n\n"
        return about + render(header, rows, attached=attached) + self._closing()

    def markdown(self) -> str:
        """The same as Markdown."""
        from rsml.evaluation.report import render

        header, rows, _ = self._cells(self.names)
        return render(header, rows, "markdown") + self._closing()

    def plain(self) -> dict[str, Any]:
        """The same ready for JSON, as fractions."""
        records = self.rows.astype(object).where(self.rows.notna(), None).to_dict("records")
        return {"names": list(self.names), "per_label": records, "gain_and_edges": self.correlation}

    def write(self, folder: Path) -> None:
        """Writes per_label.csv and per_label.md."""
        with replacing(folder / "per_label.csv") as beside:
            self.rows.to_csv(beside, index=False)
        write_text(folder / "per_label.md", self.markdown())

    def draw(self, folder: Path, trust: bool = False) -> None:
        """Draws what the task calls for; a picture that cannot be drawn is a line in the log.

        Args:
            folder: Where to: per_label_gain.png, panel.jpg and feature_maps.png, the last of the first pair of runs.
            trust: Let a model file run the code it carries.
        """
        from rsml.figures.run import draw_all

        drawn = {"feature_maps": lambda: self._feature_maps(trust)}
        if not task(self.part.task).shares:
            drawn = {"per_label_gain": self._gain_chart, "panel": self._panel} | drawn
        draw_all(folder, drawn)

    def _cells(self, names: tuple[str, str]) -> tuple[list[str], list[list[str]], list[int]]:
        """Header and rows in percent, the mean over labels last; and the columns that stay with that on their left."""
        several = len(self.sides[0]) > 1
        about = ["images", *(["edges"] if "edges" in self.rows else [])]
        header, attached = ["label", *about], []
        for head, *_ in measures(self.part.task):
            attached += [len(header) + 1, len(header) + 2]
            header += [f"{head} {names[0]}", f"{head} {names[1]}", "gain"]
        rows: list[list[str]] = []
        numbers = self.rows.select_dtypes("number")
        for row in [*self.rows.to_dict("records"), {"label": "mean", **numbers.mean().to_dict()}]:
            mean = row["label"] == "mean" and len(rows) == len(self.rows)
            cells = [str(row["label"]), *("" if mean else str(row[name]) for name in about)]
            for _, name, _ in measures(self.part.task):
                spread = f" ± {100 * row[f'{name}_deviation']:.2f}" if several and not mean else ""
                values = [f"{100 * row[f'{name}_a']:.2f}", f"{100 * row[f'{name}_b']:.2f}"]
                cells += [*values, f"{100 * row[f'{name}_gain']:+.2f}{spread}"]
            rows.append(["-" if cell.startswith(("nan", "+nan")) else cell for cell in cells])
        return header, rows, attached

    def _closing(self) -> str:
        if self.correlation is None:
            return ""
        return f"\ngain in F1 and edges of a label: rank correlation {self.correlation:+.2f}\n"

    def _gain_chart(self) -> Figure:
        from rsml.figures.charts import per_label_f1

        rows = self.rows
        edges = rows.get("edges")
        figure = per_label_f1(
            rows["f1_a"], rows["label"].tolist(), other=rows["f1_b"], names=self.names, edge_counts=edges
        )
        if self.correlation is not None:
            figure.axes[-1].set_title(f"rank correlation {self.correlation:+.2f}", fontsize=9)
        return figure

    def _panel(self) -> Figure:
        """The images on which the sides differ most, either way."""
        import numpy as np

        from rsml.data.images import picture
        from rsml.figures.panels import runs_panel

        row, count = task(self.part.task), len(self.part)
        chosen = np.argsort(-self._lead(), kind="stable")
        if count > PANEL:
            chosen = np.concatenate([chosen[: PANEL // 2], chosen[: -PANEL // 2 - 1 : -1]])
        runs = [
            (
                name if len(side) == 1 else f"{name}, seed {scored.seed}",
                scored.scores[chosen],
                row.decide(scored.scores[chosen], scored.thresholds),
            )
            for name, side in zip(self.names, self.sides, strict=True)
            for scored in side[:PANEL_SEEDS]
        ]
        shown = self.part.select(chosen)
        a, b = self.names
        title = f"{PANEL // 2} of {count} images where {a} is furthest ahead, then {PANEL // 2} where {b} is"
        choices = self.sides[0][0].run.experiment.data.choices()
        pictures = [picture(file, **choices) for file in shown.files]
        files = [Path(file).name for file in shown.files]
        return runs_panel(
            pictures, shown.labels, runs, self.part.label_names, files, title=title if count > PANEL else ""
        )

    def _lead(self) -> np.ndarray:
        """By how many decisions side a is ahead on each image, `(images,)`; nearer scores decide between equals."""
        import numpy as np

        row, truth = task(self.part.task), self.part.labels
        wrong = [
            np.mean(
                [
                    (row.decide(scored.scores, scored.thresholds) != truth).sum(axis=1)
                    + ((scored.scores - truth) ** 2).mean(axis=1)
                    for scored in side
                ],
                axis=0,
            )
            for side in self.sides
        ]
        return wrong[1] - wrong[0]

    def _feature_maps(self, trust: bool) -> Figure:
        import numpy as np

        from rsml.figures.features import feature_map, tsne
        from rsml.prediction.scene_model import open_model
        from rsml.retrieval.embedding import Embedder

        # Evenly over the part, so that every class of a sorted one is there.
        chosen = np.unique(np.linspace(0, len(self.part) - 1, min(MAPPED, len(self.part))).astype(int))
        shown = self.part.select(chosen)
        points = {}
        for name, (scored, *_) in zip(self.names, self.sides, strict=True):
            run = scored.run
            bad: list[ImageError] = []
            model = open_model(run.folder, trust)[0]
            vectors = [batch for _, batch in Embedder(model, str(run.folder)).stream(shown.files.tolist(), bad)]
            if bad:
                raise bad[0]
            points[name] = tsne(np.concatenate(vectors))
        labels = shown.labels if task(shown.task).thresholds else shown.classes
        return feature_map(points, labels, shown.label_names)


def set_beside(side_a: Side, side_b: Side, split: str = "test", root: str | None = None) -> Beside:
    """Measures every label of two methods, whose runs `compare_runs` has read and paired.

    Args:
        side_a: Runs of the method that is looked at.
        side_b: As many of the other, of the same images.
        split: Part of the data that they were scored on.
        root: Where the images lie now.
    """
    import numpy as np
    import pandas as pd

    first = side_a[0]
    samples, row = first.run.read_samples(root), task(first.task)
    part = samples.part(split)
    truth = part.classes if row.one_class else part.labels
    by_run = [[row.measure(truth, scored.scores, scored.thresholds) for scored in side] for side in (side_a, side_b)]
    columns: dict[str, Any] = {"label": part.label_names, "images": by_run[0][0]["per_label_support"].astype(int)}
    train = samples.part("train")
    if row.thresholds and len(train) and len(part.label_names) > 1:
        columns["edges"] = _edges(train, (*first.run.experiment.methods, *side_b[0].run.experiment.methods))
    for _, name, sign in measures(first.task):
        a, b = (np.array([found[f"per_label_{name}"] for found in side], dtype=float) for side in by_run)
        gain = sign * (a - b)
        columns |= {f"{name}_a": a.mean(axis=0), f"{name}_b": b.mean(axis=0), f"{name}_gain": gain.mean(axis=0)}
        if len(a) > 1:
            columns[f"{name}_deviation"] = gain.std(axis=0, ddof=1)
    rows = pd.DataFrame(columns)
    lead = f"{measures(first.task)[0][1]}_gain"
    rows = rows.sort_values(lead, ascending=False, kind="stable", ignore_index=True)
    seen = rows[rows["images"] > 0]
    correlation = None
    if "edges" in rows and len(seen) > 2 and seen["edges"].nunique() > 1 and seen[lead].nunique() > 1:
        correlation = float(seen["edges"].rank().corr(seen[lead].rank()))
    return Beside(_names(side_a, side_b), (side_a, side_b), samples, part, rows, correlation)


def _edges(train: Samples, methods: Sequence[Any]) -> np.ndarray:
    from rsml.graph import cooccurrence, edge_counts, threshold_graph
    from rsml.methods.base import graph_threshold

    return edge_counts(threshold_graph(cooccurrence(train.labels), graph_threshold(methods))).per_label


def _names(side_a: Side, side_b: Side) -> tuple[str, str]:
    """A name for each side: that of its run, of several seeds without the seed's number; never the same twice."""

    def name(side: Side, above: bool) -> str:
        folder = side[0].run.folder.resolve()
        own = f"{folder.parent.name}/{folder.name}" if above else folder.name
        return (re.sub(r"[-_. ]*(seed)?[-_. =]*\d+$", "", own) if len(side) > 1 else "") or own

    for above in (False, True):
        a, b = name(side_a, above), name(side_b, above)
        if a != b:
            return a, b
    return f"{a} (a)", f"{b} (b)"
