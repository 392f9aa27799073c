"""``networking.istio.io`` ``WorkloadEntry``: a workload at an address."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from controlplane.resources.base import (
    Message,
    NonEmptyStr,
    PortNumber,
    Str,
    Uint32,
    invalid,
)


def _check_address(address: str) -> str:
    if address.startswith("unix://"):
        raise invalid("Unix domain sockets are not supported yet")
    if not re.fullmatch(r"[0-9A-Za-z._:-]+", address):
        raise invalid(f"{address!r:.80} is not an IP address or a host name")
    return address


Address = Annotated[Str, AfterValidator(_check_address), Field(description="An IP address or a host name.")]


class WorkloadEntry(Message):
    """A workload at an address. ``ports`` maps the name of a port to its number on this workload.
    ``locality`` is region/zone/sub-zone. ``weight`` 0 means 1."""

    address: Address
    ports: dict[NonEmptyStr, PortNumber] = Field(default_factory=dict)
    labels: dict[Str, Str] = Field(default_factory=dict)
    network: Str = ""
    locality: Str = ""
    weight: Uint32 = 0
    service_account: Str = ""
