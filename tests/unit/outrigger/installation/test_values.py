"""`--set` and `-f`, and the values that the chart refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from outrigger.errors import CommandError
from outrigger.installation.chart import Chart
from outrigger.installation.values import check_values, given_values, overlaid, without_nulls


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("a=b", {"a": "b"}),
        ("a.b=c,a.d=1", {"a": {"b": "c", "d": 1}}),
        ("a=true,b=false,c=null,d=", {"a": True, "b": False, "c": None, "d": ""}),
        ("a=007,b=0,c=-3,d=1.5", {"a": "007", "b": 0, "c": -3, "d": "1.5"}),
        ("a={x,1}", {"a": ["x", 1]}),
        (r"labels.example\.org/a=b\,c", {"labels": {"example.org/a": "b,c"}}),
        ("a=b=c", {"a": "b=c"}),
    ],
)
def test_a_setting_is_parsed_as_by_helm(setting: str, values: object) -> None:
    assert given_values([], [setting]) == values


@pytest.mark.parametrize("setting", ["a", "=b", "a[0]=b", ",a=b", "a={b", "a={b}c", "a={b,c"])
def test_a_malformed_setting_is_refused(setting: str) -> None:
    with pytest.raises(CommandError, match=r"expected KEY=VALUE|does not end with"):
        given_values([], [setting])


def test_later_values_win_and_settings_win_over_files(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("a: {b: 1, c: 1, d: 1}\nlist: [1]")
    two.write_text("a: {c: 2, d: 2}\nlist: [2]")
    assert given_values([one, two], ["a.d=3"]) == {"a": {"b": 1, "c": 2, "d": 3}, "list": [2]}


@pytest.mark.parametrize(
    ("content", "reason"), [("a: [", "is not YAML"), ("- a", "expected a mapping"), (None, "No such file")]
)
def test_an_invalid_file_is_named(tmp_path: Path, content: str | None, reason: str) -> None:
    file = tmp_path / "values.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(CommandError, match=reason) as error:
        given_values([file], [])
    assert str(file) in str(error.value)


def test_null_removes_a_default() -> None:
    given = given_values([], ["controlPlane.resources.limits=null"])
    values = without_nulls(overlaid(Chart().defaults, given))
    assert values["controlPlane"]["resources"].keys() == {"requests"}


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("controlplane.replicas=2", "values.controlplane: unknown field; did you mean `controlPlane`?"),
        ("controlPlane.replicas=two", "values.controlPlane.replicas: should be an integer, not 'two'"),
        ("controlPlane.replicas=0", "values.controlPlane.replicas: should be greater than or equal to 1"),
        ("revision=Canary", "values.revision: should match pattern"),
        ("global.hub=", "values.global.hub: should not be empty"),
        ("injection.failurePolicy=Maybe", "values.injection.failurePolicy: should be 'Fail' or 'Ignore'"),
        ("global.tag=null", "values.global.tag: is required"),
    ],
)
def test_an_invalid_value_is_named(setting: str, reason: str) -> None:
    values = without_nulls(overlaid(Chart().defaults, given_values([], [setting])))
    with pytest.raises(CommandError) as error:
        check_values(values)
    assert str(error.value).startswith(reason)
