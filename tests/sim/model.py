"""What a file system should do, as a plain tree of values; and operations on it as values."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field

Result = bytes | int | None | list[str] | tuple[str, int, int]


@dataclass
class File:
    """A file or symlink.

    Attributes:
        label: the value of an extended attribute.
        mtime_ns: as set by utimens and not changed by a write since, or None.
        history: contents that a crash may leave behind; the last one is what reads show.
    """

    content: bytes = b""
    mode: int = 0o644
    link: bool = False
    label: bytes = b""
    mtime_ns: int | None = None
    history: list[bytes] = field(default_factory=list)

    def set(self, content: bytes, *, acknowledged: bool) -> None:
        """New bytes; once acknowledged, no crash undoes them."""
        self.content = content
        self.mtime_ns = None
        self.history.append(content)
        if acknowledged:
            self.acknowledge()

    def acknowledge(self) -> None:
        """What is read now survives a crash."""
        self.history = [self.content]


@dataclass
class Folder:
    """A directory; `marked` if it was made, rather than implied by the keys below it."""

    children: dict[str, File | Folder] = field(default_factory=dict)
    mode: int = 0o755
    marked: bool = True
    label: bytes = b""


Entry = tuple[str, int, bytes, int | None, bytes]
"""What a walk sees of one path: kind, permission bits, content or target, mtime if it was set, label."""


@dataclass(frozen=True)
class Op:
    """One operation of a program; which fields count depends on `name`."""

    name: str
    path: str = ""
    other: str = ""
    slot: int = 0
    offset: int = 0
    length: int = 0
    data: bytes = b""
    flags: int = 0
    number: int = 0

    def __str__(self) -> str:
        parts = [self.name, self.path, self.other]
        parts += [f"slot={self.slot}", f"offset={self.offset}", f"length={self.length}"]
        parts += [
            f"data={self.data[:12]!r}*{len(self.data)}",
            f"flags={self.flags:o}",
            f"number={self.number}",
        ]
        return " ".join(part for part in parts if part and not part.endswith(("=0", "=b''*0")))


class Model:
    """The reference: every answer, and every errno, that a program may expect."""

    def __init__(self) -> None:
        self.root = Folder()
        self.handles: dict[int, tuple[File, bool]] = {}

    def apply(self, op: Op) -> Result:
        """Carry out an operation, or raise OSError."""
        method = getattr(self, f"_{op.name}")
        result: Result = method(op)
        return result

    # -- operations ---------------------------------------------------------------------------------

    def _create(self, op: Op) -> None:
        parent, name = self._parent(op.path)
        found = parent.children.get(name)
        if found is None:
            file = parent.children[name] = File(mode=op.number or 0o644, history=[b""])
            self.handles[op.slot] = (file, True)
            return
        if op.flags & os.O_EXCL:
            raise OSError(errno.EEXIST, op.path)
        self._open(op)

    def _open(self, op: Op) -> None:
        file = self._find(op.path)
        if isinstance(file, Folder):
            raise OSError(errno.EISDIR, op.path)
        if file.link:
            raise OSError(errno.ELOOP, op.path)
        if op.flags & os.O_TRUNC:
            file.set(b"", acknowledged=True)
        self.handles[op.slot] = (file, op.flags & os.O_ACCMODE != os.O_RDONLY)

    def _write(self, op: Op) -> int:
        file, _ = self.handles[op.slot]
        old = file.content
        base = old + bytes(max(0, op.offset - len(old)))
        end = op.offset + len(op.data)
        file.set(base[: op.offset] + op.data + base[end:], acknowledged=False)
        return len(op.data)

    def _read(self, op: Op) -> bytes:
        return self.handles[op.slot][0].content[op.offset : op.offset + op.length]

    def _flush(self, op: Op) -> None:
        self.handles[op.slot][0].acknowledge()

    def _fsync(self, op: Op) -> None:
        self.handles[op.slot][0].acknowledge()

    def _close(self, op: Op) -> None:
        self.handles.pop(op.slot)[0].acknowledge()

    def _truncate(self, op: Op) -> None:
        self._set_length(self._file(op.path), op.length)

    def _ftruncate(self, op: Op) -> None:
        self._set_length(self.handles[op.slot][0], op.length)

    def _set_length(self, file: File, length: int) -> None:
        content = file.content[:length]
        file.set(content + bytes(length - len(content)), acknowledged=True)

    def _fstat(self, op: Op) -> tuple[str, int, int]:
        file, _ = self.handles[op.slot]
        links = sum(found is file for found in self.entries().values())
        return "file", links, len(file.content)

    def _mkdir(self, op: Op) -> None:
        parent, name = self._parent(op.path)
        if name in parent.children:
            raise OSError(errno.EEXIST, op.path)
        parent.children[name] = Folder(mode=op.number or 0o755)

    def _symlink(self, op: Op) -> None:
        parent, name = self._parent(op.path)
        if name in parent.children:
            raise OSError(errno.EEXIST, op.path)
        parent.children[name] = File(content=op.data, mode=0o777, link=True, history=[op.data])

    def _readlink(self, op: Op) -> bytes:
        found = self._find(op.path)
        if isinstance(found, Folder) or not found.link:
            raise OSError(errno.EINVAL, op.path)
        return found.content

    def _rmdir(self, op: Op) -> None:
        parent, name = self._parent(op.path)
        found = self._find(op.path)
        if isinstance(found, File):
            raise OSError(errno.ENOTDIR, op.path)
        if found.children:
            raise OSError(errno.ENOTEMPTY, op.path)
        del parent.children[name]

    def _unlink(self, op: Op) -> None:
        parent, name = self._parent(op.path)
        if isinstance(self._find(op.path), Folder):
            raise OSError(errno.EISDIR, op.path)
        del parent.children[name]

    def _rename(self, op: Op) -> None:
        parent, name = self._parent(op.path)
        new_parent, new_name = self._parent(op.other)
        found = self._find(op.path)
        if op.other == op.path:
            return
        if op.other.startswith(f"{op.path}/"):
            raise OSError(errno.EINVAL, op.other)
        target = new_parent.children.get(new_name)
        if op.path.startswith(f"{op.other}/"):
            raise OSError(errno.ENOTEMPTY, op.other)
        if target is not None and op.flags:
            raise OSError(errno.EEXIST, op.other)
        if isinstance(found, Folder) and isinstance(target, File):
            raise OSError(errno.ENOTDIR, op.other)
        if isinstance(found, File) and isinstance(target, Folder):
            raise OSError(errno.EISDIR, op.other)
        if isinstance(target, Folder) and target.children:
            raise OSError(errno.ENOTEMPTY, op.other)
        del parent.children[name]
        new_parent.children[new_name] = found

    def _chmod(self, op: Op) -> None:
        self._find(op.path).mode = op.number

    def _label(self, op: Op) -> None:
        self._find(op.path).label = op.data

    def _utime(self, op: Op) -> None:
        self._file(op.path).mtime_ns = op.number

    def _stat(self, op: Op) -> tuple[str, int, int]:
        found = self._find(op.path)
        if isinstance(found, Folder):
            return "folder", found.mode, 0
        return "link" if found.link else "file", found.mode, len(found.content)

    def _list(self, op: Op) -> list[str]:
        found = self._find(op.path)
        if isinstance(found, File):
            raise OSError(errno.ENOTDIR, op.path)
        return sorted(found.children)

    def _sleep(self, _op: Op) -> None:
        return None

    # -- the whole ----------------------------------------------------------------------------------

    def paths(self) -> list[str]:
        """All paths, in order."""
        return sorted(self.entries())

    def entries(self) -> dict[str, File | Folder]:
        """Everything by path."""
        found: dict[str, File | Folder] = {}
        stack: list[tuple[str, Folder]] = [("", self.root)]
        while stack:
            prefix, folder = stack.pop()
            for name, child in folder.children.items():
                found[prefix + name] = child
                if isinstance(child, Folder):
                    stack.append((f"{prefix}{name}/", child))
        return found

    def differences(self, seen: dict[str, Entry], *, crashed: bool = False) -> list[str]:
        """How what was seen differs from what should be there.

        Args:
            seen: the result of a walk.
            crashed: bytes written and not yet acknowledged may be there or not.
        """
        wanted = self.entries()
        found = [f"{path} is missing" for path in wanted if path not in seen]
        found += [f"{path} should not be there" for path in seen if path not in wanted]
        for path in sorted(set(wanted) & set(seen)):
            found += [f"{path}: {text}" for text in _difference(wanted[path], seen[path], crashed=crashed)]
        return found

    def adopt(self, seen: dict[str, Entry]) -> None:
        """After a crash: what is there now is what counts; nothing is open any more."""
        self.handles.clear()
        for path, entry in self.entries().items():
            if isinstance(entry, File):
                mtime_ns = entry.mtime_ns
                entry.set(seen[path][2], acknowledged=True)
                entry.mtime_ns = mtime_ns

    # -- parts --------------------------------------------------------------------------------------

    def _find(self, path: str) -> File | Folder:
        node: File | Folder = self.root
        for part in path.split("/") if path else ():
            if isinstance(node, File):
                raise OSError(errno.ENOTDIR, path)
            child = node.children.get(part)
            if child is None:
                raise OSError(errno.ENOENT, path)
            node = child
        return node

    def _file(self, path: str) -> File:
        found = self._find(path)
        if isinstance(found, Folder):
            raise OSError(errno.EISDIR, path)
        return found

    def _parent(self, path: str) -> tuple[Folder, str]:
        above, _, name = path.rpartition("/")
        parent = self._find(above)
        if isinstance(parent, File):
            raise OSError(errno.ENOTDIR, path)
        return parent, name


def _difference(wanted: File | Folder, seen: Entry, *, crashed: bool) -> list[str]:
    kind, mode, content, mtime_ns, label = seen
    found = [] if label == wanted.label else [f"label {label!r}, should be {wanted.label!r}"]
    if isinstance(wanted, Folder):
        if kind != "folder":
            return [f"is a {kind}, should be a folder"]
        return found if mode == wanted.mode else [f"mode {mode:o}, should be {wanted.mode:o}", *found]
    if kind != ("link" if wanted.link else "file"):
        return [f"is a {kind}"]
    if mode != wanted.mode:
        found.append(f"mode {mode:o}, should be {wanted.mode:o}")
    if wanted.mtime_ns is not None and mtime_ns is not None and mtime_ns != wanted.mtime_ns:
        found.append(f"mtime {mtime_ns}, should be {wanted.mtime_ns}")
    allowed = wanted.history if crashed else [wanted.content]
    if content not in allowed and not (len(allowed) > 1 and _is_mix(content, allowed)):
        at = next((at for at, (a, b) in enumerate(zip(content, allowed[-1], strict=False)) if a != b), 0)
        part = f"at {at} {content[at : at + 9]!r}"
        found.append(f"{part}, content {_short(content)}, should be {' or '.join(map(_short, allowed))}")
    return found


def _is_mix(content: bytes, allowed: list[bytes]) -> bool:
    """Whether each byte, and the length, may be there after unacknowledged writes."""
    if len(content) not in {len(one) for one in allowed}:
        return False
    return all(
        any(at < len(one) and one[at] == byte for one in allowed) or byte == 0
        for at, byte in enumerate(content)
    )


def _short(content: bytes) -> str:
    return f"{content[:16]!r}..{content[-8:]!r}*{len(content)}" if len(content) > 24 else repr(content)
