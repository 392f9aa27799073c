"""A new kind needs a descriptor and a place in a registry, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pytest

from controlplane.errors import ResourceError
from controlplane.kinds.kind import Kind, Traces, Viewers
from controlplane.kinds.registry import KINDS
from controlplane.model.claim import Claim
from controlplane.model.in_force import Findings, InForce
from controlplane.model.kind import HostResolver, Touched, policy
from controlplane.model.proxy import ProxyProgress, ProxyRejection
from controlplane.model.snapshot import Config, ResourceKey
from controlplane.model.status import Origin, ResourceStatus
from controlplane.model.store import Store
from controlplane.networking.build_cache import BuildCache
from controlplane.resources.base import Host, Message, NonEmptyStr
from controlplane.resources.crds import crds
from controlplane.resources.kind_registry import KindRegistry
from controlplane.status.affected_proxies import AffectedProxies, Reach
from protos.type_urls import LISTENER, ROUTE
from tests.support.documents import Document, service
from tests.support.meshes import sidecar_proxy


class Greeting(Message):
    """The words that a host greets with."""

    host: Host
    words: NonEmptyStr


def _qualify(spec: Greeting, resolve: HostResolver) -> Greeting:
    return spec.model_copy(update={"host": resolve(spec.host)})


def _warnings(spec: Greeting) -> Iterator[str]:
    if spec.words.isupper():
        yield "spec.words: are loud"


def _claims(config: Config[Greeting]) -> Iterator[Claim]:
    yield Claim(
        subject=("greeting", config.spec.host),
        scopes=frozenset({"*"}),
        path="spec.host",
        description=f"the host {config.spec.host}",
        verb="greeted",
        order=config.order,
    )


def _references(config: Config[Greeting], in_force: InForce) -> Findings:
    host = config.spec.host
    return Findings() if in_force.is_known(host) else Findings(warnings=(f"spec.host: {host} is unknown",))


def _narrow(before: Config[Greeting], after: Config[Greeting]) -> Touched | None:
    return Touched(types=frozenset({ROUTE})) if before.spec.host == after.spec.host else None


def _affected(config: Config[Greeting], viewers: Viewers) -> Sequence[ProxyProgress]:
    return viewers.all_if(config.spec.host in viewers.scope.destinations)


def _traces(config: Config[Greeting], _: Viewers) -> Traces:
    return Traces(types=frozenset({"rds"}), hosts=(config.spec.host,))


GREETING: Kind[Greeting, Config[Greeting]] = Kind(
    name="Greeting",
    spec=Greeting,
    api_versions=("example.com/v2", "example.com/v1"),
    plural="greetings",
    short_names=("gr",),
    columns={"Words": ".spec.words"},
    view=policy(_qualify),
    warnings=_warnings,
    claims=_claims,
    references=_references,
    touches=frozenset({LISTENER, ROUTE}),
    narrow=_narrow,
    affected=_affected,
    traces=_traces,
)
EXTENDED = KindRegistry((*KINDS.values(), GREETING))
REVIEWS = "reviews.default.svc.cluster.local"


def greeting(name: str, host: str, words: str = "hello") -> Document:
    metadata = {"name": name, "namespace": "default"}
    spec = {"host": host, "words": words}
    return {"apiVersion": "example.com/v1", "kind": "Greeting", "metadata": metadata, "spec": spec}


def key(name: str) -> ResourceKey:
    return ResourceKey(kind="Greeting", namespace="default", name=name)


def feed(store: Store, *documents: Document) -> None:
    for document in documents:
        kind, namespace, name = EXTENDED.identify(document)
        resource = ResourceKey(kind=kind, namespace=namespace, name=name)
        store.apply(resource, EXTENDED.parse(document), Origin(file=f"{name}.yaml"))


def store_of(*documents: Document) -> Store:
    store = Store(EXTENDED)
    feed(store, *documents)
    store.build()
    return store


def status_of(store: Store, name: str) -> ResourceStatus:
    status = store.status(key(name))
    assert status is not None
    return status


def test_its_documents_are_read() -> None:
    assert EXTENDED.parse(greeting("a", "reviews")).spec == Greeting(host="reviews", words="hello")


@pytest.mark.parametrize(
    ("faulty", "fault"),
    [
        ({"spec": {"host": "reviews", "words": ""}}, "spec.words: should not be empty"),
        ({"kind": "Greting"}, "did you mean `Greeting`?"),
        ({"apiVersion": "example.com/v3"}, "expected example.com/v2 or example.com/v1"),
    ],
    ids=["spec", "kind", "version"],
)
def test_its_faulty_documents_are_refused(faulty: Document, fault: str) -> None:
    with pytest.raises(ResourceError, match=re.escape(fault)):
        EXTENDED.parse({**greeting("a", "reviews"), **faulty})


def test_the_snapshot_has_it_with_qualified_hosts() -> None:
    store = store_of()
    feed(store, greeting("a", "reviews"))
    snapshot, change = store.build()
    [config] = snapshot.policies["Greeting"]
    assert (config.spec.host, config.key) == (REVIEWS, key("a"))
    assert change.types == {LISTENER, ROUTE}
    feed(store, greeting("a", "reviews", "good morning"))
    snapshot, change = store.build()
    assert change.types == {ROUTE}
    assert [each.spec.words for each in snapshot.policies["Greeting"]] == ["good morning"]


def test_a_second_one_for_a_host_is_quarantined() -> None:
    store = store_of(greeting("a", "reviews"), greeting("b", REVIEWS))
    assert status_of(store, "a").in_force
    assert status_of(store, "b").reasons == (
        f"spec.host: the host {REVIEWS} is already greeted by Greeting default/a (a.yaml)",
    )


def test_its_references_are_checked_whenever_services_change() -> None:
    store = store_of(greeting("a", "reviews", "HELLO"))
    loud = "spec.words: are loud"
    assert status_of(store, "a").warnings == (loud, f"spec.host: {REVIEWS} is unknown")
    feed(store, service("reviews"))
    store.build()
    assert status_of(store, "a").warnings == (loud,)


def test_the_proxies_that_it_affects_are_found() -> None:
    store = store_of(service("reviews"), greeting("a", "reviews"), greeting("b", "gone"))
    snapshot, _ = store.build()
    rejection = ProxyRejection(type="rds", names=frozenset({"9080"}), reason="no")
    proxy = ProxyProgress(proxy=sidecar_proxy(id="p"), generation=0, answered=1, rejections=(rejection,))
    affected = AffectedProxies(BuildCache(), snapshot, [proxy], EXTENDED)
    reach = {
        name: affected.reach("Greeting", view, since=1)
        for name in "ab"
        if (view := store.in_force(key(name)))
    }
    assert reach == {"a": Reach(concerned=1, refusals=(("p", rejection),)), "b": Reach()}


def test_a_crd_is_written_for_it() -> None:
    [crd] = [each for each in crds(EXTENDED.values()) if each["spec"]["names"]["kind"] == "Greeting"]
    assert crd["metadata"]["name"] == "greetings.example.com"
    assert crd["spec"]["names"]["shortNames"] == ["gr"]
    newest, older = crd["spec"]["versions"]
    assert [(each["name"], each["storage"]) for each in (newest, older)] == [("v2", True), ("v1", False)]
    assert newest["additionalPrinterColumns"][0]["jsonPath"] == ".spec.words"
    properties = newest["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert properties.keys() == {"host", "words"}
