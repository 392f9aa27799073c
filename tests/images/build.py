"""Carries out a Dockerfile without a container engine. As there, each RUN and COPY makes a layer, kept until
an instruction up to it, or a file that it copies, changes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from tests.images.dockerfile import Context, Dockerfile, DockerfileError, Instruction, Stage
from tests.images.sandbox import DOCKER_CAPABILITIES, Container, Volume, with_merged

CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "outrigger" / "images"
MIRROR: Final = "http://deb.debian.org/debian"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# How this machine reaches the registries: the only differences from the environment of `docker build`.
_PASSED: Final = ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL")
_ROOTS: Final = Volume(source=Path("/etc/ssl/certs/ca-certificates.crt"), target="/run/machine-roots.pem")


def remove_unused_layers(cache: Path = CACHE, *, older_than_s: float = 7 * 24 * 3600) -> None:
    """Those whose last use is longer ago, and what a killed build left."""
    for layer in cache.glob("*"):
        if time.time() - layer.stat().st_mtime > older_than_s:
            shutil.rmtree(layer)


class BuildError(Exception):
    """The line of the Dockerfile, and the output of its command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """``layers`` from the lowest to the highest. ``digest`` changes with their contents. The rest is the
    configuration of programs."""

    digest: str
    layers: tuple[Path, ...] = ()
    environment: Mapping[str, str]
    folder: str = "/"
    user: str = "0:0"
    entrypoint: tuple[str, ...] = ()
    labels: Mapping[str, str]
    stop_signal: str = ""


@dataclass(slots=True)
class Builder:
    """Builds for the platform ``linux/{architecture}``."""

    dockerfile: Dockerfile
    context: Context
    architecture: str
    say: Callable[[str], None]
    cache: Path = CACHE
    _built: dict[str, Image] = field(default_factory=dict)

    def image(self, name: str) -> Image:
        """Raises `BuildError`."""
        if name not in self._built:
            self._built[name] = self._build(self.dockerfile.stages[name])
        return self._built[name]

    def _build(self, stage: Stage) -> Image:
        image = self._base(stage)
        arguments: dict[str, str] = {}
        for instruction in stage.instructions:
            if instruction.keyword == "ARG" and instruction.value == "TARGETARCH":
                arguments["TARGETARCH"] = self.architecture
            text = f"{image.digest} {arguments} {instruction.keyword} {instruction.flags} {instruction.value}"
            digest = hashlib.sha256(text.encode() + self._contents(instruction)).hexdigest()[:24]
            image = replace(configured(image, instruction), digest=digest)
            if instruction.keyword in ("RUN", "COPY"):
                image = replace(
                    image, layers=(*image.layers, self._layer(stage, instruction, image, arguments))
                )
        return image

    def _layer(
        self, stage: Stage, instruction: Instruction, image: Image, arguments: Mapping[str, str]
    ) -> Path:
        layer = self.cache / image.digest
        if layer.exists():
            os.utime(layer)
            return layer
        self.say(f"[{stage.name}] {instruction.keyword} {_short(instruction.value)}")
        with self._new(layer) as (made, scratch):
            made.mkdir()
            if instruction.keyword == "RUN":
                self._run_line(instruction, image, made, scratch, arguments)
            elif "from" in instruction.flags:
                self._copy_from(instruction, made, scratch)
            else:
                self._copy(instruction, image, made)
        return layer

    @contextmanager
    def _new(self, layer: Path) -> Iterator[tuple[Path, Path]]:
        """Gives the path that becomes the layer, and an empty folder."""
        self.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.cache, prefix=".building-") as folder:
            scratch = Path(folder) / "scratch"
            scratch.mkdir()
            yield Path(folder) / "layer", scratch
            os.utime(Path(folder) / "layer")  # COPY sets the time of its source
            (Path(folder) / "layer").rename(layer)

    def _base(self, stage: Stage) -> Image:
        if stage.base in self.dockerfile.stages:
            return self.image(stage.base)
        if stage.base == "scratch":
            return Image(digest="scratch", environment={}, labels={})
        name = stage.base.partition("@")[0].rpartition("/")[2]
        if not name.startswith("debian:"):
            raise DockerfileError(f"line {stage.line}: no replacement for the image {stage.base}")
        suite = name.removeprefix("debian:").partition("-")[0]
        tree = self.cache / f"debian-{suite}"
        if not tree.exists():
            self.say(f"FROM {name}: mmdebstrap --variant=minbase {suite}")
            with self._new(tree) as (made, _):
                _run(["mmdebstrap", "--quiet", "--variant=minbase", suite, str(made), MIRROR], f"FROM {name}")
                made.chmod(0o755)
        os.utime(tree)
        return Image(
            digest=hashlib.sha256(stage.base.encode()).hexdigest(),
            layers=(tree,),
            environment={"PATH": _PATH},
            labels={},
        )

    def _contents(self, instruction: Instruction) -> bytes:
        """What a COPY reads: the files, or the other stage."""
        if instruction.keyword != "COPY":
            return b""
        if "from" in instruction.flags:
            return self.image(instruction.flags["from"]).digest.encode()
        digest = hashlib.sha256()
        for name in self._sources(instruction):
            path = self.context.folder / name
            content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
            digest.update(f"{name} {len(content)} ".encode() + content)
        return digest.digest()

    def _sources(self, instruction: Instruction) -> list[Path]:
        found = [name for source in instruction.words()[:-1] for name in self.context.files(source)]
        if not found:
            raise DockerfileError(f"line {instruction.line}: COPY finds no file")
        return found

    def _run_line(
        self, instruction: Instruction, image: Image, layer: Path, scratch: Path, arguments: Mapping[str, str]
    ) -> None:
        passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
        container = Container(
            layers=image.layers,
            upper=layer,
            environment={**image.environment, **passed, **arguments, "PIP_CERT": _ROOTS.target},
            capabilities=DOCKER_CAPABILITIES,
            read_only=False,
            volumes=[Volume(source=Path("/etc/resolv.conf").resolve(), target="/etc/resolv.conf"), _ROOTS],
        )
        command = ["/bin/sh", "-c", f"cd {image.folder}; {instruction.value}"]
        _run(container.command(command, scratch), f"line {instruction.line}: RUN {_short(instruction.value)}")

    def _copy_from(self, instruction: Instruction, layer: Path, scratch: Path) -> None:
        """Copies a folder of another stage."""
        source, target = instruction.words()
        into = layer / target.strip("/")
        into.mkdir(parents=True, exist_ok=True)
        copy = ["cp", "-a", f"{scratch}/root/{source.strip('/')}/.", str(into)]
        command = with_merged(self.image(instruction.flags["from"]).layers, scratch, copy)
        _run(command, f"line {instruction.line}: COPY {instruction.value}")

    def _copy(self, instruction: Instruction, image: Image, layer: Path) -> None:
        *sources, target = instruction.words()
        into = layer / os.path.join(image.folder, target).strip("/")
        mode = instruction.flags.get("chmod")
        for source in sources:
            whole = (self.context.folder / source).is_dir()
            for name in self.context.files(source):
                copied = into / (name.relative_to(source) if whole else name.name)
                _make_folder(copied.parent, layer, image.layers)
                shutil.copy2(self.context.folder / name, copied, follow_symlinks=False)
                if mode is not None:
                    copied.chmod(int(mode, 8))


def _make_folder(folder: Path, layer: Path, below: Sequence[Path]) -> None:
    """A folder that a lower layer has keeps its mode: every user can write into /tmp."""
    if folder == layer or folder.is_dir():
        return
    _make_folder(folder.parent, layer, below)
    folder.mkdir()
    for lower in reversed(below):
        if (same := lower / folder.relative_to(layer)).is_dir():
            folder.chmod(same.stat().st_mode & 0o7777)
            return


def configured(image: Image, instruction: Instruction) -> Image:
    """The image after an instruction that changes no file."""
    value = instruction.value
    match instruction.keyword:
        case "ENV":
            image = replace(image, environment={**image.environment, **instruction.pairs()})
        case "LABEL":
            image = replace(image, labels={**image.labels, **instruction.pairs()})
        case "USER":
            image = replace(image, user=value)
        case "WORKDIR":
            image = replace(image, folder=os.path.join(image.folder, value))
        case "ENTRYPOINT":
            image = replace(image, entrypoint=tuple(instruction.program()))
        case "STOPSIGNAL":
            image = replace(image, stop_signal=value)
    return image


def _run(command: Sequence[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{name}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 80 else f"{words[:77]}..."
