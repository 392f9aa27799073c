"""``python -m sidecar.intercept``: sends a pod's traffic to its sidecar.

Exit codes: 0; 1 with a line on stderr when rules cannot be set or removed; 2 for an invalid flag; 126 when
``--validate`` finds that traffic is not intercepted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sidecar.intercept import pod_network
from sidecar.intercept.apply import apply, clean
from sidecar.intercept.errors import InterceptError
from sidecar.intercept.flags import Command, parse
from sidecar.intercept.iptables import require_capabilities
from sidecar.intercept.ruleset import render, rules_for
from sidecar.intercept.validate import validate


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code. Raises `SystemExit` for an invalid flag."""
    try:
        _run(parse(arguments))
    except InterceptError as error:
        sys.stderr.write(f"intercept: {error}\n")
        return error.exit_code
    return 0


def _run(command: Command) -> None:
    families = pod_network.families(command.ipv6)
    if command.settings.dns is not None and not command.settings.dns.resolvers:
        _say("/etc/resolv.conf names no resolver: DNS is not captured")
    if command.action == "dry-run":
        for family in families:
            for arguments in pod_network.preparation(command.settings, family):
                _say(f"ip {arguments}")
            _say(f"{family.program}-restore --noflush <<END")
            _say(f"{render(rules_for(command.settings, family))}END")
        return
    if command.action == "validate":
        for success in validate(command.settings, families):
            _say(success)
        return
    require_capabilities()
    if command.action == "clean":
        clean(families, command.variant, _say)
    else:
        apply(command.settings, families, command.variant, _say)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
