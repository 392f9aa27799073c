"""The permissions of a service account by RBAC, and its requests by the API server's audit log."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import yaml

from tests.support.kubernetes_api import Resource


@dataclass(frozen=True, slots=True)
class Right:
    """``namespace`` and ``name`` are empty where it is to all of them. A subresource is `resource/sub`."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Request:
    right: Right
    status: int

    def needs(self, right: Right) -> bool:
        """Whether the right allows it, as RBAC compares them."""
        asked = self.right
        return (
            (asked.verb, asked.group, asked.resource) == (right.verb, right.group, right.resource)
            and right.namespace in ("", asked.namespace)
            and right.name in ("", asked.name)
        )


def granted(documents: Iterable[Resource]) -> list[Right]:
    """By ClusterRoles and Roles, one for each verb, resource and name."""
    return [
        Right(verb, group, resource, document["metadata"].get("namespace", ""), name)
        for document in documents
        if document["kind"] in {"ClusterRole", "Role"}
        for rule in document["rules"]
        for verb, group, resource, name in product(
            rule["verbs"], rule["apiGroups"], rule["resources"], rule.get("resourceNames", [""])
        )
    ]


def requests(audit_log: Path, user: str) -> Iterator[Request]:
    """Those of a user, answered or active."""
    for line in audit_log.read_text().splitlines():
        event = json.loads(line)
        if event["user"]["username"] != user:
            continue
        subject = event["objectRef"]
        resource = "/".join(filter(None, (subject["resource"], subject.get("subresource", ""))))
        right = Right(
            event["verb"],
            subject.get("apiGroup", ""),
            resource,
            subject.get("namespace", ""),
            subject.get("name", ""),
        )
        yield Request(right, event["responseStatus"]["code"])


def with_token(kubeconfig: Path, token: str, folder: Path) -> Path:
    """A kubeconfig for the same cluster, with the token."""
    document = yaml.safe_load(kubeconfig.read_text())
    (context,) = document["contexts"]
    context["context"]["user"] = "token"
    document["users"] = [{"name": "token", "user": {"token": token}}]
    changed = folder / "kubeconfig-of-token"
    changed.write_text(yaml.safe_dump(document))
    return changed
