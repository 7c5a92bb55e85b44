"""Images that must stay on one side: by a column, by their names, by what they show."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rsml.data.divide import divide
from rsml.data.groups import Grouping, connected, joined
from rsml.data.neighbours import find_neighbours
from rsml.data.readers import read_samples
from rsml.data.samples import Samples
from rsml.utils.errors import UserError


def named(*paths: str, groups: list[str] | None = None) -> Samples:
    labels = np.eye(2, dtype=np.uint8)[np.arange(len(paths)) % 2]
    return Samples(paths, labels, ("x", "y"), "single-label", "/data", groups=groups)


def partition(groups: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(groups == group).tolist()) for group in set(groups.tolist())}


def sets(*rows: set[int]) -> set[frozenset[int]]:
    return set(map(frozenset, rows))


def test_runs_of_numbers_are_cut_at_multiples_and_within_one_name():
    samples = named("a/a08.tif", "a/a09.tif", "a/a10.tif", "a/a19.tif", "b/b09.tif", "b/plain.tif", "b/b008.png")
    assert partition(Grouping.parse("numbers:10").of(samples)) == sets({0, 1}, {2, 3}, {4, 6}, {5})


def test_a_pattern_groups_by_its_groups_or_by_all_that_it_matches(caplog):
    samples = named("s1_north_1.png", "s1_north_2.png", "s2_north_1.png", "s1_south_1.png", "other.png")
    assert partition(Grouping.parse(r"pattern:(s\d)_(\w+)_").of(samples)) == sets({0, 1}, {2}, {3}, {4})
    assert "1 of 5 images are in no group" in caplog.text
    assert partition(Grouping.parse(r"pattern:s\d").of(samples)) == sets({0, 1, 3}, {2}, {4})


def test_a_column_groups_and_its_empty_cells_do_not():
    samples = named("1.png", "2.png", "3.png", "4.png", groups=["p", "", "p", ""])
    assert partition(Grouping.parse("column:photo").of(samples)) == sets({0, 2}, {1}, {3})


@pytest.mark.parametrize(
    "text", ["", "found:x", "column", "pattern:", "numbers:1", "numbers:x", "pattern:(", "embedding", "numbers:٣x"]
)
def test_what_is_no_grouping_is_refused(text):
    with pytest.raises(UserError, match="groups"):
        Grouping.parse(text)


def test_a_pattern_that_fits_nothing_is_refused():
    with pytest.raises(UserError, match="fits none of 2 images"):
        Grouping.parse("pattern:[0-9]{3}").of(named("a1.png", "a2.png"))


def test_groups_are_joined_over_common_images():
    one, other = np.array([0, 0, 2, 3, 4]), np.array([9, 1, 1, 7, 7])
    assert partition(joined(one, other)) == sets({0, 1, 2}, {3, 4})
    assert partition(connected(4, np.array([[0, 3], [3, 2]]))) == sets({0, 2, 3}, {1})


# Found in the pixels


@pytest.fixture(scope="module")
def tiles(tmp_path_factory) -> Path:
    """Two pictures of smooth noise: tiles of 128 px that touch, that overlap, a brighter copy, and strangers."""
    root = tmp_path_factory.mktemp("tiles")

    def ground(seed: int) -> np.ndarray:
        random = np.random.default_rng(seed)
        layers = [random.integers(0, 255, (side, side), dtype=np.uint8) for side in (15, 40, 100, 150)]
        return np.mean([np.asarray(Image.fromarray(layer).resize((300, 300), 3), float) for layer in layers], axis=0)

    one, other = ground(1), ground(2)
    cuts = {
        "a/left": one[:128, :128], "a/right": one[:128, 128:256], "b/below": one[128:256, :128],
        "a/moved": one[20:148, 30:158], "b/copy": one[:128, 128:256] * 0.8 + 20,
        "b/far": other[:128, :128], "b/other": other[150:278, 150:278],
    }  # fmt: skip
    for name, pixels in cuts.items():
        (root / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).convert("RGB").save(root / f"{name}.png")
    Image.new("RGB", (128, 128), (90, 90, 90)).save(root / "a" / "plain1.png")
    Image.new("RGB", (128, 128), (90, 90, 91)).save(root / "b" / "plain2.png")
    return root


def test_copies_overlaps_and_seams_are_found_and_strangers_are_not(tiles):
    samples = read_samples(tiles)
    names = [Path(path).stem for path in samples.paths]
    found = {frozenset((names[row], names[other])) for row, other in find_neighbours(samples)}
    assert frozenset(("right", "copy")) in found, "a copy"
    assert frozenset(("left", "right")) in found and frozenset(("left", "below")) in found, "seams"
    assert frozenset(("left", "moved")) in found, "an overlap"
    assert not {"far", "other", "plain1", "plain2"} & set().union(*found)


# Divided


@pytest.fixture
def numbered(tmp_path) -> Path:
    """Two classes of forty images; the label file says which photograph each was cut from."""
    rows = ["path,class,photo"]
    random = np.random.default_rng(0)
    for name in ("field", "harbor"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(40):
            path = f"{name}/{name}{number:02}.png"
            Image.fromarray(random.integers(0, 255, (4, 4, 3), dtype=np.uint8)).save(tmp_path / "set" / path)
            rows.append(f"{path},{name},{name[0]}{number // 5}")
    (tmp_path / "photos.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


@pytest.mark.parametrize(("groups", "size"), [("numbers:4", 4), ("column:photo", 5), (r"pattern:(\w+\d)\d\.", 10)])
def test_groups_are_not_divided_and_listed(numbered, groups, size):
    labels = numbered / "photos.csv" if groups.startswith("column") else None
    table = divide(numbered / "set", numbered / "out", labels=labels, groups=groups, shares=(50, 25, 25))
    divided = read_samples(numbered / "out")
    assert len(divided) == 80 and divided.task == "single-label" and "field" in table
    numbers = np.array([int(Path(path).stem[-2:]) // size for path in divided.paths])
    for name in (0, 1):
        for number in set(numbers):
            assert len(set(divided.splits[(divided.classes == name) & (numbers == number)])) == 1
    listed = (numbered / "out" / "groups.csv").read_text().splitlines()
    assert listed[0] == "group,path" and len(listed) == 81
    assert divide(numbered / "set", numbered / "out", labels=labels, groups=groups, shares=(50, 25, 25)) == table
    with pytest.raises(UserError, match=r"groups is .* there, None now"):
        divide(numbered / "set", numbered / "out", labels=labels, shares=(50, 25, 25))


def test_other_values_of_the_column_are_another_division(numbered):
    divide(numbered / "set", numbered / "out", labels=numbered / "photos.csv", groups="column:photo", how="table")
    text = (numbered / "photos.csv").read_text()
    (numbered / "photos.csv").write_text(text.replace("field/field00.png,field,f0", "field/field00.png,field,f7"))
    with pytest.raises(UserError, match="source is"):
        divide(numbered / "set", numbered / "out", labels=numbered / "photos.csv", groups="column:photo", how="table")


def test_groups_too_large_or_without_their_column_are_refused(numbered):
    with pytest.raises(UserError, match=r"no column 'tile' to group by; its columns are path, class, photo"):
        divide(numbered / "set", numbered / "out", labels=numbered / "photos.csv", groups="column:tile")
    with pytest.raises(UserError, match="class folders have no column"):
        divide(numbered / "set", numbered / "out", groups="column:tile")
    with pytest.raises(UserError, match=r"class 'field' has 40 images, all pixel-identical or of one group"):
        divide(numbered / "set", numbered / "out", groups="numbers:100")
    with pytest.raises(UserError, match="4 groups of images are too few for 70/10/20 percent: valid would have none"):
        divide(numbered / "set", numbered / "out", groups="numbers:20")
    with pytest.raises(UserError, match="leave --groups away"):
        divide(numbered / "set", numbered / "out", groups="found", split_files=["a", "b"])
    assert not (numbered / "out").exists()
