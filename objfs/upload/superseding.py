"""What later changes make of one that the store refuses: it must not block its name for ever.

A parked operation may have taken effect all the same (its answer was lost before the refusal). So whoever
takes its place knows its token: an object that bears it is no one else's, and may be replaced or deleted.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from objfs.upload.losses import is_lost, step_aside
from objfs.upload.moving import is_within
from objfs.upload.operations import Kind, Operation, State

if TYPE_CHECKING:
    from objfs.upload.book import Book

log = logging.getLogger(__name__)

_REPLACEABLE = frozenset({Kind.PUT, Kind.SET, Kind.DELETE, Kind.RENAME})


def supersede(book: Book, parked: Operation) -> Operation | None:
    """Let the first change behind a parked one take its place, or let that one move out of the way.

    Whatever else waits behind it waits for the first one too, if that concerns the same path.

    Returns:
        The operation that is given up, whose content nobody needs any more; None if there is no such.
    """
    if is_lost(parked):
        return step_aside(book, parked)
    if parked.made:  # its turn has come: what was in the directory's place before is gone
        with book.step():
            book.loosen(parked)
    followers = book.order.followers(parked)
    if not followers or not _was_never_sent(followers[0]):
        return None
    first = followers[0]
    if first.kind is Kind.RENAME_TREE:
        _go_behind(book, parked, first)
    elif first.kind in (Kind.RENAME, Kind.SET) and _takes_content(first, parked):
        _hand_over_content(book, parked, first)
    elif _replaces(first, parked):
        return _replace(book, parked, first)
    return None


def _was_never_sent(follower: Operation) -> bool:
    """Whether it was not: of an earlier life's, whose state tells less, those that were never refused."""
    return follower.state is State.WAITING or (follower.state is State.SENT and not follower.error)


def _takes_content(first: Operation, parked: Operation) -> bool:
    """Whether it gives new attributes or another name to what a parked put would have stored."""
    return parked.kind is Kind.PUT and parked.path == (first.source or first.path)


def _replaces(first: Operation, parked: Operation) -> bool:
    """Whether nothing of what the parked one would leave under its path remains."""
    if first.path != parked.path or first.directory != parked.directory:
        return False
    if parked.kind is Kind.MARKER:
        return first.kind in (Kind.MARKER, Kind.DELETE)
    if first.kind is Kind.SET:
        return parked.kind is Kind.SET
    if first.kind is Kind.PUT and first.staged is not None and not first.staged.complete:
        return False
    return parked.kind in _REPLACEABLE


def _replace(book: Book, parked: Operation, first: Operation) -> Operation:
    with book.step():
        first.base = parked.base_if_refused
        book.write(first)
        if parked.kind is Kind.RENAME:  # its old name goes all the same, before anything else becomes of it
            removal = Operation(kind=Kind.DELETE, path=parked.source, base=parked.source_base)
            book.substitute(parked, removal)
        else:
            book.revoke(parked)
    log.warning(
        "%s %r, which was refused, is given up for a later %s", parked.kind.told, parked.path, first.kind.told
    )
    return parked


def _hand_over_content(book: Book, parked: Operation, first: Operation) -> None:
    """New attributes, or another name, for what was never stored: it is stored with these at once."""
    whole = parked.staged.complete if parked.staged is not None else parked.committed is None
    if not whole:
        return
    is_followed = book.order.has_followers(first)
    removal = Operation(kind=Kind.DELETE, path=parked.path, base=parked.base_if_refused)
    with book.step():
        if first.kind is Kind.SET:
            first.base = parked.base_if_refused
            _make_put(book, first, parked)
        elif book.order.before(removal) <= {parked, first}:
            _make_put(book, first, parked)
            book.append(removal, after=[first])
        else:  # something else is to become of the old name, or of its directory: it is free before
            _make_put(book, first, parked, removal)
        if first.staged is not None and not is_followed:
            book.unseal(first.staged)  # nothing was sent under this name, or with these attributes
    log.info("put %r, which was refused, is tried again as %r", parked.path, first.path)


def _make_put(book: Book, operation: Operation, parked: Operation, removal: Operation | None = None) -> None:
    """Make an operation the put of a refused one's content, in whose place its removal comes, if any.

    What else waits for the operation goes on to do so as far as it concerns the name that this has.
    """
    book.revoke(parked)
    told = {one: book.order.told_to_wait_for(one) for one in book.order}
    book.turn(operation, State.WAITING)
    operation.kind, operation.source, operation.committed = Kind.PUT, "", parked.committed
    book.replace_content(operation, parked.staged, parked.body)
    book.write(operation)
    if removal is not None:
        removal.seq = parked.seq
        book.write(removal)
        told[removal] = ()
    present = sorted(told, key=lambda one: one.seq)
    book.reorder({one: [other for other in told[one] if other in told] for one in present})
    book.settle(operation)


def _go_behind(book: Book, parked: Operation, tree: Operation) -> None:
    """A directory is renamed: what is parked in it goes along, and does not hold it back.

    Of a file that was renamed into or out of it, the one name goes along.
    """
    names = [name for name in (parked.path, parked.source) if name]
    is_in_it = any(is_within(name, tree.source) for name in names)
    if parked.kind is Kind.RENAME_TREE or not is_in_it or any(is_within(name, tree.path) for name in names):
        return
    path, source = (_moved_along(one, tree) for one in (parked.path, parked.source))
    moved = replace(parked, path=path, source=source, made=False, bare=False)  # what was stored goes along
    if any(one.seq > tree.seq for one in book.order.before(moved)):
        return  # something else has become of it there
    with book.step():
        book.revoke(parked)
        parked.path, parked.source = moved.path, moved.source
        parked.made, parked.bare = moved.made, moved.bare
        book.turn(parked, State.SENT)
        parked.attempts = parked.faults = 0
        book.append(parked)
    log.info("%s %r, which was refused, waits for the rename of its directory", parked.kind.told, parked.path)


def _moved_along(path: str, tree: Operation) -> str:
    """Where a path is after a directory was renamed."""
    return tree.path + path[len(tree.source) :] if is_within(path, tree.source) else path
