"""Whoever has to know what becomes of the changes that were acknowledged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.store.values import Version
    from objfs.upload.operations import Operation


class Observer(Protocol):
    """Whoever shows the tree to programs and has to know what became of its changes."""

    async def before_replace(self, operation: Operation) -> None:
        """The object at the operation's key is about to be replaced or deleted."""
        ...

    def done(self, operation: Operation, version: Version | None) -> None:
        """It took effect; `version` is what is under its key now (None: nothing)."""
        ...

    def tree_copied(self, operation: Operation, moved: Mapping[str, tuple[Version, Version]]) -> None:
        """All objects of a tree are at their new keys too; versions before and after, where they changed."""
        ...

    def conflicted(self, operation: Operation, old_path: str) -> None:
        """Somebody else's object keeps its name; ours goes to that of `operation.path`.

        `old_path` is where the name is after all that waits, `operation.path` where it is before.
        """
        ...

    async def salvage(self, operation: Operation) -> None:
        """The version that a put is a change of is gone: stage what can still be had of it.

        Raises:
            ObjectStoreError: the store cannot be asked now.
        """
        ...

    def given_up(self, operation: Operation) -> None:
        """The store refused it, and a later change has taken its place: nobody needs its content."""
        ...


class NoObserver:
    """For uploads without a mount: gives back staged files."""

    async def before_replace(self, operation: Operation) -> None:
        """See `Observer`."""

    def done(self, operation: Operation, version: Version | None) -> None:
        """See `Observer`."""
        if operation.staged is not None:
            operation.staged.discard()

    def tree_copied(self, operation: Operation, moved: Mapping[str, tuple[Version, Version]]) -> None:
        """See `Observer`."""

    def conflicted(self, operation: Operation, old_path: str) -> None:
        """See `Observer`."""

    async def salvage(self, operation: Operation) -> None:
        """See `Observer`."""

    def given_up(self, operation: Operation) -> None:
        """See `Observer`."""
        self.done(operation, None)
