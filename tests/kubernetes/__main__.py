"""The test cluster by hand: `python -m tests.kubernetes` runs it, `... build` only builds its binary."""

from __future__ import annotations

import os
import signal
import sys

from tests.support.cluster_binary import ClusterBuildError, build_cluster_binary
from tests.support.kubernetes_cluster import HOW_TO_GET_ONE, cluster_process


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["build"]):
        print("usage: python -m tests.kubernetes [build]", file=sys.stderr)
        return 2
    return build() if arguments else run()


def build() -> int:
    """Before the tests: they are skipped where this fails, except in CI."""
    if os.environ.get("OUTRIGGER_TEST_KUBECONFIG"):
        return 0
    try:
        build_cluster_binary(say)
    except ClusterBuildError as error:
        say(f"the test cluster cannot be built, its tests will be skipped: {error}")
        return int(os.environ.get("CI") == "true")
    return 0


def run() -> int:
    """Until Ctrl-C or SIGTERM."""
    try:
        binary = build_cluster_binary(say)
    except ClusterBuildError as error:
        say(f"the test cluster cannot be built: {error}\n{HOW_TO_GET_ONE}")
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the same as Ctrl-C
    try:
        with cluster_process(binary) as process:
            print("A Kubernetes control plane runs until Ctrl-C. In another shell:\n")
            print(f"  export KUBECONFIG={process.ready['kubeconfig']}\n", flush=True)
            process.wait()
            say(process.complaints())
            return 1
    except KeyboardInterrupt:
        return 0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
