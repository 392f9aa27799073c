"""Puts the rules into force, and removes them.

The namespace of a pod outlives its init container, which runs again when the kubelet restarts it: rules may
be there already, complete, partial, or made with other settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sidecar.intercept import pod_network
from sidecar.intercept.errors import InterceptError
from sidecar.intercept.iptables import Iptables, installed
from sidecar.intercept.rules import Family, Rule
from sidecar.intercept.ruleset import GUARDRAIL_TABLE, GUARDRAILS, RULE_TABLES, render, rules_for
from sidecar.intercept.saved import SavedRules
from sidecar.intercept.settings import Interception, Variant

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What one address family has, and should have. ``others`` are own rules of the other variant."""

    iptables: Iptables
    present: SavedRules
    others: tuple[tuple[Iptables, SavedRules], ...]
    expected: tuple[Rule, ...]

    @property
    def is_done(self) -> bool:
        return self.present.are(self.expected) and not self.others

    @property
    def is_new(self) -> bool:
        return not self.present.has_own and not self.others


def apply(settings: Interception, families: Iterable[Family], variant: Variant, say: Say) -> None:
    """Raises `InterceptError`. If it fails while it replaces rules, no traffic passes until a later run
    succeeds."""
    works = [_inspect(settings, family, variant) for family in families]
    for work in works:
        pod_network.prepare(settings, work.iptables.family)
    pending = [work for work in works if not work.is_done]
    replaces = not all(work.is_new for work in pending)
    if replaces:
        say("other rules are present: all traffic is dropped until they are replaced")
        for work in works:
            _guard(work.iptables)
    for work in pending:
        for iptables, rules in ((work.iptables, work.present), *work.others):
            iptables.restore(rules.removal(RULE_TABLES))
        work.iptables.restore(render(work.expected))
    if replaces:
        for work in works:
            for iptables in (work.iptables, *(iptables for iptables, _ in work.others)):
                iptables.restore(iptables.save().removal([GUARDRAIL_TABLE]))
    for work in works:
        count = len(work.expected)
        done = "already in force" if work.is_done else "applied"
        say(f"IPv{work.iptables.family.version}: {count} rules {done} ({work.iptables.name})")


def clean(families: Iterable[Family], variant: Variant, say: Say) -> None:
    """Removes the own rules of both variants, and the addresses and routes. It continues after a failure, and
    raises `InterceptError` at the end if something is left."""
    failures = []
    for family in families:
        removed = 0
        for iptables in installed(family, variant):
            try:
                present = iptables.save()
                iptables.restore(present.removal())
                removed += len(present.own_rules)
            except InterceptError as error:
                failures.append(str(error))
        pod_network.restore(family)
        say(f"IPv{family.version}: {removed} rules removed")
    if failures:
        raise InterceptError(f"rules may be left: {'; '.join(failures)}")


def _inspect(settings: Interception, family: Family, variant: Variant) -> _Work:
    saved = [(iptables, _save(iptables)) for iptables in installed(family, variant)]
    usable = [(iptables, rules) for iptables, rules in saved if not isinstance(rules, InterceptError)]
    if not usable:
        raise InterceptError("; ".join(str(error) for _, error in saved))
    iptables, present = choose(usable)
    return _Work(
        iptables=iptables,
        present=present,
        others=tuple((other, rules) for other, rules in usable if other != iptables and rules.has_own),
        expected=rules_for(settings, family),
    )


def _save(iptables: Iptables) -> SavedRules | InterceptError:
    """A variant that the kernel does not support has no rules here."""
    try:
        return iptables.save()
    except InterceptError as error:
        return error


def choose(variants: Sequence[tuple[Iptables, SavedRules]]) -> tuple[Iptables, SavedRules]:
    """The variant with own rules, or else the one with any rules, or else the preferred one."""
    for candidate in variants:
        if candidate[1].has_own:
            return candidate
    for candidate in variants:
        if candidate[1].rules:
            return candidate
    return variants[0]


def _guard(iptables: Iptables) -> None:
    iptables.restore(iptables.save().removal([GUARDRAIL_TABLE]) + render(GUARDRAILS, before_others=True))
