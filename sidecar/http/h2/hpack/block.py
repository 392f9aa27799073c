"""Reads header blocks (RFC 7541 6)."""

from __future__ import annotations

from typing import Final

from sidecar.http.h2.field_kinds import INVALID, ORDINARY, PSEUDO, field_kind
from sidecar.http.h2.hpack.dynamic_table import DynamicTable, HpackError
from sidecar.http.h2.hpack.huffman import decode_huffman
from sidecar.http.h2.hpack.static_table import STATIC_SIZE, STATIC_TABLE
from sidecar.http.headers import Headers

# No longer integer is the size of anything here, and a shift stays small.
_MAX_INTEGER_BYTES: Final = 5

_STATIC_KINDS: Final = tuple(field_kind(name, value) for name, value in STATIC_TABLE)

# What is wrong with a list, although its block is valid.
FINE: Final = 0
TOO_LARGE: Final = 1
MALFORMED: Final = 2


def read_block(  # noqa: PLR0912, PLR0915 - one pass over the bytes
    block: bytes, table: DynamicTable, max_bytes: int, max_count: int
) -> tuple[Headers, Headers, int, int, bytes]:
    """Returns the ordinary fields; those of another kind; the size of all names and values; a verdict; and
    the name of the field that makes the list malformed.

    A list that is larger than a limit is TOO_LARGE, and its fields are not returned: they are not even
    stored, but read to the end, so that the table stays right. A list is MALFORMED if it has an INVALID
    field, or a pseudo-header behind an ordinary field. Raises `HpackError`.
    """
    fields: Headers = []
    special: Headers = []
    size = 0
    count = 0
    verdict = FINE
    culprit = b""
    at = 0
    end = len(block)
    entries = table.entries
    kinds = table.kinds
    if table.max_size > table.limit and (end == 0 or block[0] & 0xE0 != 0x20):  # 4.2
        raise HpackError(f"the dynamic table was not resized to {table.limit} bytes")
    while at < end:
        byte = block[at]
        if byte >= 0x80:  # 6.1: an indexed field
            index = byte & 0x7F
            at += 1
            if index == 0x7F:
                index, at = _read_integer(block, at, 0x7F)
            if index > STATIC_SIZE:
                if index - STATIC_SIZE > len(entries):
                    raise HpackError(f"index {index} of a table of {STATIC_SIZE + len(entries)} entries")
                field = entries[STATIC_SIZE - index]
                kind = kinds[STATIC_SIZE - index]
            elif index:
                field = STATIC_TABLE[index]
                kind = _STATIC_KINDS[index]
            else:
                raise HpackError("index 0")
        elif byte & 0xE0 == 0x20:  # 6.3: a change of the table's size
            if count:  # 4.2: only at the beginning of a block
                raise HpackError("the dynamic table is resized behind a field")
            max_size, at = _read_prefixed(block, at, 0x1F)
            table.resize(max_size)
            continue
        else:  # 6.2: a literal
            index, at = _read_prefixed(block, at, 0x3F if byte & 0x40 else 0x0F)
            if index:
                name = _indexed_name(table, index)
            else:
                name, at = _read_string(block, at)
            value, at = _read_string(block, at)
            field = (name, value)
            kind = field_kind(name, value)
            if byte & 0x40:
                table.insert(field, kind)
        count += 1
        size += len(field[0]) + len(field[1])
        if verdict == TOO_LARGE:
            continue
        if size > max_bytes or count > max_count:
            verdict = TOO_LARGE
            fields = []
            special = []
        elif kind == ORDINARY:
            fields.append(field)
        else:
            special.append(field)
            if (kind == INVALID or (kind == PSEUDO and fields)) and verdict == FINE:
                verdict = MALFORMED
                culprit = field[0]
    return fields, special, size, verdict, culprit


def _indexed_name(table: DynamicTable, index: int) -> bytes:
    if index <= STATIC_SIZE:
        return STATIC_TABLE[index][0]
    if index - STATIC_SIZE > len(table.entries):
        raise HpackError(f"index {index} of a table of {STATIC_SIZE + len(table.entries)} entries")
    return table.entries[STATIC_SIZE - index][0]


def _read_prefixed(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """An integer (5.1) whose prefix is the bits of `mask` in the byte at `at`, and the position behind it."""
    value = block[at] & mask
    if value < mask:
        return value, at + 1
    return _read_integer(block, at + 1, mask)


def _read_integer(block: bytes, at: int, value: int) -> tuple[int, int]:
    """The bytes of an integer that follow a full prefix, which counts `value`."""
    for shift in range(0, 7 * _MAX_INTEGER_BYTES, 7):
        if at == len(block):
            raise HpackError("the block ends within an integer")
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise HpackError("an integer of too many bytes")


def _read_string(block: bytes, at: int) -> tuple[bytes, int]:
    """A string (5.2), and the position behind it."""
    if at == len(block):
        raise HpackError("the block ends before a string")
    huffman = block[at] >= 0x80
    size, at = _read_prefixed(block, at, 0x7F)
    end = at + size
    if end > len(block):
        raise HpackError("the block ends within a string")
    if not huffman:
        return block[at:end], end
    string = decode_huffman(block[at:end])
    if string is None:
        raise HpackError("an invalid Huffman code")
    return string, end
