"""Follows the file of the injection configuration, a mounted ConfigMap.

An invalid file changes nothing: the last good configuration stays in use. At the start there is none, and
pods are refused until the file is valid; the rest of the control plane works.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from controlplane.errors import SettingsError
from controlplane.injection.config import InjectionConfig

_LOG = logging.getLogger(__name__)

_FOLLOW_S: Final = 5.0
_LARGEST_FILE_BYTES: Final = 4 * 1024 * 1024  # a ConfigMap has less than 1.5 MiB


class InjectionConfigFile:
    """``path`` None: the default configuration. ``system_namespace`` is the namespace of the control plane,
    unless the configuration sets another."""

    def __init__(
        self,
        path: Path | None,
        system_namespace: str,
        *,
        registry: CollectorRegistry,
        follow_s: float = _FOLLOW_S,
    ) -> None:
        self._path: Final = path
        self._system_namespace: Final = system_namespace
        self._follow_s: Final = follow_s
        self._valid: Final = Gauge(
            "outrigger_injection_config_valid",
            "Whether the file of the injection configuration is valid: 1 or 0.",
            registry=registry,
        )
        self._text: str | None = None
        self._problem = ""
        self._config: InjectionConfig | None = None
        self.read()

    @property
    def config(self) -> InjectionConfig:
        """The last good configuration. Raises `SettingsError` if there is none."""
        if self._config is None:
            raise SettingsError(self._problem)
        return self._config

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await asyncio.sleep(self._follow_s)
            self.read()

    def read(self) -> None:
        try:
            text = "" if self._path is None else _read(self._path)
            if text != self._text:
                self._use(InjectionConfig.parse(text))
                self._text = text
            problem = ""
        except SettingsError as error:
            problem = f"{self._path} cannot be used: {error}"
        if problem and problem != self._problem:
            consequence = "pods are refused" if self._config is None else "the last good one stays in use"
            _LOG.error("injection configuration: %s; %s", problem, consequence)
        self._problem = problem
        self._valid.set(0 if problem else 1)

    def _use(self, config: InjectionConfig) -> None:
        if self._config is not None:
            _LOG.info("injection configuration: %s has changed", self._path)
        values = config.values
        if "system_namespace" not in values.model_fields_set:
            values = values.model_copy(update={"system_namespace": self._system_namespace})
        self._config = config.model_copy(update={"values": values})


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE_BYTES + 1)
        if len(content) > _LARGEST_FILE_BYTES:
            raise SettingsError(f"the file has more than {_LARGEST_FILE_BYTES} bytes")
        return content.decode()
    except OSError as error:
        raise SettingsError(f"the file cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"the file is not UTF-8: {error}") from error
