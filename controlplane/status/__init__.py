"""Writes the state of each resource into its ``.status``, where its author looks for it.

`affected_proxies` counts the proxies that a resource concerns. `report` describes its state.
`ledger` remembers the statuses that the cluster has, and `writer` writes those that differ. `elected` holds
the lease that makes sure that only one replica writes.
"""
