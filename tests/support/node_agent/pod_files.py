"""The files by which a pod's processes resolve names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.kubernetes_api import Resource

CLUSTER_DOMAIN = "cluster.local"


def resolv_conf(namespace: str, nameserver: str, pod_spec: Resource | None = None) -> str:
    """resolv.conf(5) of a pod, by its `dnsPolicy` and `dnsConfig`.

    The node's own resolver, of the policy `Default`, is the cluster's without its search path.
    """
    spec = pod_spec or {}
    policy, config = spec.get("dnsPolicy", "ClusterFirst"), spec.get("dnsConfig") or {}
    of_cluster = [f"{namespace}.svc.{CLUSTER_DOMAIN}", f"svc.{CLUSTER_DOMAIN}", CLUSTER_DOMAIN]
    in_cluster = policy.startswith("ClusterFirst")
    nameservers = [] if policy == "None" else [nameserver]
    search = of_cluster if in_cluster else []
    options: dict[str, str | None] = {"ndots": "5"} if in_cluster else {}
    options |= {option["name"]: option.get("value") for option in config.get("options", ())}
    lines = [f"nameserver {each}" for each in unique(nameservers, config.get("nameservers", ()))]
    if search := unique(search, config.get("searches", ())):
        lines.append(f"search {' '.join(search)}")
    if options:
        words = [name if value is None else f"{name}:{value}" for name, value in options.items()]
        lines.append(f"options {' '.join(words)}")
    return "".join(f"{line}\n" for line in lines)


def unique(*lists: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(each for listed in lists for each in listed))


def hosts_file(
    hostname: str, address: str, host_aliases: Sequence[Mapping[str, Any]] = (), domain: str = ""
) -> str:
    """hosts(5) of a pod, with the aliases of its `spec.hostAliases`. `domain` is that of its subdomain."""
    names = f"{hostname}.{domain}\t{hostname}" if domain else hostname
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback", f"{address}\t{names}"]
    lines += ["\t".join([alias["ip"], *alias.get("hostnames", [])]) for alias in host_aliases]
    return "".join(f"{line}\n" for line in lines)
