"""``security.istio.io`` ``PeerAuthentication``: whether workloads accept mutual TLS, plaintext or both."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from controlplane.resources.base import Message, PortNumber, Str, invalid


class MutualTLSMode(StrEnum):
    UNSET = "UNSET"  # inherit
    DISABLE = "DISABLE"
    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"


class MutualTLS(Message):
    """``MutualTLS``: whether a port accepts mutual TLS only, plaintext only, or both."""

    mode: MutualTLSMode = MutualTLSMode.UNSET


class LabelSelector(Message):
    """``istio.type.v1beta1.WorkloadSelector``: workloads that have all of these labels."""

    match_labels: dict[Str, Str] = Field(default_factory=dict)


def _port_of_key(key: object) -> object:
    """The keys of JSON objects are strings, also those of a ``map<uint32, ...>``."""
    return int(key) if isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 6 else key


class PeerAuthentication(Message):
    """Whether workloads accept mutual TLS, plaintext or both. Without a selector it applies to the namespace;
    in the root namespace it is the default of the mesh."""

    selector: LabelSelector | None = None
    mtls: MutualTLS | None = None
    port_level_mtls: dict[Annotated[PortNumber, BeforeValidator(_port_of_key)], MutualTLS] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _ports_need_a_selector(self) -> Self:
        if self.port_level_mtls and not (self.selector and self.selector.match_labels):
            raise invalid("`portLevelMtls` needs a `selector` with labels")
        return self
