"""The addresses of one node's pods."""

from __future__ import annotations

from collections import deque
from ipaddress import IPv4Network


class AddressPool:
    """A node's subnet. An address that was given back is taken again as late as possible, so that a client
    with the address of a deleted pod does not reach another pod."""

    def __init__(self, subnet: IPv4Network) -> None:
        host, router, *pods = map(str, subnet.hosts())
        self.host = host
        self.router = router
        self._free = deque(pods)

    def take(self) -> str:
        """Raises IndexError when the subnet is used up."""
        return self._free.popleft()

    def give_back(self, address: str) -> None:
        self._free.append(address)
