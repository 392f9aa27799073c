from __future__ import annotations

import pytest
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

from sidecar.config.http_filters import Mutations, RouterConfig
from sidecar.filters.registry import FILTERS
from sidecar.xds.decode.http_filters.registry import HTTP_FILTERS, TABLE
from sidecar.xds.decode.view import View
from tests.support.filter_chains import filter_context


@pytest.mark.parametrize("type_name", sorted(HTTP_FILTERS))
async def test_every_filter_that_is_decoded_can_be_made(type_name: str) -> None:
    message = GetMessageClass(Default().FindMessageTypeByName(type_name))()
    config = HTTP_FILTERS[type_name].decode(View(message, TABLE))
    if config is not None and not isinstance(config, RouterConfig):
        FILTERS.make(config, filter_context(name="any")).close()


def test_a_configuration_of_a_route_is_compiled_by_its_filter() -> None:
    assert FILTERS.compile_route_config(Mutations()) != Mutations()
