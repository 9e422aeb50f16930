"""objfs mounts object-store buckets as directories."""

from importlib.metadata import version

__version__ = version("objfs")
