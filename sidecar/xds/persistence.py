"""The last good configuration on disk: after a restart without a control plane, the sidecar serves it.

The first line is JSON: the format of the file, and the digest of the rest. The rest is JSON too. The file is
replaced atomically, and only its owner can read it, because resources can hold keys.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sidecar.xds.store import RawResource

_LOG = logging.getLogger(__name__)

_FORMAT = "outrigger last good configuration, 1"
_FILE = "last-good.json"
_DEBOUNCE_S = 1.0


def read_last_good(cache_dir: Path, node_id: str) -> list[RawResource]:
    """Returns the saved resources: empty without a file, or if it is invalid, which is logged."""
    path = cache_dir / _FILE
    try:
        header_line, _, payload = path.read_bytes().partition(b"\n")
        header = json.loads(header_line)
        if header.get("format") != _FORMAT:
            raise ValueError(f"it is of the format {header.get('format')!r}, not {_FORMAT!r}")
        if header.get("node") != node_id:
            raise ValueError(f"it is another node's, {header.get('node')!r}")
        if header.get("sha256") != hashlib.sha256(payload).hexdigest():
            raise ValueError("its digest does not fit")
        return [_raw(entry) for entry in json.loads(payload)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        _LOG.warning("%s: ignored the last good configuration: %s", path, error)
        return []


def write_last_good(cache_dir: Path, node_id: str, resources: Iterable[RawResource]) -> None:
    """Blocks until the file is on the disk. Raises ``OSError``."""
    # One resource at a time: this thread holds the interpreter's lock during each call.
    entries = (json.dumps(_entry(resource)).encode() for resource in resources)
    payload = b"[" + b",".join(entries) + b"]"
    digest = hashlib.sha256(payload).hexdigest()
    header = json.dumps({"format": _FORMAT, "node": node_id, "sha256": digest}).encode()
    cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=cache_dir, prefix=f".{_FILE}.")  # of mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(header + b"\n" + payload)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(cache_dir / _FILE)
    finally:
        temporary.unlink(missing_ok=True)


def _entry(resource: RawResource) -> dict[str, str]:
    return {
        "type": resource.type_url,
        "name": resource.name,
        "version": resource.version,
        "body": base64.b64encode(resource.body).decode(),
    }


def _raw(entry: dict[str, str]) -> RawResource:
    return RawResource(
        name=entry["name"],
        version=entry["version"],
        type_url=entry["type"],
        body=base64.b64decode(entry["body"], validate=True),
    )


class LastGoodWriter:
    """Writes the resources that ``collect`` returns, after changes have paused: in a thread, one write at a
    time."""

    def __init__(
        self,
        cache_dir: Path,
        node_id: str,
        collect: Callable[[], list[RawResource]],
        *,
        debounce_s: float = _DEBOUNCE_S,
    ) -> None:
        self._cache_dir = cache_dir
        self._node_id = node_id
        self._collect = collect
        self._debounce_s = debounce_s
        self._changed = asyncio.Event()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="last-good")

    def changed(self) -> None:
        """Schedules a write, because resources were published."""
        self._changed.set()

    async def run(self) -> None:
        """Runs until it is cancelled, and then writes changes that are not written yet."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._changed.wait()
                await asyncio.sleep(self._debounce_s)
                self._changed.clear()
                await loop.run_in_executor(self._executor, self._write, self._collect())
        finally:
            self._executor.shutdown(wait=True)  # otherwise an older write could end after this one
            if self._changed.is_set():
                self._write(self._collect())

    def _write(self, resources: list[RawResource]) -> None:
        try:
            write_last_good(self._cache_dir, self._node_id, resources)
        except OSError as error:
            _LOG.warning("the last good configuration cannot be written to %s: %s", self._cache_dir, error)
