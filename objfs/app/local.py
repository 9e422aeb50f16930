"""What a mount has on the local disk, opened in the right order."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from objfs.errors import MountError
from objfs_cache.blocks import BlockCache, open_block_cache
from objfs_cache.directory import CacheError
from objfs_cache.journal import Journal, open_journal
from objfs_cache.metadata import MetadataCache, open_metadata_cache
from objfs_cache.staging import Staging, open_staging

if TYPE_CHECKING:
    from collections.abc import Iterator

    from objfs.config import MountSettings
    from objfs_cache.directory import CacheDirectory

FREE_DISK_FRACTION = 0.05  # left for everybody else on the machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """What is on the local disk."""

    blocks: BlockCache
    metadata: MetadataCache
    journal: Journal
    staging: Staging


@contextmanager
def open_local(directory: CacheDirectory, settings: MountSettings) -> Iterator[Local]:
    """Cached blocks, and the changes that wait for their upload."""
    with (
        open_block_cache(
            directory.blocks_path, limit_bytes=settings.cache_size_bytes, floor_fraction=FREE_DISK_FRACTION
        ) as blocks,
        open_metadata_cache(directory.metadata_path) as metadata,
        open_changes(directory, settings) as (journal, staging),
    ):
        yield Local(blocks=blocks, metadata=metadata, journal=journal, staging=staging)


@contextmanager
def open_changes(directory: CacheDirectory, settings: MountSettings) -> Iterator[tuple[Journal, Staging]]:
    """The changes that wait for their upload; staged files that no change refers to are gone afterwards."""
    with (
        open_journal(directory.journal_path) as journal,
        open_staging(
            directory.staging_path,
            budget_bytes=settings.cache_size_bytes,
            floor_fraction=FREE_DISK_FRACTION,
            referenced=[record.staged.file_id for record in journal.load() if record.staged is not None],
            journal=journal,
        ) as staging,
    ):
        yield journal, staging


@contextmanager
def as_mount_errors() -> Iterator[None]:
    """The cache's own family of errors in the words of a mount."""
    try:
        yield
    except CacheError as error:
        raise MountError(str(error)) from error
