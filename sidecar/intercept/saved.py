"""The output of ``iptables-save``: the rules that are in force in this namespace."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sidecar.intercept.rules import OWN_PREFIX, Rule, is_own

_JUMP_TO_OWN: Final = f"-j {OWN_PREFIX}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedRules:
    """``rules`` are all rules in their order; ``own_chains`` the table and name of each own chain, also of
    one without rules."""

    rules: tuple[Rule, ...]
    own_chains: tuple[tuple[str, str], ...]

    @property
    def own_rules(self) -> tuple[Rule, ...]:
        """The rules of own chains, and the rules that lead to one."""
        return tuple(rule for rule in self.rules if is_own(rule.chain) or _JUMP_TO_OWN in rule.text)

    @property
    def has_own(self) -> bool:
        return bool(self.own_chains or self.own_rules)

    def are(self, expected: Sequence[Rule]) -> bool:
        """Whether the own rules are the expected ones. Another version of iptables may print a rule
        differently; then the rules count as other ones, and are written again."""
        return _by_chain(self.own_rules) == _by_chain(expected) and set(self.own_chains) == {
            (rule.table, rule.chain) for rule in expected if is_own(rule.chain)
        }

    def removal(self, tables: Iterable[str] | None = None) -> str:
        """The text for ``iptables-restore --noflush`` that removes the own rules and chains of these tables
        (None: all), and nothing else. It is empty if there are none."""
        present = dict.fromkeys(
            [*(table for table, _ in self.own_chains), *(rule.table for rule in self.own_rules)]
        )
        lines: list[str] = []
        for table in present:
            if tables is not None and table not in tables:
                continue
            chains = [chain for owner, chain in self.own_chains if owner == table]
            jumps = [rule for rule in self.own_rules if rule.table == table and not is_own(rule.chain)]
            lines.append(f"*{table}")
            lines += [f"-D {rule.chain} {rule.text}" for rule in jumps]
            lines += [f"-F {chain}" for chain in chains]
            lines += [f"-X {chain}" for chain in chains]
            lines.append("COMMIT")
        return "".join(f"{line}\n" for line in lines)


def parse(text: str) -> SavedRules:
    """``text`` is the output of ``iptables-save``."""
    table = ""
    rules: list[Rule] = []
    own_chains: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":"):
            chain = line[1:].partition(" ")[0]
            if is_own(chain):
                own_chains.append((table, chain))
        elif line.startswith("-A "):
            _, chain, *rest = line.split(" ", 2)
            rules.append(Rule(table, chain, rest[0].rstrip() if rest else ""))
    return SavedRules(rules=tuple(rules), own_chains=tuple(own_chains))


def _by_chain(rules: Iterable[Rule]) -> dict[tuple[str, str], list[list[str]]]:
    """The order of the rules matters within a chain only."""
    chains: dict[tuple[str, str], list[list[str]]] = {}
    for rule in rules:
        chains.setdefault((rule.table, rule.chain), []).append(_options(rule.text))
    return chains


def _options(text: str) -> list[str]:
    """A rule's options in alphabetical order, without the names of the matches, which options imply."""
    options: list[list[str]] = []
    negated = False
    for word in text.split():
        if word == "!":
            negated = True
        elif word.startswith("-"):
            options.append(["!", word] if negated else [word])
            negated = False
        elif options:
            options[-1].append(word)
    return sorted(" ".join(option) for option in options if option[0] != "-m")
