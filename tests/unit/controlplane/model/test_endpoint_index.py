from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.model.endpoint_index import EndpointIndex
from controlplane.model.service import Protocol, Registry, Service, ServicePort, Workload
from controlplane.model.view import DeclaredService

labels = st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2)
namespaces = st.sampled_from(["one", "two"])
names = st.sampled_from(["p", "q", "r"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add workload"), namespaces, names, labels),
        st.tuples(st.just("remove workload"), namespaces, names, st.just({})),
        st.tuples(st.just("add service"), namespaces, names, labels),
        st.tuples(st.just("remove service"), namespaces, names, st.just({})),
        st.tuples(st.just("refresh"), namespaces, names, st.just({})),
    ),
    max_size=30,
)


def workload(namespace: str, name: str, its_labels: dict[str, str]) -> Workload:
    return Workload(name=name, namespace=namespace, address="10.0.0.1", labels=its_labels)


def service(namespace: str, name: str, selector: dict[str, str]) -> DeclaredService:
    port = ServicePort(name="http", number=80, protocol=Protocol.HTTP, target_port=8080)
    return DeclaredService(
        service=Service(
            hostname=f"{name}.{namespace}",
            name=name,
            namespace=namespace,
            registry=Registry.KUBERNETES,
            ports=(port,),
            selector=selector,
        )
    )


def selects(its: Service, each: Workload) -> bool:
    matches = its.selector.items() <= each.labels.items()
    return bool(its.selector) and its.namespace == each.namespace and matches


@settings(max_examples=300)
@given(steps)
def test_after_any_change_the_endpoints_equal_those_of_a_full_search(
    changes: list[tuple[str, str, str, dict[str, str]]],
) -> None:
    index = EndpointIndex()
    workloads: dict[tuple[str, str], Workload] = {}
    services: dict[str, Service] = {}
    for action, namespace, name, its_labels in changes:
        match action:
            case "add workload":
                workloads[namespace, name] = workload(namespace, name, its_labels)
                index.add_workload(workloads[namespace, name])
            case "remove workload":
                workloads.pop((namespace, name), None)
                index.remove_workload(namespace, name)
            case "add service":
                declared = service(namespace, name, its_labels)
                services[declared.service.hostname] = declared.service
                index.add_service(declared)
            case "remove service":
                services.pop(f"{name}.{namespace}", None)
                index.remove_service(f"{name}.{namespace}")
            case _:
                index.refresh()
    before = index.endpoints
    changed = index.refresh()
    found = {
        hostname: [each for _, each in sorted(workloads.items()) if selects(its, each)]
        for hostname, its in services.items()
    }
    expected = {hostname: each for hostname, each in found.items() if each}
    assert {host: [each.workload for each in its] for host, its in index.endpoints.items()} == expected
    assert index.workloads() == tuple(each for _, each in sorted(workloads.items()))
    hostnames = before.keys() | index.endpoints.keys()
    assert changed == {host for host in hostnames if before.get(host) != index.endpoints.get(host)}
