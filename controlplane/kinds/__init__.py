"""The kinds of resources: one file for each, which describes it, and one line of `registry`."""
