"""An installed wheel has everything that the commands read, the chart included."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because setuptools writes into the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in (*PACKAGES, CHART):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source / name)
    build = "from setuptools.build_meta import build_wheel; import sys; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(folder)], cwd=source, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


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
