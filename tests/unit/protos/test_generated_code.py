from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from protos.generate_xds import FILE, serialized_files

ROOT = Path(__file__).parents[3]


def lower_bound(package: str) -> tuple[int, ...]:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (requirement,) = (text for text in dependencies if re.match(rf"{package}\b", text))
    return version(re.findall(r">=([0-9.]+)", requirement)[0])


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)))


@pytest.mark.parametrize(
    ("package", "file", "generated_for"),
    [
        ("protobuf", "ca_pb2.py", r"# Protobuf Python Version: ([0-9.]+)"),
        ("protobuf", "nds_pb2.py", r"# Protobuf Python Version: ([0-9.]+)"),
        ("grpcio", "ca_pb2_grpc.py", r"GRPC_GENERATED_VERSION = '([0-9.]+)'"),
    ],
)
def test_the_oldest_allowed_version_can_import_the_generated_code(
    package: str, file: str, generated_for: str
) -> None:
    """The generated code cannot be imported with an older runtime."""
    (needed,) = re.findall(generated_for, (ROOT / "protos" / file).read_text())
    assert lower_bound(package) >= version(needed)


def test_the_messages_of_the_sidecar_are_those_of_xds_protos() -> None:
    assert serialized_files() == FILE.read_bytes(), "run `make protos`"
