"""The values of the chart: their types, `--set` and `-f`, as Helm has them. `values.schema.json` is generated
from the models, so that Helm refuses the same values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from controlplane.resources.base import Bool, NonEmptyStr, NonNegativeInt, Percent, Str
from controlplane.resources.error_messages import explain
from outrigger.errors import CommandError

Values = dict[str, Any]

_Object = dict[str, Any]
_Replicas = Annotated[NonNegativeInt, Field(ge=1)]
_Labels = dict[str, Str]
_FailurePolicy = Literal["Fail", "Ignore"]
_TimeoutSeconds = Annotated[NonNegativeInt, Field(ge=1, le=30)]
# The longest name with it, outrigger-sidecar-injector-REVISION, is a label's value, too: 63 characters.
_Revision = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=36)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


class _Global(_Model):
    hub: NonEmptyStr
    tag: Str
    image_pull_policy: Literal["", "Always", "IfNotPresent", "Never"]
    image_pull_secrets: list[_Object]


class _Namespace(_Model):
    create: Bool


class _Autoscaling(_Model):
    enabled: Bool
    min_replicas: _Replicas
    max_replicas: _Replicas
    target_cpu_percent: Percent


class _PodDisruptionBudget(_Model):
    enabled: Bool
    min_available: _Replicas


class _Switch(_Model):
    enabled: Bool


class _ControlPlane(_Model):
    replicas: _Replicas
    autoscaling: _Autoscaling
    pod_disruption_budget: _PodDisruptionBudget
    network_policy: _Switch
    bind_address: NonEmptyStr
    log_level: Literal["debug", "info", "warning", "error"]
    log_format: Literal["text", "json"]
    extra_args: list[Str]
    env: list[_Object]
    resources: _Object
    priority_class_name: Str
    node_selector: _Labels
    tolerations: list[_Object]
    affinity: _Object
    topology_spread_constraints: list[_Object]
    pod_labels: _Labels
    pod_annotations: _Labels
    service_annotations: _Labels
    service_account_annotations: _Labels


class _Injection(_Model):
    enabled: Bool
    enable_namespaces_by_default: Bool
    failure_policy: _FailurePolicy
    reinvocation_policy: Literal["Never", "IfNeeded"]
    timeout_seconds: _TimeoutSeconds
    config: _Object
    values: _Object


class _Validation(_Model):
    enabled: Bool
    failure_policy: _FailurePolicy
    timeout_seconds: _TimeoutSeconds
    namespace_selector: _Object


class ChartValues(_Model):
    """All values. None of them is optional, because `values.yaml` contains a default of each."""

    revision: _Revision
    # Helm itself writes this one.
    global_: Annotated[_Global, Field(alias="global")]
    namespace: _Namespace
    mesh_config: _Object
    control_plane: _ControlPlane
    injection: _Injection
    validation: _Validation


def check_values(values: Values) -> None:
    """Raises `CommandError` with the path of each value that is unknown or has a wrong type."""
    try:
        ChartValues.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(map(str, explain(error, ChartValues, "values")))
        raise CommandError(problems) from error


def values_schema() -> dict[str, Any]:
    """The content of `values.schema.json`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **ChartValues.model_json_schema(by_alias=True),
    }


def overlaid(base: Mapping[str, Any], override: Mapping[str, Any]) -> Values:
    """Mappings are merged, everything else is replaced."""
    result = dict(base)
    for key, value in override.items():
        inner = result.get(key)
        if isinstance(inner, Mapping) and isinstance(value, Mapping):
            result[key] = overlaid(inner, value)
        else:
            result[key] = value
    return result


def without_nulls(values: Mapping[str, Any]) -> Values:
    """Null in a value removes the default."""
    return {
        key: without_nulls(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }


def given_values(files: Iterable[Path], settings: Iterable[str]) -> Values:
    """The values of `-f` and of `--set`, which win; later ones win over earlier ones. Raises
    `CommandError`."""
    given: Values = {}
    for file in files:
        given = overlaid(given, _read(file))
    for setting in settings:
        given = overlaid(given, _parse(setting))
    return given


def _read(file: Path) -> Values:
    try:
        document = yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise CommandError(f"-f {file}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise CommandError(f"-f {file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document or {}, dict):
        raise CommandError(f"-f {file}: expected a mapping of values")
    return document or {}


_PAIR: Final = re.compile(r"((?:\\.|[^\\=,])+)=((?:\{[^}]*\})|(?:\\.|[^\\,])*)(?:,|$)")
_KEY: Final = re.compile(r"(?:\\.|[^\\.])+")
_ESCAPE: Final = re.compile(r"\\(.)")
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]*")
_SCALARS: Final[Mapping[str, object]] = {"true": True, "false": False, "null": None}


def _parse(setting: str) -> Values:
    """`a.b=c,d={e,f}`: a backslash makes the next character a part of a key or value. Indexes of lists are
    not supported."""
    values: Values = {}
    position = 0
    while position < len(setting):
        pair = _PAIR.match(setting, position)
        if pair is None or "[" in pair[1]:
            raise CommandError(f"--set {setting}: expected KEY=VALUE, such as controlPlane.replicas=3")
        if pair[2].startswith("{") and not pair[2].endswith("}"):
            raise CommandError(f"--set {setting}: the list {pair[2]} does not end with }}")
        *parents, last = [_ESCAPE.sub(r"\1", key) for key in _KEY.findall(pair[1])]
        inner: Any = _value(pair[2])
        for key in reversed([*parents, last]):
            inner = {key: inner}
        values = overlaid(values, inner)
        position = pair.end()
    return values


def _value(text: str) -> object:
    if text.startswith("{"):
        return [_scalar(each) for each in text[1:-1].split(",") if each]
    return _scalar(text)


def _scalar(text: str) -> object:
    if text in _SCALARS:
        return _SCALARS[text]
    return int(text) if _INTEGER.fullmatch(text) else _ESCAPE.sub(r"\1", text)
