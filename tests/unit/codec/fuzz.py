"""Random damage to compressed objects: `python -m tests.unit.codec.fuzz MINUTES [FIRST SEED]`.

Whatever is done to an object, reading it gives the right bytes or CorruptError, in bounded memory.
"""

from __future__ import annotations

import random
import resource
import struct
import sys
import time

import zstandard

from objfs.codec.table import SeekTable
from objfs.codec.values import Frame
from objfs.errors import CorruptError
from tests.unit.codec.objects import compressed, content_of

MEMORY_KIB = 600 * 1024  # most that the process may ever take
INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 2**15, 2**16 - 1, 2**18, 2**26, 2**31 - 1, 2**31, 2**32 - 1)


def some_content(chance: random.Random) -> bytes:
    """Content that is partly random, partly repeated."""
    pieces = (chance.randbytes(chance.randrange(1, 50)), b"ab", bytes(9), b"0123456789" * 5)
    return b"".join(chance.choice(pieces) for _ in range(chance.randrange(1, 400)))


def some_object(chance: random.Random, content: bytes, *, is_ours: bool) -> bytes:
    """An object of ours, or one as other writers make it: without checksums, sizes or fixed lengths."""
    if is_ours:
        return compressed(content, size=chance.randrange(16, 4096), level=chance.choice((1, 3, 9)))
    frames: list[Frame] = []
    body = b""
    at = 0
    while at < len(content):
        size = chance.randrange(1, 3000)
        piece = content[at : at + size]
        maker = zstandard.ZstdCompressor(
            level=chance.choice((1, 3)),
            write_checksum=chance.random() < 0.5,
            write_content_size=chance.random() < 0.5,
        )
        data = maker.compress(piece)
        frames.append(Frame(stored_bytes=len(data), content_bytes=len(piece)))
        body += data
        at += size
    return body + SeekTable(frames).encode()


def damage(chance: random.Random, data: bytearray) -> None:
    """One change: a bit, a byte, a field of the table, a cut, a repeat, an exchange."""
    if len(data) < 16:
        data += chance.randbytes(8)
        return
    at = chance.randrange(len(data) - 4)
    table = max(0, len(data) - chance.randrange(4, 200))
    match chance.randrange(8):
        case 0:
            data[at] ^= 1 << chance.randrange(8)
        case 1:
            data[at] = chance.randrange(256)
        case 2:
            place = min(table, len(data) - 4)
            data[place : place + 4] = struct.pack("<I", chance.choice(INTERESTING))
        case 3:
            place = min(table, len(data) - 4)
            value = struct.unpack_from("<I", data, place)[0] + chance.choice((-1, 1, 4096, -4096))
            data[place : place + 4] = struct.pack("<I", value % 2**32)
        case 4:
            del data[at : at + chance.randrange(1, 60)]
        case 5:
            data[at:at] = data[max(0, at - chance.randrange(1, 60)) : at]
        case 6:
            data[:] = data[chance.randrange(len(data) // 2) :]
        case _:
            other = chance.randrange(len(data) - 4)
            data[at : at + 4], data[other : other + 4] = data[other : other + 4], data[at : at + 4]


def one_round(seed: int) -> str:
    """Damage one object; returns what became of it."""
    chance = random.Random(seed)
    content = some_content(chance)
    is_ours = chance.random() < 0.5
    data = bytearray(some_object(chance, content, is_ours=is_ours))
    assert content_of(bytes(data), content_bytes=len(content)) == content, f"seed {seed}: does not come back"
    for _ in range(chance.choice((1, 1, 1, 2, 5, 20))):
        damage(chance, data)
    promised = chance.choice((len(content), len(content), None, chance.choice(INTERESTING)))
    try:
        got = content_of(bytes(data), content_bytes=promised)
    except CorruptError:
        return "refused"
    assert promised in (None, len(got)), f"seed {seed}: another length than promised"
    if got == content:
        return "the same"
    # Ours are checked throughout; what has no checksums, or lost whole frames, nobody can tell.
    assert not is_ours or promised != len(content), f"seed {seed}: wrong content"
    return "not to be noticed"


def main(minutes: float, seed: int) -> None:
    """Run, and print what was found."""
    counts: dict[str, int] = {}
    began = time.monotonic()
    first = seed
    while time.monotonic() - began < minutes * 60:
        outcome = one_round(seed)
        counts[outcome] = counts.get(outcome, 0) + 1
        seed += 1
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert used < MEMORY_KIB, f"seed {seed - 1}: {used} KiB of memory"
    print(f"seeds {first} to {seed - 1} in {time.monotonic() - began:.0f} s: {counts}")  # noqa: T201


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
