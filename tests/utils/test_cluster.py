import json

import pytest

from rsml.utils.cluster import Cluster, code_fingerprint, find_cluster
from rsml.utils.errors import UserError

TWO = {"cluster": {"worker": ["b:1", "c:2"]}, "task": {"type": "worker", "index": 1}}
STEP = {"SLURM_JOB_ID": "12", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}


def test_hosts_are_those_given_and_go_before_the_environments():
    environment = {"TF_CONFIG": json.dumps(TWO), **STEP, "SLURM_STEP_NODELIST": "n[1-4]"}
    assert find_cluster("a:1, b:2", 1, environment) == Cluster(("a:1", "b:2"), 1)
    assert find_cluster(None, None, environment) == Cluster(("b:1", "c:2"), 1)
    assert find_cluster(None, None, {}) is None
    assert find_cluster("a:1", 0, {}) is None, "one host is no cluster"


def test_tensorflows_chief_is_the_first_host():
    of = {"worker": ["b:1", "c:2"], "chief": ["a:3"]}
    places = [("chief", 0), ("worker", 0), ("worker", 1)]
    for rank, (kind, number) in enumerate(places):
        text = json.dumps({"cluster": of, "task": {"type": kind, "index": number}})
        assert find_cluster(None, None, {"TF_CONFIG": text}) == Cluster(("a:3", "b:1", "c:2"), rank)


@pytest.mark.parametrize(
    ("short", "names"),
    [
        ("gpu[08-09,12],login", ["gpu08", "gpu09", "gpu12", "login"]),
        ("a,b,c,d", ["a", "b", "c", "d"]),
        ("rack[1-2]-node[3-4]", ["rack1-node3", "rack1-node4", "rack2-node3", "rack2-node4"]),
        ("n[098-101]", ["n098", "n099", "n100", "n101"]),
    ],
)
def test_slurms_short_form_is_expanded(short, names):
    found = find_cluster(None, None, {**STEP, "SLURM_STEP_NODELIST": short})
    assert found is not None and found.rank == 3
    assert [host.rpartition(":")[0] for host in found.hosts] == names
    assert len({host.rpartition(":")[2] for host in found.hosts}) == 1


@pytest.mark.parametrize("tasks", ["", "1"])
def test_a_step_of_one_task_is_one_host(tasks):
    environment = {"SLURM_STEP_NUM_TASKS": tasks or "1", "SLURM_STEP_NODELIST": "n1"}
    assert find_cluster(None, None, environment if tasks else {"SLURM_JOB_ID": "3"}) is None


@pytest.mark.parametrize(
    ("given", "environment", "says"),
    [
        (("a:1,b:2", None), {}, "--hosts and --rank: one is there without the other"),
        ((None, 1), {}, "--hosts and --rank: one is there without the other"),
        (("a:1,b", 0), {}, "'b' is no host:port"),
        (("a:1,b:70000", 0), {}, "'b:70000' is no host:port"),
        (("a:1,a:1", 0), {}, "names a host twice"),
        (("a:1,b:1", 2), {}, "--rank 2: expected 0 to 1"),
        (("a:1,b:1", -1), {}, "--rank -1: expected 0 to 1"),
        ((None, None), {"TF_CONFIG": "{"}, "TF_CONFIG: expected"),
        (
            (None, None),
            {"TF_CONFIG": json.dumps({**TWO, "task": {"type": "worker", "index": 2}})},
            "TF_CONFIG: expected",
        ),
        ((None, None), {"TF_CONFIG": json.dumps({**TWO, "task": {"type": "ps", "index": 0}})}, "TF_CONFIG: expected"),
        ((None, None), {**STEP, "SLURM_STEP_NODELIST": "n[1-2]"}, "4 tasks on 2 hosts; start one a host"),
    ],
)
def test_hosts_that_cannot_be_are_refused_in_one_line(given, environment, says):
    with pytest.raises(UserError, match=says.replace("(", r"\(")):
        find_cluster(*given, environment)


def test_the_codes_fingerprint_is_that_of_the_files():
    assert code_fingerprint() == code_fingerprint() and len(code_fingerprint()) == 16
