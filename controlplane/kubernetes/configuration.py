"""The address and the token of an API server, from a kubeconfig or from the pod's service account."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes.aio.config.kube_config import KubeConfigLoader
from yaml import YAMLError

# The exceptions that the client raises for a missing or malformed configuration; it does not validate a
# kubeconfig's structure.
UNREADABLE: Final = (ConfigException, YAMLError, OSError, ValueError, TypeError, KeyError, AttributeError)

# The interval at which the client reads a pod's own token again.
_TOKEN_AGE_S: Final = 60.0


async def read_configuration(kubeconfig: Path | None, context: str | None = None) -> Configuration:
    """Reads a context of a kubeconfig, by default its current one; or, if ``kubeconfig`` is None, the
    configuration of a pod in its cluster. Raises the exceptions in `UNREADABLE`."""
    configuration = Configuration()
    # From 3.13 on, Python rejects certificates without the key identifiers of RFC 5280. Some clusters have
    # such certificates, and Go's clients (kubectl among them) accept them.
    configuration.disable_strict_ssl_verification = True
    if kubeconfig is None:
        load_incluster_config(client_configuration=configuration)
        return configuration
    _require(kubeconfig)
    loader = await load_kube_config(
        config_file=str(kubeconfig), context=context, client_configuration=configuration
    )
    # The client's annotations lack this hook.
    configuration.refresh_api_key_hook = TokenRefresh(loader)  # type: ignore[assignment]
    return configuration


def _require(kubeconfig: Path) -> None:
    """Raises ``OSError`` when the file is missing: the client only logs that. A list of files is merged, of
    which some may be missing, as kubectl has it."""
    *others, last = (Path(each).expanduser() for each in str(kubeconfig).split(os.pathsep))
    if not any(each.exists() for each in others):
        last.stat()


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
