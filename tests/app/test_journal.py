import json
import os
import subprocess
import sys
import threading

import pytest

from rsml.app.journal import Conflict, Journal
from rsml.data.corrections import read_decisions
from rsml.utils.errors import UserError


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "app" / "journal.jsonl", root=str(tmp_path), labels=["sea", "sand"])


def test_what_is_decided_is_read_back_by_another_process(journal):
    kept = journal.append("a.png", ["sea"], note='a "note"\nof two lines', by="Ada")
    found = read_decisions(journal.file)
    assert found.current() == {"a.png": kept}
    assert (kept.labels, kept.note, kept.by) == (("sea",), 'a "note"\nof two lines', "Ada")
    assert found.head["labels"] == ["sea", "sand"]


def test_a_second_tab_that_has_not_seen_a_decision_does_not_overwrite_it(journal):
    first = journal.append("a.png", ["sea"])
    other = Journal(journal.file)
    with pytest.raises(Conflict, match=r"a\.png: was decided at .*, after it was shown here") as told:
        other.append("a.png", ["sand"], seen="")
    assert told.value.now == first
    assert len(journal.file.read_text().splitlines()) == 2
    other.append("a.png", ["sand"], seen=told.value.version)
    assert journal.decisions().current()["a.png"].labels == ("sand",)


def test_of_many_that_decide_at_once_exactly_one_is_taken(journal):
    journals = [Journal(journal.file, labels=[]) for _ in range(8)]
    outcomes = []

    def decide(number):
        try:
            outcomes.append(journals[number].append("a.png", [str(number)]).labels[0])
        except Conflict:
            outcomes.append(None)

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = [outcome for outcome in outcomes if outcome is not None]
    assert len(taken) == 1
    assert journal.decisions().current()["a.png"].labels == (taken[0],)


def test_undo_takes_back_the_last_decision_and_shows_the_one_before(journal):
    journal.append("a.png", ["sea"])
    seen = journal.decisions().versions["a.png"]
    journal.append("a.png", None, seen=seen)
    journal.undo("a.png", seen=journal.decisions().versions["a.png"])
    assert journal.decisions().current()["a.png"].labels == ("sea",)
    journal.undo("a.png", seen=journal.decisions().versions["a.png"])
    assert journal.decisions().current() == {}
    with pytest.raises(UserError, match="nothing is decided about it"):
        journal.undo("a.png", seen="")


def test_undo_refuses_to_take_back_what_another_tab_has_decided_since(journal):
    journal.append("a.png", ["sea"])
    mine = journal.decisions().versions["a.png"]
    Journal(journal.file).append("a.png", ["sand"], seen=mine)
    with pytest.raises(Conflict):
        journal.undo("a.png", seen=mine)
    assert journal.decisions().current()["a.png"].labels == ("sand",)


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_a_line_that_a_power_cut_left_half_written_costs_that_line_alone(journal, cut):
    journal.append("a.png", ["sea"])
    journal.append("b.png", ["sand"])
    os.truncate(journal.file, journal.file.stat().st_size - cut)
    after = Journal(journal.file, labels=["sea", "sand"])
    after.append("c.png", ["sand"])
    assert {"a.png", "c.png"} <= set(read_decisions(journal.file).current()) <= {"a.png", "b.png", "c.png"}
    assert set(Journal(journal.file).decisions().current()) == set(read_decisions(journal.file).current())


def test_a_killed_process_leaves_every_decision_it_has_answered(tmp_path):
    """The writer is ended by SIGKILL right after it prints what it has decided."""
    script = (
        "import os, signal, sys\nfrom rsml.app.journal import Journal\n"
        "journal = Journal(sys.argv[1])\n"
        "for number in range(20):\n    journal.append(f'{number}.png', ['sea'])\n    print(number, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    file = tmp_path / "journal.jsonl"
    done = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == -9
    answered = {f"{number}.png" for number in done.stdout.split()}
    assert len(answered) == 20
    assert set(read_decisions(file).current()) == answered


def test_what_is_no_journal_is_refused(tmp_path):
    with pytest.raises(UserError, match="journal not readable"):
        read_decisions(tmp_path / "none.jsonl")
    (tmp_path / "other.jsonl").write_text(json.dumps({"hello": 1}) + "\n")
    with pytest.raises(UserError, match="not a journal of corrections"):
        read_decisions(tmp_path / "other.jsonl")
