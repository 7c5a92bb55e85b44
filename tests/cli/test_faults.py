import errno
import subprocess
import sys
from pathlib import Path

import pytest

from rsml.cli.faults import run
from rsml.utils.errors import UserError

ROOT = Path(__file__).parents[2]


def test_a_users_fault_is_one_line_and_exit_code_2(capsys):
    def command():
        raise UserError("data: not\n  found")

    assert run(command) == 2
    assert capsys.readouterr().err == "error: data: not found\n"


@pytest.mark.parametrize(("code", "said"), [(errno.ENOSPC, "no space left"), (errno.EACCES, "no permission")])
def test_disk_and_permission_faults_are_one_line(capsys, code, said):
    def command():
        raise OSError(code, "reason", "some/file")

    assert run(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: some/file: ") and said in error and error.count("\n") == 1


def test_interruption_and_success():
    def interrupted():
        raise KeyboardInterrupt

    assert run(interrupted) == 130
    assert run(lambda: None) == 0
    assert run(lambda: 3) == 3


def test_a_fault_of_ours_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0)


@pytest.mark.parametrize("script", ["train.py", "predict.py", "divide_dataset.py"])
def test_help_imports_nothing_heavy(script):
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{script!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / script)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'pandas', 'pydantic', 'rsml'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
