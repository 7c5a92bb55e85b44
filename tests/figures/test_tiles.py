import json

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from PIL import Image

from rsml.figures import tiles as picture
from rsml.geo.crop import CropOptions, crop
from rsml.geo.supervise import supervise
from rsml.utils.errors import UserError
from tests.geo.rasters import from_origin, noise, write


@pytest.fixture
def done(tmp_path):
    """A scene of 2 x 3 tiles, one of them dark; water in the west, forest in the east, nothing in the south."""
    values = noise(64, 88)
    values[:, :32, :32] = 1000
    crop([str(write(tmp_path / "a.tif", values))], tmp_path / "tiles", CropOptions(tile=32, step=32))
    codes = np.ones((32, 44), np.uint8)
    codes[:, 22:] = 2
    codes[24:] = 0
    path = str(write(tmp_path / "map.tif", codes, from_origin(300_000, 4_100_000, 20, 20), nodata=0))
    (tmp_path / "classes.json").write_text(json.dumps({"water": 1, "forest": 2, "bare": 3}))
    names = str(tmp_path / "classes.json")
    supervise([str(tmp_path / "tiles")], [path], names, min_covered=0.6)
    return [str(tmp_path / "tiles")], [path], names, tmp_path / "tiles"


def test_the_picture_shows_shares_tiles_and_what_was_dropped(tmp_path, done, monkeypatch):
    kept = {}
    monkeypatch.setattr(picture, "save", lambda figure, file: kept.update(figure=figure) or file)
    picture.draw(tmp_path / "a.png", *done)
    figure = kept["figure"]
    _, cover, tiles = figure.axes
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["water 37.5 %", "forest 37.5 %", "no class 25.0 %"]
    assert tiles.get_title() == "2 tiles with proportions; without: 3 little covered, 1 empty"
    crosses = [line for line in tiles.lines if line.get_marker() == "x"]
    assert len(crosses) == 4
    shown = cover.images[0].get_array()
    assert (shown[10, 10] == np.round(255 * np.array([0x3B, 0x82, 0xD0]) / 255)).all()
    assert (shown[10, 80] == [0x1F, 0x6B, 0x34]).all() and (shown[60, 10] == 255).all()
    # The tile in the middle of the upper row has 12 columns of water and 20 of forest.
    fills = [patch for patch in tiles.patches if isinstance(patch, Rectangle) and patch.get_fill()]
    heights = sorted(patch.get_height() for patch in fills if 32 < patch.get_x() < 48 and patch.get_height() > 0)
    assert heights[-1] / sum(heights) == pytest.approx(20 / 32)


def test_the_picture_is_written(tmp_path, done):
    file = picture.draw(tmp_path / "a.png", *done)
    with Image.open(file) as image:
        assert image.size[0] > 1000


def test_what_cannot_be_drawn_is_one_line(tmp_path, done):
    tiles, maps, names, folder = done
    with pytest.raises(UserError, match="expected one folder that crop wrote"):
        picture.draw(tmp_path / "a.png", [maps[0]], maps, names, folder)
    with pytest.raises(UserError, match=r"--picture-scene b: no such scene .* \(known: a\)"):
        picture.draw(tmp_path / "a.png", tiles, maps, names, folder, scene="b")


def test_neighbours_leave_room_for_each_other():
    assert picture._room([0, 200, 272], 256) == {0: 128, 200: pytest.approx(64.8), 272: pytest.approx(64.8)}
    assert picture._room([0], 256) == {0: 128}
