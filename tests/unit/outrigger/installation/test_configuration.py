"""Values of the chart that become configuration files of the control plane."""

from __future__ import annotations

import pytest

from outrigger.errors import CommandError
from outrigger.installation.chart import Chart, Release
from outrigger.installation.configuration import check_configuration
from outrigger.installation.values import given_values

RELEASE = Release(name="outrigger", namespace="outrigger-system", service="tests")


def check(*settings: str) -> None:
    check_configuration(Chart().render(RELEASE, given_values([], settings)))


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("revision=canary",),
        ("meshConfig.trustDomain=example.org", "injection.config.policy=disabled"),
        ("injection.values.proxy.logLevel=debug", "global.imagePullPolicy=Always"),
        ("meshConfig.enableTracing=true",),  # of Istio, ignored with a warning
    ],
)
def test_a_valid_configuration_passes(settings: tuple[str, ...]) -> None:
    check(*settings)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("injection.config.polcy=disabled", "injection.config, injection.values is invalid: .*polcy"),
        ("injection.config.policy=maybe", "injection.config, injection.values is invalid: .*policy"),
        ("injection.values.proxy.logLevl=debug", "injection.config, injection.values is invalid: .*logLevl"),
        # The chart writes this key itself.
        ("injection.config.values.hub=example.com", "duplicate key 'values'"),
        ("meshConfig.trustDomian=example.org", "meshConfig is invalid: .*outrigger.*trustDomian"),
        ("meshConfig.connectTimeout=soon", "meshConfig is invalid: .*connectTimeout"),
    ],
)
def test_an_invalid_one_is_refused_by_the_names_of_the_value_and_of_the_field(
    setting: str, words: str
) -> None:
    with pytest.raises(CommandError, match=words):
        check(setting)
