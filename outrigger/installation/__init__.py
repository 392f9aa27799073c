"""Installs the control plane in a cluster: the chart is rendered here, so that users need no Helm."""
