import numpy as np
import pytest

from rsml.scenes import write
from rsml.scenes.maps import MapNoise, coarse, land_cover_samples

GROUND = np.repeat(np.array([[10, 20, 60, 80]], np.uint8), 32, axis=0).repeat(8, axis=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("scenes") / "drawn", count=42, size=32, seed=3, land_cover=True)


def test_the_noise_is_a_function_of_seed_and_scene():
    noise = MapNoise(confusion=0.5, shift=3, pixel=4)
    one = [noise.disturb(GROUND, 0, index) for index in range(30)]
    np.testing.assert_array_equal(one, [noise.disturb(GROUND, 0, index) for index in range(30)])
    assert any(
        (a != b).any() for a, b in zip(one, [noise.disturb(GROUND, 1, index) for index in range(30)], strict=True)
    )
    np.testing.assert_array_equal(MapNoise().disturb(GROUND, 0, 0), GROUND)


def test_confusion_exchanges_whole_classes_as_often_as_asked():
    disturbed = np.array([MapNoise(confusion=0.3).disturb(GROUND, 0, index)[0, ::8] for index in range(500)])
    assert (disturbed != GROUND[0, ::8]).mean() == pytest.approx(0.3, abs=0.04)
    assert set(disturbed[:, 2]) == {60, 50} and set(disturbed[:, 1]) == {20, 30, 10}


def test_a_shift_moves_the_map_by_so_many_pixels_at_most_and_repeats_its_edge():
    borders = [MapNoise(shift=3).disturb(GROUND, 0, index)[0].tolist().index(20) for index in range(60)]
    assert set(borders) == set(range(5, 12))
    assert (MapNoise(shift=3).disturb(GROUND, 0, 0)[:, 0] == 10).all()


def test_a_coarse_pixel_has_the_most_frequent_class():
    codes = np.array([[1, 1, 2], [1, 3, 2], [4, 4, 5]], dtype=np.uint8)
    assert coarse(codes, 2).tolist() == [[1, 1, 2], [1, 1, 2], [4, 4, 5]]
    assert coarse(codes, 1) is codes
    assert (coarse(codes, 8) == 1).all()


def test_one_kind_of_noise_does_not_change_the_other():
    # Of these two classes neither can be taken for what the other is taken for.
    ground = GROUND[:, 16:]
    shifted = MapNoise(shift=4).disturb(ground, 0, 5)
    both = MapNoise(confusion=1.0, shift=4).disturb(ground, 0, 5)
    assert not np.isin(both, ground).any()
    np.testing.assert_array_equal(np.diff(shifted[0].astype(int)) != 0, np.diff(both[0].astype(int)) != 0)


def test_scenes_have_the_shares_of_their_maps_and_true_ones_in_the_test_part(folder):
    true = land_cover_samples(folder, MapNoise(), seed=3)
    assert true.task == "proportions" and len(true.label_names) == 8
    noisy = land_cover_samples(folder, MapNoise(confusion=0.5, pixel=16), seed=3)
    for side, same in (("train", False), ("valid", False), ("test", True)):
        left, right = true.part(side), noisy.part(side)
        shared = [name for name in left.paths if name in set(right.paths)]
        rows = [(list(part.paths).index(name) for name in shared) for part in (left, right)]
        equal = np.array_equal(left.labels[list(rows[0])], right.labels[list(rows[1])])
        assert equal == same
    forest = true.scenes == "forest"
    assert true.labels[forest][:, true.label_names.index("forest")].mean() > 0.5
