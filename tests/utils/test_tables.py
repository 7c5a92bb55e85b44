from rsml.utils.tables import render
from rsml.utils.text import counted


def test_a_table_that_is_too_wide_is_folded_behind_its_first_column():
    header = ["label", *(f"column {number}" for number in range(6))]
    rows = [["sea", *["1.0"] * 6], ["sandy beach", *["22.5"] * 6]]
    whole = render(header, rows, width=200)
    assert len(whole.splitlines()) == 4 and max(map(len, whole.splitlines())) == 11 + 6 * 10
    folded = render(header, rows, width=40)
    assert max(map(len, folded.splitlines())) <= 40
    parts = folded.split("\n\n")
    assert [part.splitlines()[0].split("  ")[-1] for part in parts] == ["column 1", "column 3", "column 5"]
    assert all(part.splitlines()[2].startswith("sea ") for part in parts)
    assert folded.count("22.5") == 6 and folded.endswith("\n")


def test_attached_columns_stay_with_their_left_neighbour():
    header = ["variant", "seeds", "f1", "vs a", "map", "vs a"]
    folded = render(header, [["a", "2", "1" * 9, "2" * 9, "3" * 9, "4" * 9]], width=40, attached=[3, 5])
    assert [part.splitlines()[0].split() for part in folded.split("\n\n")] == [
        ["variant", "seeds", "f1", "vs", "a"],
        ["variant", "map", "vs", "a"],
    ]


def test_one_column_wider_than_the_line_is_still_shown():
    assert "x" * 50 in render(["a", "b"], [["1", "x" * 50]], width=20)


def test_numbers_have_their_nouns():
    assert counted(0, "image") == "0 images" and counted(1, "query", "queries") == "1 query"
    assert counted(2, "query", "queries") == "2 queries"
