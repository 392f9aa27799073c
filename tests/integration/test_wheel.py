"""An installed wheel has what the commands read, the chart included. It is compiled if possible."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHART = Path("deploy", "charts", "outrigger")
PACKAGES = ("controlplane", "outrigger", "protos", "sidecar")
RENDER = """
from outrigger.installation.chart import Chart, Release
import outrigger
print(outrigger.__file__)
print(Chart().manifests(Release(name="outrigger", namespace="outrigger-system", service="tests"), {}))
"""


SHOW_BUILD = """
from sidecar.build_info import BUILD
from sidecar.http.h1 import _head
print(BUILD, _head.__file__)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, because setuptools writes into the tree; of its data path, a few modules are compiled."""
    source = tmp_path_factory.mktemp("source")
    for name in (*PACKAGES, CHART):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "MANIFEST.in"):
        shutil.copy(ROOT / name, source / name)
    before, _, rest = (ROOT / "setup.py").read_text().partition("COMPILED = (")
    after = rest.partition("\n)\n")[2]
    (source / "setup.py").write_text(
        f'{before}COMPILED = ("sidecar/errors.py", "sidecar/timers.py")\n{after}'
    )
    return source


def build(kind: str, source: Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = f"from setuptools.build_meta import build_{kind}; import sys; build_{kind}(sys.argv[1])"
    inherited = {name: value for name, value in os.environ.items() if name != "OUTRIGGER_COMPILE"}
    return subprocess.run(
        [sys.executable, "-c", command, str(folder)],
        cwd=source,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def without_a_compiler(folder: Path) -> dict[str, str]:
    (folder / "bin").mkdir()
    return {"PATH": str(folder / "bin"), "CC": "cc"}


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = build("wheel", source, folder, OUTRIGGER_COMPILE="0")
    assert built.returncode == 0, built.stderr
    (found,) = folder.glob("*.whl")
    return found


def test_a_wheel_that_is_not_to_be_compiled_runs_everywhere(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")


@pytest.mark.timeout(600)  # of compiling on a busy machine
def test_a_wheel_is_compiled_where_a_compiler_is(source: Path, tmp_path: Path) -> None:
    built = build("wheel", source, tmp_path)
    assert built.returncode == 0, built.stderr
    (found,) = tmp_path.glob("*.whl")
    assert found.name.endswith(f"-{sysconfig.get_platform().replace('-', '_')}.whl")
    installed = tmp_path / "installed"
    with ZipFile(found) as archive:
        archive.extractall(installed)
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": str(installed)}
    asked = subprocess.run(
        [sys.executable, "-c", SHOW_BUILD], env=environment, capture_output=True, text=True, check=True
    )
    version, file = asked.stdout.split()
    assert version.endswith("/compiled")
    assert Path(file).is_relative_to(installed)


def test_without_a_compiler_a_wheel_is_not_compiled_and_the_build_says_so(
    source: Path, tmp_path: Path
) -> None:
    built = build("wheel", source, tmp_path, **without_a_compiler(tmp_path))
    assert built.returncode == 0, built.stderr
    assert "The data path is not compiled, and costs more CPU: no C compiler is installed" in built.stderr
    (found,) = tmp_path.glob("*.whl")
    assert found.name.endswith("-py3-none-any.whl")


def test_without_a_compiler_a_compiled_wheel_is_refused(source: Path, tmp_path: Path) -> None:
    built = build("wheel", source, tmp_path, OUTRIGGER_COMPILE="1", **without_a_compiler(tmp_path))
    assert built.returncode == 1
    reason = "OUTRIGGER_COMPILE is 1, but the data path cannot be compiled: no C compiler is installed"
    assert reason in built.stderr


def test_another_choice_is_refused(source: Path, tmp_path: Path) -> None:
    built = build("wheel", source, tmp_path, OUTRIGGER_COMPILE="yes")
    assert built.returncode == 1
    assert "OUTRIGGER_COMPILE must be 0 or 1, not 'yes'" in built.stderr


def test_a_source_distribution_can_be_compiled(source: Path, tmp_path: Path) -> None:
    assert build("sdist", source, tmp_path).returncode == 0
    (found,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(found) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.py", "sidecar/http/h1/_head.pyx", "sidecar/http/h1/head_python.py"} <= names
    assert not [name for name in names if name.endswith((".c", ".so"))]


def test_it_contains_the_chart(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        found = {
            name.removeprefix("outrigger/installation/chart/"): archive.read(name)
            for name in archive.namelist()
            if name.startswith("outrigger/installation/chart/")
        }
    read = {"Chart.yaml", "values.yaml"} | {
        f"templates/{each.name}" for each in (CHART / "templates").iterdir()
    }
    assert found == {name: (ROOT / CHART / name).read_bytes() for name in read}


def test_the_chart_is_rendered_from_an_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    """The dependencies are those of the tests; the package itself is the wheel's."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    (site_packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    with ZipFile(wheel) as archive:
        archive.extractall(site_packages)
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "python", "-c", RENDER],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    where, _, manifests = done.stdout.partition("\n")
    assert Path(where).is_relative_to(site_packages)
    assert "kind: Deployment\n" in manifests
