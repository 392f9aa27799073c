"""The address and the token of an API server, from a kubeconfig or from the pod's service account."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import yaml
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes.aio.config.kube_config import KubeConfigLoader

# The exceptions that the client raises for a missing or malformed configuration; it does not validate a
# kubeconfig's structure.
UNREADABLE: Final = (
    ConfigException,
    yaml.YAMLError,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
)

# The interval at which the client reads a pod's own token again.
_TOKEN_AGE_S: Final = 60.0


async def read_configuration(kubeconfig: Path | None, context: str | None = None) -> Configuration:
    """Reads a context of a kubeconfig, by default its current one; or, if ``kubeconfig`` is None, the
    configuration of a pod in its cluster. ``kubeconfig`` may be a list of files, which are merged as kubectl
    does: of two entries with one name, the first is used. Raises the exceptions in `UNREADABLE`."""
    configuration = Configuration()
    # From 3.13 on, Python rejects certificates without the key identifiers of RFC 5280. Some clusters have
    # such certificates, and Go's clients (kubectl among them) accept them.
    configuration.disable_strict_ssl_verification = True
    if kubeconfig is None:
        load_incluster_config(client_configuration=configuration)
        return configuration
    files = _files(kubeconfig)
    loader = await load_kube_config(
        config_file=os.pathsep.join(map(str, files)),
        context=context or _current_context(files),
        client_configuration=configuration,
    )
    # The client's annotations lack this hook.
    configuration.refresh_api_key_hook = TokenRefresh(loader)  # type: ignore[assignment]
    return configuration


def _files(kubeconfig: Path) -> list[Path]:
    """The files of a list, as the variable ``KUBECONFIG`` has it. Some may be missing or empty, as kubectl
    permits. Raises ``OSError`` if all are: the client only logs that."""
    named = [Path(each).expanduser() for each in str(kubeconfig).split(os.pathsep) if each]
    found = [file for file in named if file.exists() and file.stat().st_size]
    if not found:
        raise FileNotFoundError(f"No such file, or it is empty: {kubeconfig}")
    return found


def _current_context(files: list[Path]) -> str | None:
    """That of the first file that has one, as kubectl merges them; the client would take the last."""
    for file in files:
        document = yaml.safe_load(file.read_text())
        if not isinstance(document, dict):
            raise ValueError(f"{file} is not a mapping")  # noqa: TRY004 -- a fault of the file
        if context := document.get("current-context"):
            return str(context)
    return None


class TokenRefresh:
    """Reads the token of a kubeconfig again before it expires, from its file or from the program that issues
    it. The client calls this before each request that needs a token."""

    def __init__(self, loader: KubeConfigLoader, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._loader: Final = loader
        self._clock: Final = clock
        self._due = clock() + _TOKEN_AGE_S

    async def __call__(self, configuration: Configuration) -> None:
        """Raises the exceptions in `UNREADABLE`."""
        if self._clock() < self._due:
            return
        # Set before the token is read, so that concurrent requests use the current token.
        self._due = self._clock() + _TOKEN_AGE_S
        await self._loader.load_and_set(configuration)
