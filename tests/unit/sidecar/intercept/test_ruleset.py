"""The texts for ``iptables-restore``, in ``tests/golden/intercept/``.

After a change that was meant, run this module with ``UPDATE_GOLDEN=1`` in the environment.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidecar.intercept.flags import parse
from sidecar.intercept.rules import IPV4, IPV6, Family
from sidecar.intercept.ruleset import GUARDRAILS, render, rules_for
from sidecar.intercept.saved import parse as parse_saved

GOLDEN = Path(__file__).parents[3] / "golden" / "intercept"
FLAGS = {
    "default": "",
    "tproxy": "--mode TPROXY --drop-invalid --exclude-interfaces eth9",
    "tproxy-ports": "--mode TPROXY --inbound-ports 8080",
    "dns": "--capture-dns --capture-all-dns",
    "all-options": (
        "--outbound-port 16001 --inbound-port 16006 --proxy-uid 3,4 --proxy-gid 5 --inbound-ports 80,8080 "
        "--outbound-ranges 10.0.0.0/8,fd00::/8 --exclude-outbound-ranges 10.1.0.0/16,fd00:1::/32 "
        "--outbound-ports 9090 --exclude-outbound-ports 25,6379 --exclude-interfaces eth8,eth9 "
        "--reroute-virtual-interfaces tap0,tap1 --owner-groups-include 100,101"
    ),
    "nothing": "--inbound-ports= --outbound-ranges= --owner-groups-exclude 100",
    "loopback": "--outbound-ranges 127.1.2.3/32,0.0.0.0/0,::/0",
}


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("family", [IPV4, IPV6], ids=["v4", "v6"])
def test_the_rules_are_the_golden_ones(name: str, family: Family) -> None:
    rendered = render(rules_for(parse(FLAGS[name].split()).settings, family))
    golden = GOLDEN / f"{name}-v{family.version}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(rendered)
    assert rendered == golden.read_text()


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("family", [IPV4, IPV6], ids=["v4", "v6"])
def test_every_jump_leads_to_a_chain_with_rules_and_every_chain_is_reached(name: str, family: Family) -> None:
    rules = rules_for(parse(FLAGS[name].split()).settings, family)
    own = {(rule.table, rule.chain) for rule in rules if rule.chain.startswith("OUTRIGGER_")}
    targets = {(rule.table, rule.text.rpartition(" ")[2]) for rule in rules if "-j OUTRIGGER_" in rule.text}
    assert targets <= own
    unreached = {chain for _, chain in own - targets}
    assert unreached <= {"OUTRIGGER_TO_INBOUND", "OUTRIGGER_TO_OUTBOUND"}


def test_guardrails_come_before_other_rules_and_drop_everything() -> None:
    assert render(GUARDRAILS, before_others=True) == (
        "*filter\n:OUTRIGGER_GUARD - [0:0]\n-A OUTRIGGER_GUARD -j DROP\n"
        "-I INPUT -j OUTRIGGER_GUARD\n-I FORWARD -j OUTRIGGER_GUARD\n-I OUTPUT -j OUTRIGGER_GUARD\nCOMMIT\n"
    )


@pytest.mark.parametrize("name", FLAGS)
def test_rules_that_are_read_back_are_the_rules(name: str) -> None:
    rules = rules_for(parse(FLAGS[name].split()).settings, IPV4)
    assert parse_saved(render(rules)).are(rules)
