import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from rsml.config import Data, Experiment, Training
from rsml.data import pipeline
from rsml.data.readers import read_samples
from rsml.training import devices, train
from rsml.utils.errors import UserError
from rsml.utils.virtual_devices import split_cpu

ROOT = Path(__file__).parents[2]
# Without RSML_LONG (`make long` sets it) the cases that cover most: a memory over images, and all options at once.
LONG = bool(os.environ.get("RSML_LONG"))
EVERY = ("plain", "signa", "grn", "r4c", "geokr", "ice", "asymmetric", "focal", "lonely")
DOUBLE = [f"{case}:double" for case in (EVERY if LONG else ("grn", "asymmetric"))]
# Float32 rounds in another order over devices, and half precision coarsely so.
ROUNDED = {"plain": 1e-3, "float16": 2e-2, "bfloat16": 5e-2} if LONG else {"plain": 1e-3}


@pytest.fixture(scope="module")
def found(scene_folder, multilabel_csv, share_table, tmp_path_factory):
    """What one process with two virtual devices has found, for all cases at once."""
    folder = tmp_path_factory.mktemp("devices")
    sources = {"single-label": str(scene_folder), "multi-label": str(multilabel_csv), "proportions": str(share_table)}
    cases = [*DOUBLE, *ROUNDED, "asymmetric:resumed"]
    command = [sys.executable, "-m", "tests.training.over_devices", json.dumps(sources), str(folder), *cases]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "RSML_CPU_DEVICES": "2"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "found.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("case", [*DOUBLE, *ROUNDED])
def test_two_devices_learn_what_one_learns(found, case):
    one = found[case]
    assert one["copies"] == [1, 2] and one["steps"] >= 6
    assert one["difference"] < ROUNDED.get(case, 1e-6)
    assert one["equal"], "the devices must hold the same weights, bit for bit"
    assert one["synchronized"] and not any(one["synchronized"]), "the saved model is that of one device"


@pytest.mark.slow
def test_a_stopped_training_on_two_devices_goes_on_exactly(found):
    assert found["asymmetric:resumed"] == []


@pytest.fixture
def three_devices(monkeypatch):
    three = [tf.config.LogicalDevice(f"/device:CPU:{number}", "CPU") for number in range(3)]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: three if kind == "CPU" else [])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"devices": 4}, "training.devices=4: expected at most 3, the CPUs"),
        ({"devices": 3, "batch_size": 2}, "training.batch_size=2: smaller than the 3 devices"),
        ({"devices": 2, "xla": True}, "training.xla: not together with 2 devices"),
    ],
)
def test_devices_that_cannot_be_are_refused_in_one_line(three_devices, settings, says):
    with pytest.raises(UserError, match=says):
        devices.choose(Training(**settings), rows=100)


def test_auto_takes_no_more_devices_than_there_are_images(three_devices):
    assert devices.choose(Training(devices="auto", batch_size=1), rows=100) is devices.ALONE
    assert devices.choose(Training(devices=1), rows=100) is devices.ALONE


@pytest.mark.parametrize("value", [0, -1, "two", True, 1.5])
def test_devices_are_a_number_or_auto(value):
    with pytest.raises(ValueError, match='expected a whole number of 1 or more, or "auto"'):
        Training(devices=value)


def test_a_strategy_entered_outside_is_refused(scene_folder, tmp_path):
    experiment = Experiment(name="outside", data=Data(source=str(scene_folder), image_size=32))
    with (
        tf.distribute.OneDeviceStrategy("/cpu:0").scope(),
        pytest.raises(UserError, match=r"within the scope of a OneDeviceStrategy.*set training\.devices"),
    ):
        train(experiment, root=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("value", "says"), [("two", "expected a number of devices"), ("7", "has started with")])
def test_virtual_devices_come_in_time_or_are_refused(monkeypatch, value, says):
    tf.constant(0)
    monkeypatch.setenv("RSML_CPU_DEVICES", value)
    with pytest.raises(UserError, match=says):
        split_cpu()


def test_a_run_may_go_on_with_other_devices(scene_folder, tmp_path):
    from rsml.run import Run

    of = {"name": "run", "data": {"source": str(scene_folder)}}
    Run.start(Experiment.parse({**of, "training": {"devices": 2}}), tmp_path)
    Run.of(Experiment.parse({**of, "training": {"devices": 4}}), tmp_path)
    with pytest.raises(UserError, match="another config"):
        Run.of(Experiment.parse({**of, "training": {"devices": 4, "epochs": 3}}), tmp_path)


@pytest.mark.parametrize(
    ("count", "batch_size", "hosts", "own"), [(24, 7, 2, 1), (25, 8, 3, 2), (5, 16, 2, 4), (9, 3, 3, 1)]
)
def test_the_hosts_shares_make_up_every_batch_in_its_order(count, batch_size, hosts, own):
    shares = [pipeline.Share(hosts * own, host * own, own) for host in range(hosts)]
    steps = -(-count // batch_size)
    rows = [share.rows(count, batch_size).reshape(steps, own, -1) for share in shares]
    whole = np.concatenate(rows, axis=1)
    for step, pieces in enumerate(whole):
        sizes = (pieces >= 0).sum(axis=1)
        np.testing.assert_array_equal(
            pieces[pieces >= 0], np.arange(step * batch_size, min(count, (step + 1) * batch_size))
        )
        assert sizes.max() - sizes.min() <= 1


def test_a_host_reads_its_own_rows_only(scene_folder, monkeypatch):
    samples = read_samples(scene_folder)
    options = {"image_size": 32, "batch_size": 10, "epochs": 1, "seed": 5}
    whole = [batch["index"].numpy() for _, batch in pipeline.training_dataset(samples, **options)]
    read, decode = [], pipeline.decode_bytes
    monkeypatch.setattr(pipeline, "decode_bytes", lambda *a: read.append(a[3]) or decode(*a))
    for host in range(2):
        read.clear()
        share = pipeline.Share(2, host, 1)
        own = [batch["index"].numpy() for _, batch in pipeline.training_dataset(samples, **options, share=share)]
        expected = [np.array_split(rows, 2)[host] for rows in whole]
        assert len(own) == len(expected)
        for rows, wanted in zip(own, expected, strict=True):
            np.testing.assert_array_equal(rows, wanted)
        assert sorted(read) == sorted(str(samples.files[row]) for row in np.concatenate(own))


def test_on_one_device_dropout_and_norm_stay_what_they_are():
    images = keras.Input((4,))
    drop = keras.layers.Dropout(0.5, seed=0)
    model = keras.Model(images, drop(keras.layers.BatchNormalization()(images)))
    whole = devices.WholeBatch(model.layers)
    whole.on_epoch_begin(0)
    assert model.layers[1].synchronized and "call" in vars(drop)
    whole.on_epoch_end(0)
    assert not model.layers[1].synchronized and "call" not in vars(drop)
