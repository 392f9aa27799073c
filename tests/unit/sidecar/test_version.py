from importlib.metadata import version

from sidecar.version import VERSION


def test_the_version_is_that_of_the_package() -> None:
    assert version("outrigger") == VERSION
