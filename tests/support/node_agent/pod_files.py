"""The files by which a pod's processes resolve names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CLUSTER_DOMAIN = "cluster.local"


def resolv_conf(namespace: str, nameserver: str) -> str:
    """resolv.conf(5) of a pod whose `dnsPolicy` is ClusterFirst."""
    search = [f"{namespace}.svc.{CLUSTER_DOMAIN}", f"svc.{CLUSTER_DOMAIN}", CLUSTER_DOMAIN]
    return f"nameserver {nameserver}\nsearch {' '.join(search)}\noptions ndots:5\n"


def hosts_file(hostname: str, address: str, host_aliases: Sequence[Mapping[str, Any]] = ()) -> str:
    """hosts(5) of a pod, with the aliases of its `spec.hostAliases`."""
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback", f"{address}\t{hostname}"]
    lines += ["\t".join([alias["ip"], *alias.get("hostnames", [])]) for alias in host_aliases]
    return "".join(f"{line}\n" for line in lines)
