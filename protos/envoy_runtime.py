"""Envoy's runtime keys on which the control plane relies, with the values that the bootstrap sets."""

from __future__ import annotations

from typing import Final

# Envoy refuses a larger regular expression, and with it the whole resource. Its own limit is 100, which
# ordinary ones exceed; this is the one that Istio's bootstrap sets.
REGEX_SIZE_KEY: Final = "re2.max_program_size.error_level"
LARGEST_REGEX: Final = 32768
