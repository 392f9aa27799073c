"""Which files of a folder hold resources, and what each of them says. Knows no store: only the disk."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from controlplane.errors import InvalidResourceError, ResourceError
from controlplane.kinds.registry import KINDS
from controlplane.model.snapshot import ResourceKey
from controlplane.model.status import Origin
from controlplane.resources.resource import Resource
from controlplane.sources.yaml_documents import Document, YamlError, read_documents

_SUFFIXES = (".yaml", ".yml")
_MOST_BYTES = 32 * 1024 * 1024

# What differs when a file's content may differ: time, size, inode and device.
Signature = tuple[int, int, int, int]
UNREADABLE: Signature = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """``files`` by name, which is the path below the folder; ``unreadable`` folders might hold more."""

    files: dict[str, Signature] = field(default_factory=dict)
    unreadable: dict[str, OSError] = field(default_factory=dict)

    def may_hold(self, name: str) -> bool:
        """Whether a file that is not listed may be there all the same."""
        return any(folder == "." or name.startswith(f"{folder}/") for folder in self.unreadable)


@dataclass(slots=True, kw_only=True)
class Contents:
    """What a file says. ``faults`` are those of the file itself, and of documents that name no resource.
    ``doubt``: why there may be resources in it that were not recognised; empty if there are none."""

    name: str
    resources: dict[ResourceKey, tuple[Resource, Origin]] = field(default_factory=dict)
    rejected: dict[ResourceKey, tuple[tuple[ResourceError, ...], Origin]] = field(default_factory=dict)
    faults: list[ResourceError] = field(default_factory=list)
    doubt: str = ""


def list_files(folder: Path) -> Listing:
    """Every YAML file below the folder. Hidden ones are left out: editors' drafts, and the ``..data`` folders
    by which Kubernetes swaps the files of a mounted ConfigMap, which it shows as symbolic links beside."""
    listing = Listing()
    visited: set[tuple[int, int]] = set()

    def note(error: OSError) -> None:
        listing.unreadable[os.path.relpath(error.filename, folder)] = error

    for root, folders, names in os.walk(folder, onerror=note, followlinks=True):
        try:
            identity = os.stat(root)
        except OSError as error:
            note(error)
            continue
        if (identity.st_dev, identity.st_ino) in visited:  # a symbolic link to a folder above
            folders.clear()
            continue
        visited.add((identity.st_dev, identity.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if name.endswith(_SUFFIXES) and not name.startswith("."):
                path = os.path.join(root, name)
                signature = _signature(path)
                if signature is not None:
                    listing.files[os.path.relpath(path, folder)] = signature
    return listing


def _signature(path: str) -> Signature | None:
    """None for what is gone in the meantime, or leads nowhere."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError:
        return UNREADABLE  # it is there, and reading it will tell what is wrong
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev


def read_file(folder: Path, name: str) -> Contents | None:
    """What a file says; None if it is gone. Whatever is wrong with it is in the contents' words."""
    contents = Contents(name=name)
    try:
        text = _read_text(folder / name)
        for document in list(read_documents(text)):
            _take(contents, document)
    except FileNotFoundError:
        return None
    except OSError as error:
        _spoil(contents, f"cannot be read: {error.strerror or error}")
    except UnicodeDecodeError as error:
        _spoil(contents, f"is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}")
    except (YamlError, ResourceError) as error:
        _spoil(contents, str(error))
    return contents


def _read_text(path: Path) -> str:
    with open(path, "rb", opener=_open_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ResourceError("", "is no regular file")
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ResourceError("", f"is larger than {_MOST_BYTES} bytes")
    return data.decode("utf-8-sig")


def _open_without_waiting(path: str, flags: int) -> int:
    """A named pipe would keep a plain open waiting for its writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _spoil(contents: Contents, reason: str) -> None:
    contents.faults.append(ResourceError("", reason))
    contents.doubt = contents.doubt or reason


def _take(contents: Contents, document: Document) -> None:
    origin = Origin(file=contents.name, line=document.line)
    try:
        kind, namespace, name = KINDS.identify(document.value)
    except ResourceError as error:
        _spoil(contents, f"line {document.line}: {error}")
        return
    key = ResourceKey(kind=kind, namespace=namespace, name=name)
    first = contents.resources.get(key) or contents.rejected.get(key)
    if first is not None:
        reason = f"line {document.line}: {key} is in this file already, at line {first[1].line}"
        contents.faults.append(ResourceError("", reason))
        return
    try:
        contents.resources[key] = (KINDS.parse(document.value), origin)
    except InvalidResourceError as error:
        contents.rejected[key] = (error.errors, origin)
    except ResourceError as error:
        contents.rejected[key] = ((error,), origin)
        if kind not in KINDS and KINDS.resembles_known_kind(kind):
            contents.doubt = contents.doubt or f"line {document.line}: {error}"
