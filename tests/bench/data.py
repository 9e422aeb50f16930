"""What is written and read: sizes, local input files, and what the bucket must hold afterwards."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KIB = 1024
MIB = 1024 * KIB
_SEED = 20240501  # any: every run and tool gets the same bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much work each row is."""

    big_bytes: int
    small_files: int
    small_bytes: int
    listed_files: int
    walked_dirs: int
    tree_files: int


FULL = Sizes(
    big_bytes=512 * MIB,
    small_files=1000,
    small_bytes=4 * KIB,
    listed_files=5000,
    walked_dirs=600,
    tree_files=2400,
)
QUICK = Sizes(
    big_bytes=16 * MIB,
    small_files=30,
    small_bytes=4 * KIB,
    listed_files=100,
    walked_dirs=12,
    tree_files=60,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A file as it must be: where its bytes are, how many, and their digest."""

    source: Path | bytes
    size_bytes: int
    sha256: str

    def read(self) -> bytes:
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()


Contents = dict[str, Content]  # by key


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Local files to write from, and the contents of each group's bucket."""

    sizes: Sizes
    big_file: Path
    small_dir: Path
    tree_tar: Path
    big: Contents
    small: Contents
    listed: Contents
    walked: Contents
    tree: Contents
    tree_copy: Contents


def make_inputs(folder: Path, sizes: Sizes) -> Inputs:
    """Write the input files into `folder`."""
    big_file, small_dir, tree_dir = folder / "big", folder / "small", folder / "tree"
    _write_big(big_file, sizes.big_bytes)
    small_dir.mkdir()
    small = _small(small_dir, sizes)
    tree_dir.mkdir()
    tree = {f"tree/{name}": _of_file(path) for name, path in _copy_library(tree_dir, sizes.tree_files)}
    tree_tar = folder / "tree.tar"
    subprocess.run(["tar", "-cf", tree_tar, "-C", folder, "tree"], check=True)
    dirs, files_per_dir = sizes.walked_dirs, 3
    return Inputs(
        sizes=sizes,
        big_file=big_file,
        small_dir=small_dir,
        tree_tar=tree_tar,
        big={"big": _of_file(big_file)},
        small=small,
        listed={f"list/{n:05}.txt": _of_bytes(b"%d" % n) for n in range(sizes.listed_files)},
        walked={
            f"walk/{n // 25:02}/{n:03}/{m}.txt": _of_bytes(b"%d %d" % (n, m))
            for n in range(dirs)
            for m in range(files_per_dir)
        },
        tree=tree,
        tree_copy={key.replace("tree/", "copy/", 1): content for key, content in tree.items()},
    )


def _write_big(path: Path, size_bytes: int) -> None:
    with path.open("wb") as file:
        for _ in range(size_bytes // MIB):
            file.write(os.urandom(MIB))


def _small(folder: Path, sizes: Sizes) -> Contents:
    plain = random.Random(_SEED)
    contents = {}
    for number in range(sizes.small_files):
        name = f"{number:04}.bin"
        (folder / name).write_bytes(plain.randbytes(sizes.small_bytes))
        contents[f"small/{name}"] = _of_file(folder / name)
    return contents


def _copy_library(target: Path, most: int) -> Iterator[tuple[str, Path]]:
    """Python's standard library without what was compiled or installed into it."""
    library = Path(sysconfig.get_paths()["stdlib"])
    count = 0
    for folder, folders, names in os.walk(library):
        folders[:] = sorted(
            name for name in folders if name not in ("__pycache__", "site-packages", "dist-packages")
            and not name.startswith("config-")
        )  # fmt: skip
        for name in sorted(names):
            source = Path(folder) / name
            if count == most or source.is_symlink():
                continue
            relative = str(source.relative_to(library))
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            (target / relative).write_bytes(source.read_bytes())
            count += 1
            yield relative, target / relative


def _of_file(path: Path) -> Content:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Content(source=path, size_bytes=path.stat().st_size, sha256=digest)


def _of_bytes(body: bytes) -> Content:
    return Content(source=body, size_bytes=len(body), sha256=hashlib.sha256(body).hexdigest())


def total_bytes(contents: Mapping[str, Content]) -> int:
    """Bytes of all of them."""
    return sum(content.size_bytes for content in contents.values())
