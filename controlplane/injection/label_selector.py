"""``metav1.LabelSelector``: selects pods by their labels."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from controlplane.resources.base import Message, NonEmptyStr, Str, invalid


class _Operator(StrEnum):
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class _Expression(Message):
    key: NonEmptyStr
    operator: _Operator
    values: tuple[Str, ...] = ()

    @model_validator(mode="after")
    def _values_belong_to_the_operator(self) -> Self:
        if (self.operator in (_Operator.IN, _Operator.NOT_IN)) != bool(self.values):
            raise invalid("should have `values` for the operators In and NotIn, and only for them")
        return self

    def matches(self, labels: Mapping[str, str]) -> bool:
        match self.operator:
            case _Operator.IN:
                return labels.get(self.key) in self.values
            case _Operator.NOT_IN:
                return labels.get(self.key) not in self.values
            case _Operator.EXISTS:
                return self.key in labels
            case _Operator.DOES_NOT_EXIST:
                return self.key not in labels


class LabelSelector(Message):
    match_labels: dict[Str, Str] = Field(default_factory=dict)
    match_expressions: tuple[_Expression, ...] = ()

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether ``labels`` fulfil all requirements. An empty selector selects nothing, as in Istio's
        injector."""
        if not self.match_labels and not self.match_expressions:
            return False
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            expression.matches(labels) for expression in self.match_expressions
        )
