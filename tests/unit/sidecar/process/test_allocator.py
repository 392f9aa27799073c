"""In a process of its own: the settings of an allocator cannot be read or taken back."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import resource
from sidecar.process.allocator import keep_freed_buffers

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if {keep}:
    keep_freed_buffers()
buffers = [bytes(256 * 1024) for _ in range(4)]
del buffers
before = faults()
for _ in range(50):
    buffers = [bytes(256 * 1024) for _ in range(4)]
    del buffers
print(faults() - before)
"""


def faults(*, keep: bool) -> int:
    script = SCRIPT.format(keep=keep)
    return int(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout)


def test_freed_buffers_are_used_again_with_few_page_faults() -> None:
    assert faults(keep=True) * 5 < faults(keep=False)
