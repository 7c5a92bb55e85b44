"""Maps of feature spaces: where images lie when near features are drawn near, coloured by their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rsml.evaluation.checks import EvaluationError
from rsml.figures.style import BLUE, GREY, annotate, bare_frame, colours, label_colours, shorten, small_multiples


def tsne(features: ArrayLike, *, perplexity: float = 30.0, seed: int = 0) -> np.ndarray:
    """Points in the plane whose neighbours are those of the features (scikit-learn's t-SNE, started from PCA).

    Args:
        features: `(images, channels)`.
        perplexity: neighbours considered; lowered for a handful of images.
        seed: of the optimisation.

    Returns:
        `(images, 2)`.
    """
    from sklearn.manifold import TSNE  # Loads half of scikit-learn: only when asked for.
    from threadpoolctl import threadpool_limits

    features = np.asarray(features, dtype=np.float32)
    features = features.reshape(len(features), -1)
    if len(features) < 3:
        raise EvaluationError(f"a map of features needs at least 3 images, found {len(features)}")
    options = {"perplexity": min(perplexity, (len(features) - 1) / 3), "random_state": seed}
    # For few points the threads of a busy machine wait for each other 40 times longer than they work.
    with threadpool_limits(1 if len(features) <= 500 else None, "openmp"):
        return TSNE(init="pca" if features.shape[1] > 1 else "random", **options).fit_transform(features)


def feature_map(
    points: ArrayLike | Mapping[str, ArrayLike],
    labels: ArrayLike,
    label_names: Sequence[str],
    shown: Sequence[str] | None = None,
) -> Figure:
    """Where images lie in a map of features (`tsne`), coloured by their labels; several maps beside each other.

    Multi-label: one panel a label and map, the images that have it in colour (Fig. 12). Class numbers: one panel a map,
    one colour and marker a class, its name at the class's median.

    Args:
        points: `(images, 2)`, or such maps of the same images by name.
        labels: `(images, labels)`, or class numbers `(images,)`.
        label_names: in order.
        shown: the labels to draw; all when None.
    """
    given = points if isinstance(points, Mapping) else {"": points}
    maps, labels = {name: np.asarray(places) for name, places in given.items()}, np.asarray(labels)
    unknown = [name for name in shown or () if name not in label_names]
    if unknown:
        raise EvaluationError(f"no label is named {unknown[0]!r}: choose from {', '.join(label_names)}")
    columns = [list(label_names).index(name) for name in (shown or label_names)]
    if labels.ndim == 1:
        return _map_of_classes(maps, labels, label_names, columns)
    single = len(maps) == 1
    size, abreast = (2.9, 4) if single else (2.3, max(len(maps), 6 // len(maps) * len(maps)))
    figure, panels = small_multiples(len(columns) * len(maps), columns=abreast, width=size, height=size)
    shades = label_colours(label_names)
    for place, axes in enumerate(panels):
        column = columns[place // len(maps)]
        name, places = list(maps.items())[place % len(maps)]
        own, shade = labels[:, column] > 0, shades[column] or to_rgb(BLUE)
        axes.scatter(places[~own, 0], places[~own, 1], s=7, color="#d5d9dd", linewidths=0)
        # Pale colours need an edge to be seen on white.
        axes.scatter(places[own, 0], places[own, 1], s=10, color=shade, edgecolors=[_dark(shade)], linewidths=0.4)
        title = f"{label_names[column]} ({int(own.sum())})"
        axes.set_title(title if single else f"{title}: {shorten(name, 18)}", fontsize=10 if single else 8)
        bare_frame(axes)
    return figure


def _map_of_classes(
    maps: Mapping[str, np.ndarray], classes: np.ndarray, names: Sequence[str], columns: Sequence[int]
) -> Figure:
    figure = Figure(figsize=(10 if len(maps) == 1 else 6.5 * len(maps) + 2, 7.5), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, len(maps), squeeze=False)[0]
    seen = [column for column in columns if (classes == column).any()]
    # Classes for which no colour is left are told apart by their markers.
    own_colours = label_colours([names[column] for column in seen])
    spare = iter(product("sD^v", colours(10)))
    looks: list[tuple[str, Any]] = [("o", shade) if shade else next(spare, ("v", GREY)) for shade in own_colours]
    dark = [_dark(to_rgb(shade)) for _, shade in looks]
    for axes, (title, points) in zip(panels, maps.items(), strict=True):
        for column, (marker, shade), edge in zip(seen, looks, dark, strict=True):
            own = points[classes == column]
            look: Any = {"color": shade, "marker": marker, "label": names[column], "edgecolors": [edge]}
            axes.scatter(own[:, 0], own[:, 1], s=18, linewidths=0.4, **look)
        axes.set_title(title, fontsize=11)
        bare_frame(axes)
    panels[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8, ncols=1 + len(seen) // 32)
    for axes, points in zip(panels, maps.values(), strict=True):
        centres = np.array([np.median(points[classes == column], axis=0) for column in seen]).reshape(-1, 2)
        across, up = centres.T
        annotate(figure, axes, across, up, [names[column] for column in seen], colours=dark, on_top=True)
    return figure


def _dark(shade: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (0.6 * part for part in shade[:3])
    return red, green, blue
