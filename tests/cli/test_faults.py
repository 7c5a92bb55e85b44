import errno

import pytest

from rsml.cli.faults import run
from rsml.utils.errors import UserError


def test_a_users_fault_is_one_line_and_exit_code_2(capsys):
    def command():
        raise UserError("data: not\n  found")

    assert run(command) == 2
    assert capsys.readouterr().err == "error: data: not\\n found\n"


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


def test_a_package_that_is_not_installed_is_named_with_its_extra(capsys):
    def lacking(name):
        def command():
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

        return command

    assert run(lacking("rasterio.warp")) == 2
    assert capsys.readouterr().err == (
        "error: the package rasterio is not installed; get it with: pip install 'rsml[raster]'\n"
    )
    assert run(lacking("tensorflow")) == 2
    assert "pip install tensorflow" in capsys.readouterr().err
    with pytest.raises(ModuleNotFoundError):
        run(lacking("rsml.nothing"))
