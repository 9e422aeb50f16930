"""Programs that stay: where one stands, and what it has open, whatever is renamed meanwhile."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Stay:
    """Paths that follow the program's own renames; None once they are gone.

    Attributes:
        file: of what is open.
        marks: of what was written to it last, and not replaced since.
        folder: of where it stands.
        stands: whether it stands somewhere, removed or not.
    """

    file: str | None = None
    marks: frozenset[bytes] = frozenset()
    folder: str | None = None
    stands: bool = False

    def moved(self, path: str, other: str) -> None:
        """A program gave a path another name."""
        self.removed(other)
        self.file, self.folder = (
            f"{other}{one[len(path) :]}" if one is not None and f"{one}/".startswith(f"{path}/") else one
            for one in (self.file, self.folder)
        )

    def removed(self, path: str) -> None:
        """A program removed what has a path, or replaced it."""
        if self.file == path:
            self.file = None
        if self.folder == path:
            self.folder = None

    def written(self, path: str) -> None:
        """A program wrote to a path by another handle."""
        if self.file == path:
            self.marks = frozenset()
