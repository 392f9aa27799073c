"""Envoy runtime keys that the control plane relies on, with the values that the bootstrap file sets."""

from __future__ import annotations

from typing import Final

# Envoy rejects a resource with a larger regular expression. Its default limit of 100 is too small for common
# expressions; this value is the one in Istio's bootstrap.
REGEX_SIZE_KEY: Final = "re2.max_program_size.error_level"
LARGEST_REGEX: Final = 32768
