from xml.etree import ElementTree as Xml

from rsml.mapping.qgis import cells_style, label_style


def test_cells_have_the_colours_of_their_labels():
    root = Xml.fromstring(cells_style(['sea & "sand"', "trees"], ["#3b82d0", "#1f6b34"]))
    renderer = root.find("renderer-v2")
    assert (renderer.get("type"), renderer.get("attr")) == ("categorizedSymbol", "top")
    values = {one.get("value"): one.get("symbol") for one in renderer.iter("category")}
    assert list(values) == ['sea & "sand"', "trees"]
    symbol = next(one for one in renderer.iter("symbol") if one.get("name") == values["trees"])
    assert symbol.find("layer/prop[@k='color']").get("v") == "31,107,52,255"


def test_a_label_is_clear_at_zero_and_strong_from_its_threshold():
    root = Xml.fromstring(label_style(3, "water", "#3b82d0", 0.25))
    renderer = root.find("pipe/rasterrenderer")
    assert (renderer.get("type"), renderer.get("band")) == ("singlebandpseudocolor", "3")
    items = [(float(one.get("value")), int(one.get("alpha"))) for one in root.iter("item")]
    assert items == sorted(items)
    assert items[0] == (0.0, 0)
    below, above = (alpha for value, alpha in items if abs(value - 0.25) < 0.01)
    assert above > 2 * below
    assert {one.get("color") for one in root.iter("item")} == {"#3b82d0"}
