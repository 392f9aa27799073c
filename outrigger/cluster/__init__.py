"""The operator's access to a cluster, as kubectl has it."""
