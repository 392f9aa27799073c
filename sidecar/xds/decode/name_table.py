"""``istio.networking.nds.v1.NameTable``: the names that the DNS resolver answers."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, ip_address
from typing import Final

from sidecar.config.name_table import NameInfo, NameTable
from sidecar.xds.decode.support import SupportTable, support
from sidecar.xds.decode.view import View

# RFC 1035 section 2.3.4: a label has 1 to 63 octets, and a name 255 with the lengths of its labels.
_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST: Final = re.compile(rf"(\*|{_LABEL})(\.{_LABEL})*")
_MAX_CHARACTERS: Final = 253


TABLE: Final[SupportTable] = {
    "istio.networking.nds.v1.NameTable": support("table"),
    "istio.networking.nds.v1.NameTable.NameInfo": support("ips registry shortname namespace"),
}


def decode_name_table(view: View) -> NameTable:
    return NameTable(hosts={_host(view, name): _info(entry) for name, entry in view.entries("table")})


def _host(view: View, name: str) -> str:
    host = name.lower().removesuffix(".")
    if len(host) > _MAX_CHARACTERS or not _HOST.fullmatch(host):
        raise view.error("is not a host name", f"table[{name:.300}]")
    return host


def _info(view: View) -> NameInfo:
    message = view.message
    v4: list[str] = []
    v6: list[str] = []
    for index, text in enumerate(message.ips):
        try:
            address = ip_address(text)
        except ValueError:
            raise view.error(f"{text!r:.80} is not an IP address", f"ips[{index}]") from None
        (v4 if isinstance(address, IPv4Address) else v6).append(str(address))
    return NameInfo(
        v4=tuple(v4),
        v6=tuple(v6),
        registry=message.registry,
        shortname=message.shortname.lower(),
        namespace=message.namespace.lower(),
    )
