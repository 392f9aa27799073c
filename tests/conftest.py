"""Settings for all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# No deadline: a slow machine is not a bug. On CI the same commit always sees the same examples; elsewhere
# they are new ones each time.
settings.register_profile("outrigger", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("outrigger")

# Sidecars of tests have one worker, unless a test asks for more: most tests count exactly.
os.environ.setdefault("OUTRIGGER_CONCURRENCY", "1")
