import json

import pytest

from rsml.geo.classes import READY, make_classes, read_classes, ready_for
from rsml.utils.errors import UserError

LEGENDS = {
    # Code: class, as the makers' legends say, written down apart from the lists of the code.
    "globeland30": {10: "cultivated", 20: "forest", 30: "grassland", 40: "shrubland", 50: "wetland", 60: "water",
                    70: "tundra", 73: "tundra", 79: "tundra", 80: "artificial", 90: "bare", 100: "snow", 255: "sea",
                    0: "nodata"},
    "geokr": {10: "cultivated", 20: "forest", 40: "ignored", 70: "ignored", 75: "ignored", 255: "sea", 90: "bare"},
    "worldcover": {10: "trees", 20: "shrubland", 30: "grassland", 40: "cropland", 50: "built-up", 60: "bare",
                   70: "snow", 80: "water", 90: "wetland", 95: "mangroves", 100: "moss-lichen"},
    "nlcd": {11: "water", 12: "snow", 21: "developed", 24: "developed", 31: "barren", 41: "forest", 43: "forest",
             52: "shrubland", 71: "herbaceous", 81: "cultivated", 82: "cultivated", 90: "wetlands", 95: "wetlands"},
    "corine": {111: "artificial", 142: "artificial", 211: "cultivated", 231: "pasture", 243: "cultivated",
               311: "forest", 313: "forest", 321: "grassland", 322: "shrubland", 324: "shrubland", 331: "bare",
               335: "snow", 411: "wetland", 423: "wetland", 512: "water", 522: "water", 523: "sea"},
    "zion": {1: "water", 2: "developed", 4: "forest", 5: "shrubland", 8: "wetlands"},
}  # fmt: skip

CORINE_LEVEL_3 = [
    111, 112, 121, 122, 123, 124, 131, 132, 133, 141, 142, 211, 212, 213, 221, 222, 223, 231, 241, 242, 243, 244, 311,
    312, 313, 321, 322, 323, 324, 331, 332, 333, 334, 335, 411, 412, 421, 422, 423, 511, 512, 521, 522, 523,
]  # fmt: skip


@pytest.mark.parametrize("name", READY)
def test_ready_classes_follow_the_legend(name):
    meaning = read_classes(name).meaning
    assert {code: meaning[code] for code in LEGENDS[name]} == LEGENDS[name]


def test_geokr_has_the_eight_classes_of_the_method():
    names = read_classes("geokr").names
    assert names == ("artificial", "bare", "cultivated", "forest", "grassland", "snow", "water", "wetland")


def test_corine_rasters_number_the_level_3_codes_from_1():
    meaning = read_classes("corine").meaning
    assert len(CORINE_LEVEL_3) == 44
    assert [meaning[number] for number in range(1, 45)] == [meaning[code] for code in CORINE_LEVEL_3]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps({"trees": [41, "42-43"], "water": 11, "sea": 255, "ignored": "70-72"})),
        ("a.csv", "class,codes\ntrees,41 42-43\nwater,11\nsea,255\nignored,70-72\n"),
        ("b.csv", "code,class\n41,trees\n42,trees\n43,trees\n11,water\n255,sea\n70,ignored\n71,ignored\n72,ignored\n"),
    ],
)
def test_a_file_of_classes(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    classes = read_classes(str(tmp_path / name))
    assert classes.names == ("trees", "water")
    assert classes.meaning == {41: "trees", 42: "trees", 43: "trees", 11: "water", 255: "sea",
                               70: "ignored", 71: "ignored", 72: "ignored"}  # fmt: skip


def test_the_maps_own_nodata_gives_way_to_a_class_of_that_code():
    classes = make_classes({"a": 1, "b": 2, "sea": 255, "nodata": 0}, "x")
    assert classes.missing(255) == {0} and classes.missing(9) == {0, 9} and classes.missing(None) == {0}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a": 1, "b": [1, 2]}, "code 1 is listed for 'a' and for 'b'"),
        ({"a": "x", "b": 2}, "'x' of class 'a' is no code"),
        ({"a": 1.5, "b": 2}, "1.5 of class 'a' is no code"),
        ({"a": True, "b": 2}, "True of class 'a' is no code"),
        ({"a": "9-3", "b": 2}, "no range of codes"),
        ({"covered": 1, "b": 2}, "cannot be called 'covered'"),
        ({"a": 1, "sea": 2}, "two classes or more, found 1"),
        ([1, 2], "found a list"),
    ],
)
def test_faults_of_a_file_are_one_line(tmp_path, content, words):
    (tmp_path / "c.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"c\.json") as fault:
        read_classes(str(tmp_path / "c.json"))
    assert words in str(fault.value)


def test_unknown_names_and_files(tmp_path):
    with pytest.raises(UserError, match="did you mean 'worldcover'"):
        read_classes("worldcovr")
    with pytest.raises(UserError, match="No such file"):
        read_classes(str(tmp_path / "absent.json"))
    (tmp_path / "c.csv").write_text("name,value\na,1\n")
    with pytest.raises(UserError, match="columns class and codes, found name, value"):
        read_classes(str(tmp_path / "c.csv"))


def test_which_list_knows_some_codes():
    assert ready_for([11, 21, 22, 41, 42, 43, 52]) == "nlcd"
    assert ready_for([111, 112, 311, 523]) == "corine"
    assert ready_for([-7]) is None
