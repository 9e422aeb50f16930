"""`objfs --version`: everything that a report of a fault should name."""

from __future__ import annotations

import ctypes
import os
import platform
from importlib import metadata

from objfs import __version__
from objfs.cli.kernel_fuse import kernel_fuse_version

_PACKAGES = ("pyfuse3", "trio", "boto3", "botocore", "minio", "diskcache", "zstandard")
_LIBFUSE = ("libfuse3.so.4", "libfuse3.so.3")  # 3.17 changed the name


def describe_versions() -> str:
    """A line for objfs, and one each for the system, FUSE and the libraries."""
    libraries = ", ".join(f"{name} {_package_version(name)}" for name in _PACKAGES)
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    kernel = kernel_fuse_version() or "unknown to this user"
    return "\n".join(
        [
            f"objfs {__version__}",
            f"Python {platform.python_version()}, {system}",
            f"FUSE protocol of the kernel {kernel}, libfuse {_libfuse_version() or 'missing'}",
            libraries,
        ]
    )


def _libfuse_version() -> str | None:
    for name in _LIBFUSE:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.fuse_pkgversion.restype = ctypes.c_char_p
        return os.fsdecode(library.fuse_pkgversion())
    return None


def _package_version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"
