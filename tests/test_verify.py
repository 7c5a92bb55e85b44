"""`rsml check` names every file that was damaged, in every way, and says nothing of a folder that is whole."""

import json
import os
import shutil

import numpy as np
import pytest

from rsml.cli.main import main as rsml
from rsml.config import Experiment
from rsml.data.samples import Samples
from rsml.run import Run
from rsml.utils.errors import UserError
from rsml.utils.locks import lock
from rsml.verify import verify
from tests.sweeps.works import divide, index, make_data, make_model


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def folders(data, tmp_path_factory):
    """A finished run, an index and a division, each whole."""
    place = tmp_path_factory.mktemp("made")
    run = Run.start(Experiment(name="run"), place)
    run.write_samples(Samples.read_csv(_table(data), root=data / "images", task="single-label"))
    import keras

    model = keras.models.load_model(make_model(data))
    run.write_model(model, run.files.best)
    run.write_model(model, run.files.last)
    run.files.state.parent.mkdir()
    about = np.array(json.dumps({"epoch": 1, "step": 0}))
    for state in ("state", "state.previous"):
        np.savez(run.files.state.with_stem(state), about=about, v0=np.arange(500.0))
    run.write_history([{"epoch": 1, "loss": 0.5}])
    run.write_evaluation({"test": {"metrics": {"accuracy": 1.0}}})
    divide(place / "division", data)
    index(place / "index", data)
    return place


def _table(data):
    rows = ["path,scene,split,a,b", *(f"{'ab'[n % 2]}/{n}.png,,train,{1 - n % 2},{n % 2}" for n in range(12))]
    (data / "table.csv").write_text("\n".join(rows) + "\n")
    return data / "table.csv"


def flipped(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x41
    file.write_bytes(bytes(content))


def halved(file):
    os.truncate(file, file.stat().st_size // 2)


def emptied(file):
    os.truncate(file, 0)


def grown(file):
    file.write_bytes(file.read_bytes() + b"\0more")


DAMAGES = [flipped, halved, emptied, grown, os.remove]
# A kind of file, and the damages that cannot be seen in it: pictures of a division are compared by size alone.
FILES = [
    ("run", "config.json", {os.remove}),  # without it the folder is no run
    ("run", "best.keras", set()),
    ("run", "last.keras", set()),
    ("run", "samples.csv", set()),
    ("run", "history.csv", set()),
    ("run", "metrics.json", set()),
    ("run", "state/state.npz", {os.remove, grown}),  # one that has not begun has none; what follows a zip is not read
    ("run", "state/state.previous.npz", {os.remove, grown}),
    ("index", "index.json", {os.remove}),
    ("index", "embeddings", set()),
    ("index", "samples", set()),
    ("index", "stamps", set()),
    ("division", "division.json", {os.remove}),
    ("division", "samples.csv", set()),
    ("division", "train/", {flipped, halved, grown}),
]


def file_of(folder, kind, name):
    if kind == "index" and name != "index.json":
        return folder / json.loads((folder / "index.json").read_text())["files"][name]
    if name.endswith("/"):
        return next((folder / name).rglob("*.png"))
    return folder / name


@pytest.mark.parametrize("kind", ["run", "index", "division"])
def test_a_whole_folder_has_no_faults(folders, kind, capsys):
    assert verify(folders / kind) == (kind, [])
    assert rsml(["check", str(folders / kind)]) == 0
    assert capsys.readouterr().out == f"{folders / kind}: {kind}, whole\n"


@pytest.mark.parametrize(
    ("kind", "name", "damage"),
    [(kind, name, damage) for kind, name, unseen in FILES for damage in DAMAGES if damage not in unseen],
)
def test_every_damage_is_named_with_what_to_do(folders, tmp_path, kind, name, damage, capsys):
    folder = shutil.copytree(folders / kind, tmp_path / kind)
    file = file_of(folder, kind, name)
    damage(file)
    try:
        found = verify(folder)[1]
    except UserError as fault:
        pytest.fail(f"not a finding but the end: {fault}")
    assert file in [one.file for one in found], found
    assert all(one.remedy and "\n" not in one.text() for one in found)
    assert rsml(["check", str(folder)]) == 2
    said = capsys.readouterr()
    assert str(file) in said.out and f"{len(found)} faults" in said.out and not said.err


def test_left_overs_are_named_but_not_while_somebody_writes(folders, tmp_path):
    folder = shutil.copytree(folders / "run", tmp_path / "run")
    left = folder / "state" / ".state.writing-999999999.npz"
    left.write_bytes(b"")
    assert [one.file for one in verify(folder)[1]] == [left]
    with lock(folder, "training"):
        what, found = verify(folder)
    assert found == [] and what == f"run (in use by process {os.getpid()} on {os.uname().nodename})"


def test_the_remedy_of_a_state_is_the_other_one(folders, tmp_path):
    folder = shutil.copytree(folders / "run", tmp_path / "run")
    halved(folder / "state" / "state.npz")
    assert "goes on from the other one" in verify(folder)[1][0].remedy
    os.remove(folder / "state" / "state.previous.npz")
    assert "--fresh" in verify(folder)[1][0].remedy


def test_a_folder_of_nothing_is_refused(tmp_path, capsys):
    assert rsml(["check", str(tmp_path)]) == 2
    assert "neither a run, an index nor a division" in capsys.readouterr().err


def test_a_finished_run_without_its_model_is_not_complete(folders, tmp_path):
    from rsml.training.loop import train

    shutil.copytree(folders / "run", tmp_path / "run")
    for damage, said in ((flipped, "its checksum is another"), (os.remove, "is gone")):
        damage(tmp_path / "run" / "best.keras")
        with pytest.raises(UserError, match=rf"best\.keras: {said}.*though the run is complete"):
            train(Experiment(name="run"), root=tmp_path)
