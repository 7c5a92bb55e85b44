import pytest

from rsml.data import catalog
from rsml.data.spelling import match_label, match_labels, words_of
from rsml.utils.errors import UserError


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("bare-soil", ["bare", "soil"]),
        ("mobile-home", ["mobile", "home"]),
        ("mobile home", ["mobile", "home"]),
        ("storagetanks", ["storage", "tanks"]),
        ("StorageTanks", ["storage", "tanks"]),
        ("mobilehomepark", ["mobile", "home", "park"]),
        ("footballField", ["football", "field"]),
        ("railway_station", ["railway", "station"]),
        ("sea_ice", ["sea", "ice"]),
        ("airplane", ["airplane"]),
        ("overpass", ["overpass"]),
        ("snowberg", ["snowberg"]),
        ("NDVIMap", ["ndvi", "map"]),
        ("moorland", ["moorland"]),
    ],
)
def test_words_of_a_label(label, words):
    assert words_of(label) == words


def test_every_label_of_the_catalog_is_cut_into_dictionary_words():
    joined = [label for known in catalog.CATALOG for label in known.labels if len("".join(words_of(label))) > 12]
    assert joined and all(len(words_of(label)) > 1 for label in joined)
    for known in catalog.CATALOG:
        spelt_otherwise = [" ".join(words_of(label)).upper() for label in known.labels]
        assert match_labels(spelt_otherwise[::-1], known.labels) is not None, known.name


def test_labels_match_in_other_spellings_and_nothing_is_guessed():
    ucm = catalog.find("UC Merced-ML").labels
    assert match_label("soil", ucm) == "bare-soil" and match_label("Mobile Home", ucm) == "mobile-home"
    assert match_label("car", ucm) == "cars" and match_label("storage tanks", ucm) == "tanks"
    assert match_label("glacier", ucm) is None
    assert match_label("tree", ("trees", "TREES_", "grass")) is None
    assert match_labels(["soil", "bare-soil"], ["bare-soil", "sand"]) is None


@pytest.mark.parametrize(
    ("name", "task", "labels", "images"),
    [
        ("UC Merced", "single-label", 21, 2100),
        ("UC Merced-ML", "multi-label", 17, 2100),
        ("AID", "single-label", 30, 10000),
        ("AID-ML", "multi-label", 17, 3000),
        ("DFC15-ML", "multi-label", 8, 3342),
        ("NWPU-RESISC45", "single-label", 45, 31500),
        ("WHU-RS19", "single-label", 19, 1005),
    ],
)
def test_known_sets_have_their_published_sizes(name, task, labels, images):
    known = catalog.find(name)
    assert (known.task, len(known.labels), known.images) == (task, labels, images)
    assert known.source.count("http") and known.terms and known.citation


def test_names_are_found_in_any_spelling_and_the_nearest_is_suggested():
    assert catalog.find("ucm_ml").name == "UC Merced-ML" and catalog.find("resisc45").name == "NWPU-RESISC45"
    with pytest.raises(UserError, match="the nearest is 'AID-ML'"):
        catalog.find("AIDD-ML")


def test_recognise_distinguishes_sets_of_the_same_labels():
    labels = catalog.find("AID-ML").labels
    assert catalog.recognise(labels, "multi-label", ["airport", "storagetanks"]).name == "AID-ML"
    assert catalog.recognise(labels, "multi-label", ["agricultural", "golfcourse"]).name == "UC Merced-ML"
    assert catalog.recognise(labels, "multi-label", ["volcano"], count=3000).name == "AID-ML"
    assert catalog.recognise(labels, "multi-label", ["volcano"], count=7) is None
    assert catalog.recognise(labels[:-1], "multi-label") is None


def test_locate_finds_a_set_or_says_where_it_looked_and_how_to_get_it(tmp_path):
    with pytest.raises(UserError, match=r"WHU-RS19 was not found.*RSDataset.*BED4RS.*Google Earth"):
        catalog.locate("whu-rs19", tmp_path)
    (tmp_path / "RSDataset" / "footballField").mkdir(parents=True)
    assert catalog.locate("WHU-RS19", tmp_path) == tmp_path / "RSDataset"
    assert catalog.locate("WHU-RS19", tmp_path / "RSDataset") == tmp_path / "RSDataset"
