"""What became of each resource, written back into its ``.status`` where its author looks for it.

`audience` counts the proxies that a resource concerns, `report` says in words how it is, `ledger` remembers
what the cluster has, and `writer` writes what differs. One replica does, which `elected` by a lease.
"""
