"""All rules of one address family, and their text for ``iptables-restore --noflush``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sidecar.intercept.dns import zone_rules
from sidecar.intercept.redirect import nat_rules
from sidecar.intercept.rules import GUARD, OUTPUT, PREROUTING, Family, Rule, is_own
from sidecar.intercept.settings import Interception
from sidecar.intercept.tproxy import mangle_rules

RULE_TABLES: Final = ("raw", "mangle", "nat")
GUARDRAIL_TABLE: Final = "filter"
_JUMPS: Final = {PREROUTING: "PREROUTING", OUTPUT: "OUTPUT"}  # own chain -> the kernel's chain

# While rules are incomplete, nothing may pass them by.
GUARDRAILS: Final = (
    Rule(GUARDRAIL_TABLE, GUARD, "-j DROP"),
    *(Rule(GUARDRAIL_TABLE, chain, f"-j {GUARD}") for chain in ("INPUT", "FORWARD", "OUTPUT")),
)


def rules_for(settings: Interception, family: Family) -> tuple[Rule, ...]:
    """The rules of the own chains, and the jumps to them from the kernel's chains."""
    rules = [*zone_rules(settings, family), *mangle_rules(settings, family), *nat_rules(settings, family)]
    used = {(rule.table, rule.chain) for rule in rules}
    jumps = [
        Rule(table, chain, f"-j {own}")
        for table in RULE_TABLES
        for own, chain in _JUMPS.items()
        if (table, own) in used
    ]
    return (*rules, *jumps)


def render(rules: Iterable[Rule], *, before_others: bool = False) -> str:
    """``before_others``: rules of the kernel's chains are inserted at their beginning."""
    rules = tuple(rules)
    lines = []
    for table in (*RULE_TABLES, GUARDRAIL_TABLE):
        of_table = [rule for rule in rules if rule.table == table]
        if not of_table:
            continue
        lines.append(f"*{table}")
        lines += [f":{chain} - [0:0]" for chain in own_chains(of_table)]
        for rule in of_table:
            insert = before_others and not is_own(rule.chain)
            lines.append(f"-{'I' if insert else 'A'} {rule.chain} {rule.text}")
        lines.append("COMMIT")
    return "".join(f"{line}\n" for line in lines)


def own_chains(rules: Iterable[Rule]) -> list[str]:
    """In the order of their first rules."""
    return list(dict.fromkeys(rule.chain for rule in rules if is_own(rule.chain)))
