"""What every test shares: how hypothesis searches."""

from __future__ import annotations

import os

from hypothesis import settings

# No deadline: a busy machine is no bug. On CI the same commit always sees the same examples; elsewhere they
# are new ones each time.
settings.register_profile("outrigger", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("outrigger")
