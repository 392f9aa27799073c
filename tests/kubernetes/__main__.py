"""The test cluster by hand: `python -m tests.kubernetes` runs it, with `--node` also a node for its pods, and
`... build` only builds the binaries."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.support.go_binary import GoBuildError
from tests.support.h2spec import H2SPEC
from tests.support.istiod_binary import ISTIOD
from tests.support.kubernetes_binaries import CLUSTER, HELM, KUBECTL
from tests.support.kubernetes_cluster import HOW_TO_GET_ONE, cluster_process
from tests.support.nethttp import NETHTTP
from tests.support.node import RunningNode, missing_for_a_node, running_node
from tests.support.pod_specs import UNTIL_TERM

PYTHON = sys.executable
IMAGES = {
    # It has no entry point: `command` or `args` are any of the machine's programs.
    "busybox": [],
    "pause": ["sh", "-c", UNTIL_TERM],
    "python": [PYTHON],
    "web": [PYTHON, "-m", "http.server", "8080"],
}


def main(arguments: list[str]) -> int:
    if arguments == ["build"]:
        return build()
    if arguments in ([], ["--node"]):
        return run(with_node=bool(arguments))
    print("usage: python -m tests.kubernetes [build | --node]", file=sys.stderr)
    return 2


def build() -> int:
    """Before the tests: they are skipped where this fails, except in CI."""
    own_cluster = not os.environ.get("OUTRIGGER_TEST_KUBECONFIG")
    try:
        for binary in [*([CLUSTER] if own_cluster else []), KUBECTL, HELM, H2SPEC, ISTIOD, NETHTTP]:
            binary.build(say)
    except GoBuildError as error:
        say(f"the test cluster cannot be built, its tests will be skipped: {error}")
        return int(os.environ.get("CI") == "true")
    return 0


def run(*, with_node: bool) -> int:
    """Until Ctrl-C or SIGTERM."""
    if with_node and (missing := missing_for_a_node()):
        say(missing)
        return 1
    try:
        binary, kubectl = CLUSTER.build(say), KUBECTL.build(say)
    except GoBuildError as error:
        say(f"the test cluster cannot be built: {error}\n{HOW_TO_GET_ONE}")
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the same as Ctrl-C
    try:
        with cluster_process(binary) as process, ExitStack() as nodes:
            kubeconfig = process.ready["kubeconfig"]
            print("A Kubernetes control plane runs until Ctrl-C. In another shell:\n")
            print(f"  export KUBECONFIG={kubeconfig} PATH={kubectl.parent}:$PATH\n", flush=True)
            if with_node:
                introduce(nodes.enter_context(running_node(Path(kubeconfig), IMAGES)))
            process.wait()
            say(process.complaints())
            return 1
    except KeyboardInterrupt:
        return 0


def introduce(node: RunningNode) -> None:
    print(f"Its node, {node.name}, runs pods of the images {', '.join(IMAGES)}.")
    print(f"The output of their containers is in {node.logs}, the node's own in {node.own_log}", flush=True)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
