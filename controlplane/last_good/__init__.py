"""Keeps the last good version of what is quarantined where the next process, and every replica, finds it.

`entry` is how one is written, `file` keeps them in a folder's state folder, `config_map` in a cluster.
"""
