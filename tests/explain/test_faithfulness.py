import numpy as np
import pytest

from rsml.explain.faithfulness import area_under, block_order, energy_inside, pointing


@pytest.fixture
def mask():
    found = np.zeros((16, 16), bool)
    found[4:8, 8:12] = True
    return found


def test_a_map_of_the_label_itself_is_perfect_and_a_flat_one_is_chance(mask):
    assert pointing(mask.astype(float), mask) == energy_inside(mask.astype(float), mask) == 1
    flat = np.ones((16, 16))
    assert pointing(flat, mask) == energy_inside(flat, mask) == mask.mean() == energy_inside(0 * flat, mask)
    assert pointing(1 - mask, mask) == energy_inside(1.0 - mask, mask) == 0


def test_energy_is_the_share_of_the_sum(mask):
    assert energy_inside(np.where(mask, 3.0, 0.1), mask) == pytest.approx(48 / (48 + 24))


def test_random_maps_have_the_energy_of_their_mask(mask):
    random = np.random.default_rng(0)
    found = [energy_inside(random.random((16, 16)), mask) for _ in range(300)]
    assert np.mean(found) == pytest.approx(mask.mean(), abs=0.003)


def test_blocks_are_ordered_by_the_map(mask):
    order = block_order(mask.astype(float), 4)
    assert order[0] == 1 * 4 + 2 and sorted(order) == list(range(16))


def test_deleting_the_label_first_lowers_the_score_soonest(mask):
    image = np.where(mask[..., None], 255.0, 0.0) * np.ones(3)

    def score(images):
        return images[:, mask].mean((1, 2)) / 255

    good, bad = block_order(mask.astype(float), 4), block_order(1.0 - mask, 4)
    assert area_under(image, good, score, insert=False) < area_under(image, bad, score, insert=False) - 0.3
    assert area_under(image, good, score, insert=True) > area_under(image, bad, score, insert=True) + 0.3
