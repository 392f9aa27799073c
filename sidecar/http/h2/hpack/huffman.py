"""The Huffman code of strings (RFC 7541 5.2, Appendix B), decoded four bits at a time by a table.

The code is canonical: the lengths of its codes define it. Strings are never encoded with it here: they would
be shorter by a fifth, and cost both sides more than they save between neighbours.
"""

from __future__ import annotations

from typing import Final

_LENGTHS: Final = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c"
    "060a0a0c0d06080b0a0a080b080606060505050606060606060607080f060c0a"
    "0d06070707070707070707070707070707070707070707070807080d130d0e06"
    "0f05060506050606060507070606060506070605050607070707070f0b0e0d1c"
    "1416141416161617161717171717181718181617181717171715161716171718"
    "1615141616171715171616181516171715151615171617171416161617161617"
    "1a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b"
    "14181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a"
)  # of the codes of the 256 bytes, in bits
_EOS: Final = 256
_EOS_LENGTH: Final = 30
_MAX_PADDING: Final = 7

# What a step of four bits does, besides leading to the next state.
NOTHING: Final = 0
EMITS: Final = 1
FAILS: Final = 2


def _codes() -> list[tuple[int, int, int]]:
    """Code, length and symbol: the codes of one length are consecutive, in the order of the symbols."""
    lengths = [*_LENGTHS, _EOS_LENGTH]
    codes = []
    code = 0
    before = 0
    for symbol in sorted(range(len(lengths)), key=lambda symbol: (lengths[symbol], symbol)):
        code <<= lengths[symbol] - before
        before = lengths[symbol]
        codes.append((code, before, symbol))
        code += 1
    return codes


def _tree() -> tuple[list[list[int]], bytes]:
    """The inner nodes of the tree: for each bit a node, or -1 - symbol. Node 0 is the root. And for each node
    whether a string may end there: the bits since the last symbol are padding, a prefix of EOS."""
    nodes = [[0, 0]]
    may_end = bytearray(b"\x01")
    for code, length, symbol in _codes():
        node = 0
        for bit in range(length - 1, -1, -1):
            way = code >> bit & 1
            if bit == 0:
                nodes[node][way] = -1 - symbol
            elif nodes[node][way] == 0:
                nodes.append([0, 0])
                depth = length - bit
                may_end.append(depth <= _MAX_PADDING and code >> bit == (1 << depth) - 1)
                nodes[node][way] = len(nodes) - 1
                node = nodes[node][way]
            else:
                node = nodes[node][way]
    return nodes, bytes(may_end)


def _steps() -> tuple[bytes, bytes, bytes, bytes]:
    nodes, may_end = _tree()
    following, symbols, effects = bytearray(), bytearray(), bytearray()
    for start in range(len(nodes)):
        for bits in range(16):
            node, symbol, effect = start, 0, NOTHING
            for bit in (3, 2, 1, 0):
                node = nodes[node][bits >> bit & 1]
                if node < 0:
                    symbol = -1 - node
                    node = 0
                    effect = EMITS
                if symbol == _EOS:  # RFC 7541 5.2: an error
                    symbol, node, effect = 0, 0, FAILS
                    break
            following.append(node)
            symbols.append(symbol)
            effects.append(effect)
    return bytes(following), bytes(symbols), bytes(effects), may_end


NEXT_STATE, SYMBOLS, EFFECTS, MAY_END = _steps()
"""For state * 16 + four bits: the next state, the symbol, the effect; no code is shorter than five bits, so
there is at most one symbol. For a state: whether a string may end in it."""


def decode_huffman(data: bytes) -> bytes | None:
    """Returns the string; None if it is invalid: EOS, or wrong padding."""
    following, symbols, effects = NEXT_STATE, SYMBOLS, EFFECTS
    out: list[int] = []
    state = 0
    for byte in data:
        at = (state << 4) + (byte >> 4)
        effect = effects[at]
        if effect == EMITS:
            out.append(symbols[at])
        elif effect == FAILS:
            return None
        at = (following[at] << 4) + (byte & 15)
        effect = effects[at]
        if effect == EMITS:
            out.append(symbols[at])
        elif effect == FAILS:
            return None
        state = following[at]
    return bytes(out) if MAY_END[state] else None
