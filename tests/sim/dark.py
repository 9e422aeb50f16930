"""What a program sees while the store does not answer at all: some of what is there, and nothing else."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.sim.model import File, Folder, Op

if TYPE_CHECKING:
    from tests.sim.client import Client
    from tests.sim.model import Model, Result


@dataclass
class Glimpse:
    """What could be seen: names of directories; kind, permission bits and length; contents and targets."""

    names: dict[str, list[str]] = field(default_factory=dict)
    stats: dict[str, Result] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)

    @staticmethod
    async def of(client: Client, top: str) -> Glimpse:
        """All that can be seen at and below a path."""
        glimpse = Glimpse()
        stack = [top]
        while stack:
            path = stack.pop()
            names = await _try(client, Op("list", path))
            if not isinstance(names, list):
                continue
            glimpse.names[path] = names
            for name in names:
                at = f"{path}/{name}".lstrip("/")
                stat = await _try(client, Op("stat", at))
                if not isinstance(stat, tuple):
                    continue
                glimpse.stats[at] = stat
                if stat[0] == "folder":
                    stack.append(at)
                else:
                    await glimpse.read(client, at, is_link=stat[0] == "link")
        return glimpse

    async def read(self, client: Client, path: str, *, is_link: bool) -> None:
        """Look into a file or link, if that can be done."""
        if is_link:
            found = await _try(client, Op("readlink", path))
        else:
            await _try(client, Op("open", path, slot=-1))
            found = await _try(client, Op("read", slot=-1, length=1 << 20))
            await _try(client, Op("close", slot=-1))
        if isinstance(found, bytes):
            self.contents[path] = found

    def differences(self, model: Model) -> list[str]:
        """What of it is not as it should be, after a crash."""
        wanted: dict[str, File | Folder] = {"": model.root, **model.entries()}
        found: list[str] = []
        for path, names in self.names.items():
            folder = wanted.get(path)
            should = sorted(folder.children) if isinstance(folder, Folder) else None
            if should != sorted(names):
                found.append(f"{path or '/'} lists {sorted(names)}, should list {should}")
        for path, stat in self.stats.items():
            entry = wanted.get(path)
            if entry is not None and stat not in _stats(entry):
                found.append(f"{path}: {stat!r}, should be {_stats(entry)}")
        for path, content in self.contents.items():
            entry = wanted.get(path)
            if isinstance(entry, File) and len(entry.history) == 1 and content != entry.content:
                found.append(f"{path} reads {content[:40]!r}, should read {entry.content[:40]!r}")
        return found


def _stats(entry: File | Folder) -> list[Result]:
    if isinstance(entry, Folder):
        return [("folder", entry.mode, 0)]
    kind = "link" if entry.link else "file"
    return [(kind, entry.mode, len(content)) for content in (entry.content, *entry.history)]


async def _try(client: Client, op: Op) -> Result:
    """The answer, or None: the store would have to be asked."""
    try:
        return await client.apply(op)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return None
    except KeyError:  # was never opened
        return None
