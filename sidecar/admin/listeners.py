"""``/listeners``: the active listeners, as Envoy's text and as ``admin.v3.Listeners``."""

from __future__ import annotations

from sidecar.admin.answers import Answer, Query, wanted_format
from sidecar.admin.state import AdminView
from sidecar.listener.manager import ListenerState


async def listeners(view: AdminView, query: Query) -> Answer:
    """``?format=text|json``. Warming and draining listeners are not shown."""
    in_json = wanted_format(query, "text", "json") == "json"
    statuses = await view.workers.listeners()
    active = [status for status in statuses if status.state is ListenerState.ACTIVE]
    if not in_json:
        return "".join(f"{status.name}::{status.address}\n" for status in active)
    return {
        "listener_statuses": [
            {
                "name": status.name,
                "local_address": {
                    "socket_address": {"address": status.address.host, "port_value": status.address.port}
                },
            }
            for status in active
        ]
    }
