"""Reading back what is on the local disk: blocks by their checksums, staged files by the journal."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from objfs.control.leftovers import peek
from objfs.errors import MountError
from objfs_cache.blocks import open_block_cache
from objfs_cache.directory import CacheError, open_cache_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from objfs_cache.blocks import BlockCache, Verification
    from objfs_cache.journal import Record

_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """What was found, or has been so far.

    Attributes:
        bad_blocks: clean blocks that were not what their checksums say; they are gone, the store has them.
        bad_staged: path and reason of each staged file whose bytes are not what the journal says: the only
            copy of a change that is not in the store.
        total_bytes: about how much there is to read.
    """

    checked_blocks: int = 0
    checked_bytes: int = 0
    total_bytes: int = 0
    bad_blocks: int = 0
    checked_staged: int = 0
    bad_staged: tuple[tuple[str, str], ...] = ()


def verified_from_json(value: Mapping[str, Any]) -> VerifyResult:
    """The result out of one line of the control socket."""
    names = VerifyResult.__dataclass_fields__.keys()
    fields = {name: value[name] for name in names if name in value}
    return VerifyResult(**{**fields, "bad_staged": tuple((str(a), str(b)) for a, b in fields["bad_staged"])})


def verify_cache(
    blocks: BlockCache, cache_path: Path, on_step: Callable[[VerifyResult], None]
) -> VerifyResult:
    """Verify all of a cache, in use or not. Blocks; what `on_step` raises ends it.

    Raises:
        MountError: the journal cannot be read.
    """
    staged, bad = verify_staged(cache_path)
    total_bytes = blocks.stats().bytes

    def result(done: Verification) -> VerifyResult:
        return VerifyResult(
            checked_blocks=done.checked_blocks,
            checked_bytes=done.checked_bytes,
            total_bytes=max(total_bytes, done.checked_bytes),
            bad_blocks=done.bad_blocks,
            checked_staged=staged,
            bad_staged=tuple(bad),
        )

    return result(blocks.verify(lambda done: on_step(result(done))))


def verify_left_cache(
    cache_path: Path, limit_bytes: int, on_step: Callable[[VerifyResult], None]
) -> VerifyResult:
    """Verify the cache of a store that is not mounted.

    Raises:
        MountError: a mount uses it, or it cannot be read.
    """
    try:
        with (
            open_cache_directory(cache_path) as directory,
            open_block_cache(directory.blocks_path, limit_bytes=limit_bytes) as blocks,
        ):
            return verify_cache(blocks, cache_path, on_step)
    except CacheError as error:
        raise MountError(str(error)) from error


def verify_staged(cache_path: Path) -> tuple[int, list[tuple[str, str]]]:
    """Number of staged files that the journal refers to, and those that are not as it says, each with why."""
    bad: list[tuple[str, str]] = []
    records = [record for record in peek(cache_path) if record.staged is not None]
    for record in records:
        error = _check_staged(cache_path / "staging", record)
        if error and any(one.seq == record.seq and one.staged == record.staged for one in peek(cache_path)):
            bad.append((record.path, error))  # still waiting: it was not uploaded, nor changed, meanwhile
    return len(records), bad


def _check_staged(folder: Path, record: Record) -> str | None:
    staged = record.staged
    assert staged is not None  # noqa: S101  # for the type checker: the caller chose
    if staged.torn:
        return "its bytes were not on disk when the power failed"
    last = max((stop for _, stop in staged.extents), default=0)
    try:
        descriptor = os.open(folder / f"{staged.file_id:016x}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return "its staged file is missing"
    except OSError as error:
        return f"its staged file cannot be opened: {error.strerror}"
    try:
        if os.fstat(descriptor).st_size < last:
            return "its staged file is shorter than was journaled"
        for start, stop in staged.extents:
            for at in range(start, stop, _READ_BYTES):
                os.pread(descriptor, min(_READ_BYTES, stop - at), at)
    except OSError as error:
        return f"its staged file cannot be read: {error.strerror}"
    finally:
        os.close(descriptor)
    return None
