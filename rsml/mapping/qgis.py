"""QGIS styles of a map: the cells in the colours of their labels, and one label's probability as a shade."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as Xml

from matplotlib.colors import to_rgb


def cells_style(labels: Sequence[str], colours: Sequence[str], attribute: str = "top", opacity: float = 0.6) -> str:
    """The style of `tiles.gpkg`: each cell in the colour of its foremost label.

    Saved beside it as `tiles.qml`, QGIS takes it by itself.

    Args:
        labels: Their names.
        colours: `#rrggbb` of each.
        attribute: Of the cells, that holds a label's name.
        opacity: Of the layer.

    Example:
        >>> "water" in cells_style(["water"], ["#3b82d0"])
        True
    """
    root = Xml.Element("qgis", version="3.28", styleCategories="Symbology")
    renderer = Xml.SubElement(root, "renderer-v2", type="categorizedSymbol", attr=attribute, enableorderby="0")
    categories, symbols = Xml.SubElement(renderer, "categories"), Xml.SubElement(renderer, "symbols")
    for number, (label, colour) in enumerate(zip(labels, colours, strict=True)):
        Xml.SubElement(categories, "category", symbol=str(number), value=label, label=label, render="true")
        symbol = Xml.SubElement(symbols, "symbol", type="fill", name=str(number), alpha="1", clip_to_extent="1")
        layer = Xml.SubElement(symbol, "layer", {"class": "SimpleFill", "pass": "0", "enabled": "1", "locked": "0"})
        options = Xml.SubElement(layer, "Option", type="Map")
        for name, value in (("color", _rgba(colour)), ("style", "solid"), ("outline_style", "no")):
            Xml.SubElement(options, "Option", type="QString", name=name, value=value)
            Xml.SubElement(layer, "prop", k=name, v=value)  # as QGIS before 3.26 reads it
    Xml.SubElement(root, "layerOpacity").text = f"{opacity:g}"
    return _text(root)


def label_style(band: int, label: str, colour: str, threshold: float) -> str:
    """The style of `probabilities.tif` for one label: its colour, clear at 0, strong from its threshold on.

    Args:
        band: Of the raster, counted from 1.
        label: Its name.
        colour: `#rrggbb`.
        threshold: Where the label counts as present.
    """
    root = Xml.Element("qgis", version="3.28", styleCategories="Symbology")
    pipe = Xml.SubElement(root, "pipe")
    about = {"type": "singlebandpseudocolor", "band": str(band), "opacity": "1", "alphaBand": "-1"}
    renderer = Xml.SubElement(pipe, "rasterrenderer", {**about, "classificationMin": "0", "classificationMax": "1"})
    shader = Xml.SubElement(renderer, "rastershader")
    ramp = Xml.SubElement(shader, "colorrampshader", colorRampType="INTERPOLATED", classificationMode="1", clip="0")
    cut = min(max(threshold, 1e-3), 1 - 1e-3)
    for value, alpha in ((0.0, 0), (cut - 1e-4, 40), (cut, 140), (1.0, 235)):
        text = f"{label} {value:.2f}"
        Xml.SubElement(ramp, "item", value=f"{value:g}", color=colour, alpha=str(alpha), label=text)
    return _text(root)


def _rgba(colour: str) -> str:
    return ",".join(str(round(255 * part)) for part in to_rgb(colour)) + ",255"


def _text(root: Xml.Element) -> str:
    Xml.indent(root)
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + Xml.tostring(root, encoding="unicode") + "\n"
    )
