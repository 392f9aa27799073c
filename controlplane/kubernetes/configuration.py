"""How an API server is reached, and with which token: from a kubeconfig, or as a pod of the cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes.aio.config.kube_config import KubeConfigLoader
from yaml import YAMLError

# What the client raises where it cannot read these: it takes a kubeconfig to have the form of one.
UNREADABLE: Final = (ConfigException, YAMLError, OSError, ValueError, TypeError, KeyError, AttributeError)

# As often as the client reads a pod's own token anew.
_TOKEN_AGE_S: Final = 60.0


async def read_configuration(kubeconfig: Path | None) -> Configuration:
    """By a kubeconfig's current context; None: as a pod of the cluster. Raises what is `UNREADABLE`."""
    configuration = Configuration()
    # From 3.13 on, Python refuses certificates without the key identifiers of RFC 5280. Go's clients, kubectl
    # among them, accept them, and so do we: clusters have such certificates.
    configuration.disable_strict_ssl_verification = True
    if kubeconfig is None:
        load_incluster_config(client_configuration=configuration)
        return configuration
    _require(kubeconfig)
    loader = await load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    # The client's annotations know of no hook.
    configuration.refresh_api_key_hook = TokenRefresh(loader)  # type: ignore[assignment]
    return configuration


def _require(kubeconfig: Path) -> None:
    """The client only logs that it is not there."""
    kubeconfig.expanduser().stat()


class TokenRefresh:
    """Reads the token of a kubeconfig anew, from its file or the program that makes it: it expires. The
    client calls this before each request that shows a token."""

    def __init__(self, loader: KubeConfigLoader, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._loader: Final = loader
        self._clock: Final = clock
        self._due = clock() + _TOKEN_AGE_S

    async def __call__(self, configuration: Configuration) -> None:
        """Raises what is `UNREADABLE`."""
        if self._clock() < self._due:
            return
        # Before it is read: requests that come meanwhile go with the token there is.
        self._due = self._clock() + _TOKEN_AGE_S
        await self._loader.load_and_set(configuration)
