"""Lists the resource files of a folder and reads their contents. Does not access the store."""

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
from controlplane.yaml_documents import Document, YamlError, read_documents

_SUFFIXES = (".yaml", ".yml")
_MOST_BYTES = 32 * 1024 * 1024

# Modification time, size, inode and device of a file: if they are unchanged, the content is assumed to be
# unchanged.
Signature = tuple[int, int, int, int]
UNREADABLE: Signature = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The files of a folder. The keys are paths relative to the folder. Folders in ``unreadable`` may contain
    more files."""

    files: dict[str, Signature] = field(default_factory=dict)
    unreadable: dict[str, OSError] = field(default_factory=dict)

    def may_hold(self, name: str) -> bool:
        """Whether a file that is not listed may exist in an unreadable folder."""
        return any(folder == "." or name.startswith(f"{folder}/") for folder in self.unreadable)


@dataclass(slots=True, kw_only=True)
class Contents:
    """The contents of a file. ``faults`` are errors of the file itself and of documents that do not name a
    resource. ``doubt`` is the reason why the file may contain more resources than were recognized; empty if
    it cannot."""

    name: str
    resources: dict[ResourceKey, tuple[Resource, Origin]] = field(default_factory=dict)
    rejected: dict[ResourceKey, tuple[tuple[ResourceError, ...], Origin]] = field(default_factory=dict)
    faults: list[ResourceError] = field(default_factory=list)
    doubt: str = ""


def list_files(folder: Path) -> Listing:
    """Lists all YAML files in the folder and its subfolders. Skips hidden ones: editors' temporary files, and
    the ``..data`` folder with which Kubernetes replaces the files of a mounted ConfigMap (the visible files
    are symbolic links into it)."""
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
        if (identity.st_dev, identity.st_ino) in visited:  # a symbolic link to a parent folder
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
    """Returns None for a file that was deleted in the meantime, or a broken symbolic link."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError:
        return UNREADABLE  # it exists, and reading it will report the error
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev


def read_file(folder: Path, name: str) -> Contents | None:
    """Reads a file. Returns None if it was deleted. Errors are part of the returned contents."""
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
            raise ResourceError("", "is not a regular file")
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ResourceError("", f"is larger than {_MOST_BYTES} bytes")
    return data.decode("utf-8-sig")


def _open_without_waiting(path: str, flags: int) -> int:
    """Opens without blocking: a plain open of a named pipe waits for a writer."""
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
        reason = f"line {document.line}: duplicate resource {key}, already defined at line {first[1].line}"
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
