"""Stores the last good versions of quarantined resources for the next process, and for every replica.

`entry` converts one version to JSON and back; `file` stores them in the state folder, `config_map` in a
cluster.
"""
