"""What a page draws: images as data, and the geometry of its charts, which the template writes as SVG."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
from PIL import Image

from rsml.data.images import as_rgb

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 360, 200, 44, 26, 14


def data_url(image: np.ndarray, side: int, quality: int = 72) -> str:
    """An image as a JPEG within the page, its longer side scaled to so many pixels."""
    picture = Image.fromarray(as_rgb(image))
    scale = side / max(picture.size)
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def line_chart(title: str, series: dict[str, list[float]], across: list[float], mark: float | None = None) -> Any:
    """A line chart: paths, ticks, and where a value of the axis across is marked.

    Args:
        title: What is drawn.
        series: Values by name; what is not finite is left out.
        across: Their places.
        mark: A place to be marked.
    """
    values = [value for line in series.values() for value in line if math.isfinite(value)]
    low, high = min(values), max(values)
    room = (high - low) or abs(high) or 1.0
    low, high = (low if low >= 0 > low - 0.06 * room else low - 0.06 * room), high + 0.06 * room
    first, last = across[0], across[-1]

    def x(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - 12) * (value - first) / ((last - first) or 1), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (value - low) / (high - low), 1)

    lines = [
        {"name": name, "points": [(x(at), y(v), v, at) for at, v in zip(across, line, strict=True) if math.isfinite(v)]}
        for name, line in series.items()
    ]
    ticks = [(x(at), f"{at:g}") for at in _ticks(first, last, 6) if float(at).is_integer()]
    return {"title": title, "lines": lines, "across": ticks, "up": [(y(v), f"{v:.3g}") for v in _ticks(low, high, 4)],
            "mark": None if mark is None else x(mark), "width": WIDTH, "height": HEIGHT,
            "left": LEFT, "right": WIDTH - 12, "floor": HEIGHT - BOTTOM, "top": TOP}  # fmt: skip


def reliability_chart(calibration: dict[str, Any]) -> Any:
    """Places and radii of the bins of a reliability diagram, before and after."""
    side, edge = 240, 30
    inner = side - 2 * edge

    def circles(bins: list[dict[str, Any]]) -> list[tuple[float, float, float, str]]:
        most = max(one["decisions"] for one in bins)
        return [
            (round(edge + inner * one["score"], 1), round(side - edge - inner * one["share"], 1),
             round(2.5 + 5 * math.sqrt(one["decisions"] / most), 1),
             f"scored {one['score']:.2f}, true in {one['share']:.2f} of {one['decisions']:,} decisions")
            for one in bins
        ]  # fmt: skip

    sides = [name for name in ("before", "after") if name in calibration]
    ticks = [(edge + inner * at, side - edge - inner * at, f"{at:g}") for at in (0, 0.25, 0.5, 0.75, 1)]
    drawn = {name: circles(calibration[name]["bins"]) for name in sides}
    return {"side": side, "edge": edge, "sides": drawn, "ticks": ticks, "errors": {n: calibration[n] for n in sides}}


def ring(graph: dict[str, Any]) -> Any:
    """A label graph on a ring: nodes with their names outside, edges as arcs through the inside.

    Args:
        graph: Of `rsml.report.facts.Facts.graph`.
    """
    count, radius, centre = len(graph["names"]), 190, 320
    most = max(max(graph["support"]), 1)
    places, nodes = {}, []
    for position, node in enumerate(graph["order"]):
        angle = 2 * math.pi * position / count - math.pi / 2
        x, y = centre + radius * math.cos(angle), centre + radius * math.sin(angle)
        places[node] = (x, y)
        turned, flip = math.degrees(angle), math.cos(angle) < -1e-9
        nodes.append(
            {"node": node, "name": graph["names"][node], "x": round(x, 1), "y": round(y, 1),
             "r": round(4 + 9 * math.sqrt(graph["support"][node] / most), 1), "support": graph["support"][node],
             "turn": round(turned + 180 * flip, 1), "flip": flip, "out": -22 if flip else 22}
        )  # fmt: skip
    edges = []
    for i, j, share in graph["edges"]:
        (x0, y0), (x1, y1) = places[i], places[j]
        bend = 0.34
        cx, cy = (centre + (value - centre) * bend for value in ((x0 + x1) / 2, (y0 + y1) / 2))
        path = f"M{x0:.0f} {y0:.0f}Q{cx:.0f} {cy:.0f} {x1:.0f} {y1:.0f}"
        text = f"{graph['names'][j]}, where there is {graph['names'][i]}: {100 * share:.0f} %"
        edges.append({"path": path, "from": i, "to": j, "width": round(0.5 + 3 * share**2, 2), "text": text})
    return {**graph, "nodes": nodes, "lines": edges, "side": 2 * centre}


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two values."""
    rough = (high - low) / most or 1.0
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return [round(step * place, 12) for place in range(math.ceil(low / step), math.floor(high / step) + 1)]
