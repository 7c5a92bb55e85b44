import json
from pathlib import Path

import pytest

from rsml.config import Experiment, Training, override
from rsml.config_files import load_config
from rsml.utils.errors import UserError

PLAIN = Experiment(name="a")
SIGNA = Path(__file__).parent.parent / "configs" / "signa.py"


def changed(*settings):
    return override(PLAIN, settings)[0]


def test_settings_are_typed():
    experiment = changed("training.epochs=5", "model.weights=imagenet", "data.bands=[4,3,2]", "training.freeze=true")
    assert experiment.training.epochs == 5
    assert experiment.model.weights == "imagenet"
    assert experiment.data.bands == (4, 3, 2)
    assert experiment.training.freeze is True


def test_python_and_json_words_for_nothing_both_work():
    assert (
        override(Experiment(name="a", training=Training(patience=3)), ["training.patience=None"])[0].training.patience
        is None
    )
    assert (
        override(Experiment(name="a", training=Training(patience=3)), ["training.patience=null"])[0].training.patience
        is None
    )


def test_what_was_overridden_is_listed_with_the_old_value():
    assert override(PLAIN, ["training.epochs=5"])[1] == ["training.epochs = 5 (was 20)"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("training.epoch=5", "unknown key 'epoch' in training (did you mean 'epochs'?)"),
        ("trianing.epochs=5", "unknown key 'trianing' (did you mean 'training'?)"),
        ("training.epochs=many", "'training.epochs' is 'many'"),
        ("training.epochs=0", "'training.epochs' is 0"),
        ("training.learning_rate=inf", "training.learning_rate"),
        ("training.epochs", "expected key=value"),
        ("seed.x=1", "'seed' has no keys below it"),
        ("methods=segna", "unknown method 'segna'"),
        ("methods.plain.x=1", "'methods' is empty"),
        ("data.fractions=[70,10,30]", "sum to 100"),
        ("name=a/b", "name"),
        ("objective={'kind':'hinge'}", "objective"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(setting, said):
    with pytest.raises(UserError) as fault:
        changed(setting)
    assert said in str(fault.value)
    assert "\n" not in str(fault.value)


def test_methods_are_entered_by_kind_and_composed_by_plus():
    assert [method.kind for method in changed("methods=plain+plain").methods] == ["plain", "plain"]


def test_the_dump_is_json_and_reads_back_equal():
    experiment = changed("methods=plain", "training.milestones={0.5: 0.1}")
    assert Experiment.parse(json.loads(json.dumps(experiment.dump()))) == experiment


def write(tmp_path, text):
    file = tmp_path / "x.py"
    file.write_text(text)
    return file


def test_a_config_file_may_take_arguments(tmp_path):
    file = write(
        tmp_path,
        "from rsml.config import Experiment, Training\n"
        "def experiment(epochs=3):\n    return Experiment(name='x', training=Training(epochs=epochs))\n",
    )
    assert load_config(file).training.epochs == 3
    assert load_config(file, ["epochs=7"]).training.epochs == 7
    with pytest.raises(UserError, match=r"unknown argument 'epoch=7'.*did you mean 'epochs'"):
        load_config(file, ["epoch=7"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = (\n", "line 1"),
        ("\nexperiment = 1 / 0\n", "line 2: ZeroDivisionError"),
        ("experiment = 3\n", "found int"),
        ("", "found NoneType"),
        ("from rsml.config import Experiment\nexperiment = Experiment(name='a', seeds=1)\n", "unknown key 'seeds'"),
        ("import nothing_like_it\n", "line 1: ModuleNotFoundError"),
    ],
)
def test_a_broken_config_file_is_one_line(tmp_path, text, said):
    with pytest.raises(UserError) as fault:
        load_config(write(tmp_path, text))
    assert said in str(fault.value) and "x.py" in str(fault.value)
    assert "\n" not in str(fault.value)


def test_a_missing_config_names_the_nearest(tmp_path):
    write(tmp_path, "")
    with pytest.raises(UserError, match="no such file"):
        load_config(tmp_path / "y.py")


def test_the_shipped_configs_are_valid():
    files = sorted(set(SIGNA.parent.glob("*.py")) - {SIGNA.parent / "divide.py"})
    assert files
    needed = {"signa": ["folder=x"], "own": ["folder=x"]}
    names = [load_config(file, needed.get(file.stem, [])).name for file in files]
    assert len(set(names)) == len(names)


def test_a_config_argument_that_is_needed_is_asked_for():
    with pytest.raises(UserError, match=r"needs --set folder="):
        load_config(SIGNA)
    with pytest.raises(UserError, match=r"'dataset' is 'resisc'"):
        load_config(SIGNA, ["folder=x", "dataset=resisc"])


@pytest.mark.parametrize("settings", [["methods=grn"], ["methods=r4c"], ["objective=improved-cross-entropy"]])
def test_mixed_labels_are_refused_where_they_cannot_be_learned_from(settings):
    experiment = load_config(SIGNA.with_name("scenes.py"))
    mixed, _ = override(experiment, ["methods=plain", "augment.mixup=0.2"])
    with pytest.raises(UserError, match="cannot learn"):
        override(mixed, settings)
