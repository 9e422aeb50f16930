"""The base rule: what an operation may expect under its keys is what its predecessors left there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from objfs.upload.moving import moves_between
from objfs.upload.operations import NOTHING, Base, Kind, Operation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.store.values import Version
    from objfs.upload.book import Book


def inherit(
    book: Book,
    follower: Operation,
    operation: Operation,
    result: Base,
    since: int | None = None,
    *,
    vanished: bool = False,
) -> None:
    """Give a follower, also behind the renames of directories, the base that its predecessor left.

    Args:
        book: of both.
        follower: the one.
        operation: the predecessor, with its path as it is when the follower's turn comes.
        result: what is under that path.
        since: seq of the rename that made it so, if any.
        vanished: the predecessor had no effect. What changes a part of an object that was to be renamed is
            no change of what has the new name instead.
    """
    before = (follower.base, follower.source_base)
    earliest = operation.seq if since is None else since
    is_current = not moves_between(book.order, follower, follower.path, since=earliest)
    is_same = follower.path == operation.path and follower.directory == operation.directory
    if is_current and is_same and operation.kind is not Kind.RENAME_TREE:  # it may have brought a marker
        is_part = vanished and operation.kind is Kind.RENAME and follower.lacks_base
        follower.base = NOTHING if is_part else result
    is_source = follower.source == operation.path and not operation.directory
    if is_source and not moves_between(book.order, follower, follower.source, since=earliest):
        follower.source_base = result
    if is_current and operation.kind is Kind.RENAME and follower.path == operation.source != "":
        follower.base = NOTHING
    if (follower.base, follower.source_base) != before:
        if follower.base.version is None and follower.lacks_base:  # somebody took it away
            follower.lost = operation.source_base.version or operation.base.version or before[0].version
        book.write(follower)
    is_tree = follower.kind is Kind.RENAME_TREE and operation.kind is not Kind.RENAME_TREE
    if is_tree and not moves_between(book.order, follower, operation.path, since=earliest):
        path = moved_path(operation.path, follower.source, follower.path)
        for later in book.order.followers(follower) if path is not None else ():
            there = replace(operation, path=path or "", source="")
            inherit(book, later, there, result, follower.seq, vanished=vanished)


def rebase(book: Book, operation: Operation, moved: Mapping[str, tuple[Version, Version]]) -> None:
    """Give what follows the rename of a directory the versions that its copies have.

    Args:
        book: of the operations.
        operation: the rename.
        moved: by new path, the versions before and after, of the objects whose version changed.
    """
    for follower in book.order.followers(operation):
        base = _after_move(follower.base, moved.get(follower.path))
        source_base = _after_move(follower.source_base, moved.get(follower.source))
        if (base, source_base) != (follower.base, follower.source_base):
            follower.base, follower.source_base = base, source_base
            book.write(follower)
        if follower.kind is Kind.RENAME_TREE:
            places = {moved_path(path, follower.source, follower.path): path for path in moved}
            further = {place: moved[path] for place, path in places.items() if place is not None}
            if further:
                rebase(book, follower, further)


def moved_path(path: str, source: str, target: str) -> str | None:
    """Where a path is after a directory was renamed, or None if it was not below it."""
    return target + path[len(source) :] if path.startswith(f"{source}/") else None


def _after_move(base: Base, versions: tuple[Version, Version] | None) -> Base:
    """A base after its object was copied; one that somebody else had replaced before stays as it is."""
    if versions is None or base.version is None or base.version != versions[0]:
        return base
    return replace(base, version=versions[1].holding(base.version))
