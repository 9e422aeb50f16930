"""What later changes make of a put whose bytes were lost with the power: it holds none of them back.

Its name shows the version that it was a change of, or nothing that can be read, and later changes apply to
that. So they go on, and the put follows its name, to be told of, until something takes its place.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from objfs.upload.bases import inherit
from objfs.upload.moving import is_within
from objfs.upload.operations import Kind, Operation, State

if TYPE_CHECKING:
    from objfs.upload.book import Book

log = logging.getLogger(__name__)


def is_lost(operation: Operation) -> bool:
    """Whether it is a put that a power loss, or a damaged disk, took the bytes of."""
    return operation.kind is Kind.PUT and operation.committed is not None and operation.staged is None


def step_aside(book: Book, lost: Operation) -> Operation | None:
    """Put a parked operation that is lost behind all that waits for it, under the name that it then has.

    Returns:
        The operation if it is given up, because its content was replaced or removed later; else None.
    """
    followers = book.order.followers(lost)
    if all(is_lost(one) for one in followers):
        return None
    later = sorted((one for one in book.order if one.seq > lost.seq), key=lambda one: one.seq)
    place = lost.path
    with book.step():
        book.revoke(lost)
        for one in later:
            if _replaces(one, lost):
                if one in followers:
                    one.base = lost.base_if_refused
                    book.write(one)
                log.warning("put %r, whose bytes are lost, is given up for a later %s", place, one.kind.told)
                return lost
            _follow(book, lost, one)
        book.turn(lost, State.PARKED)
        book.append(lost)
    log.info("put %r, whose bytes are lost, holds nothing back; it is told of as %r", place, lost.path)
    return None


def _replaces(one: Operation, lost: Operation) -> bool:
    """Whether nothing of the content that was lost would be left under its name."""
    if one.path != lost.path or one.directory or is_lost(one):
        return False
    if one.kind is Kind.PUT:
        return one.staged is None or one.staged.complete
    return one.kind in (Kind.DELETE, Kind.RENAME)


def _follow(book: Book, lost: Operation, one: Operation) -> None:
    """Give the lost put the name and the attributes that a later change gives its file."""
    is_stored = lost.base.version is not None
    if one.kind is Kind.SET and one.path == lost.path:
        lost.options = one.options
        if not is_stored:
            book.revoke(one)  # there is no object to set them on
    elif one.kind is Kind.RENAME and one.source == lost.path:
        source_base, lost.path, lost.options = lost.base, one.path, one.options
        if not is_stored:  # there is no object to rename
            for follower in book.order.followers(one):
                inherit(book, follower, one, one.base)
            lost.base = one.base
            book.substitute(one, Operation(kind=Kind.DELETE, path=one.source, base=source_base))
    elif one.kind is Kind.RENAME_TREE and is_within(lost.path, one.source):
        lost.path = one.path + lost.path[len(one.source) :]
