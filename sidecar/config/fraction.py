"""Shares of requests. Source: ``envoy.type.v3.FractionalPercent``."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Fraction:
    """``numerator / denominator`` of the requests; all of them from 1 on."""

    numerator: int
    denominator: int = 100

    def takes(self, rng: random.Random) -> bool:
        """Whether the next request is one of them, at random."""
        if self.numerator == 0:
            return False
        return self.numerator >= self.denominator or rng.random() * self.denominator < self.numerator

    def takes_number(self, number: int) -> bool:
        """Whether the request with this number is one of them. Each proxy that knows the number decides the
        same."""
        return number % self.denominator < self.numerator

    def at_most(self, numerator: int) -> Fraction:
        """This fraction, or the one with `numerator` if it is smaller."""
        return Fraction(numerator=min(numerator, self.numerator), denominator=self.denominator)


NONE = Fraction(numerator=0)
ALL = Fraction(numerator=100)
