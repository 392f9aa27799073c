"""The story of an installation, and of an upgrade."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from outrigger.cluster.objects import Document, ObjectReference, is_ours, reference
from outrigger.errors import CommandError
from outrigger.installation.application import apply, find, remove
from outrigger.installation.chart import Chart, Release
from outrigger.installation.configuration import check_configuration
from outrigger.installation.conflicts import other_injectors, refuse_other_owners
from outrigger.installation.readiness import wait_until_ready
from outrigger.installation.release import ReleaseRecord, find_release
from outrigger.installation.values import Values, overlaid

if TYPE_CHECKING:
    from controlplane.kubernetes.api import ClientApi

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What the user asks for. ``given`` are the values of the command line. ``wait_s`` None: does not wait.
    ``only_upgrade``: something must be installed already."""

    namespace: str
    revision: str
    given: Values
    reset_values: bool
    dry_run: bool
    wait_s: float | None
    only_upgrade: bool


async def install(api: ClientApi, wanted: Installation, report: Report, chart: Chart) -> None:
    """Makes the cluster as the chart describes it, and removes what an earlier version had in addition.
    Repeating it changes nothing. Raises `CommandError` and `KubernetesError`."""
    from outrigger import crd_installation

    await refuse_other_owners(api, wanted.namespace, wanted.revision)
    earlier = await find_release(api, wanted.namespace, wanted.revision)
    _check_version(earlier, chart.version, wanted)
    values = _values(earlier, wanted)
    documents = chart.render(
        Release(name="outrigger", namespace=wanted.namespace, service="outrigger"),
        overlaid({"namespace": {"create": await _owns_namespace(api, wanted.namespace)}}, values),
    )
    check_configuration(documents)
    for warning in await other_injectors(api, documents, wanted.revision):
        report(f"warning: {warning}")
    async for line in crd_installation.install(api, dry_run=wanted.dry_run):
        report(line)
    record = ReleaseRecord(
        namespace=wanted.namespace,
        revision=wanted.revision,
        version=chart.version,
        values=values,
        objects=tuple(map(reference, documents)),
    )
    obsolete = [each for each in (earlier.objects if earlier else ()) if each not in record.objects]
    # While it is under way, the record has the objects of both versions: the next attempt removes them.
    under_way = replace(record, objects=(*record.objects, *obsolete)).document()
    await _apply_all(api, _with_record(documents, under_way), wanted, report)
    for each in sorted(obsolete, key=lambda each: -each.order):
        report(await remove(api, each, dry_run=wanted.dry_run) or f"{each} is already gone")
    if obsolete and not wanted.dry_run:
        await apply(api, record.document(), dry_run=False)
    if wanted.wait_s is not None and not wanted.dry_run:
        await wait_until_ready(api, documents, wanted.wait_s, report)


def _check_version(earlier: ReleaseRecord | None, version: str, wanted: Installation) -> None:
    if earlier is None:
        if wanted.only_upgrade:
            raise CommandError(
                f"the revision {wanted.revision} is not installed in the namespace {wanted.namespace}: use "
                "outrigger install"
            )
        return
    if _numbers(earlier.version) > _numbers(version):
        raise CommandError(
            f"version {earlier.version} is installed, and this command is {version}: a downgrade is not "
            "supported, because an older control plane may not read what a newer one has stored"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def _values(earlier: ReleaseRecord | None, wanted: Installation) -> Values:
    """The values of the earlier installation, then those of the command line."""
    kept: Mapping[str, Any] = earlier.values if earlier and not wanted.reset_values else {}
    values = overlaid(kept, wanted.given)
    if values.get("revision", wanted.revision) != wanted.revision:
        raise CommandError("set the revision by --revision: the value revision has another one")
    return {**values, "revision": wanted.revision}


async def _owns_namespace(api: ClientApi, namespace: str) -> bool:
    """Whether the installation creates the Namespace, or has created it before. Another's is only used."""
    found = await find(api, ObjectReference(api_version="v1", kind="Namespace", name=namespace))
    return found is None or is_ours(found)


def _with_record(documents: list[Document], record: Document) -> Iterable[Document]:
    """The record comes after the Namespace and before all others."""
    namespaces = [each for each in documents if each["kind"] == "Namespace"]
    return [*namespaces, record, *(each for each in documents if each["kind"] != "Namespace")]


async def _apply_all(
    api: ClientApi, documents: Iterable[Document], wanted: Installation, report: Report
) -> None:
    """Goes on after an object that the API server refuses, so that all missing permissions are reported at
    once; but no webhook is created for a control plane that is incomplete: it would refuse all pods."""
    from controlplane.errors import RefusedError

    problems: list[str] = []
    for document in documents:
        if problems and document["kind"].endswith("WebhookConfiguration"):
            break
        try:
            report(await apply(api, document, dry_run=wanted.dry_run))
        except RefusedError as error:
            problems.append(f"{reference(document)}: {error}")
            if document["kind"] == "Namespace":
                break
    if problems:
        raise CommandError(f"the API server refuses: {'; '.join(problems)}")
