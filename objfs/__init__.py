"""objfs mounts object-store buckets as directories."""

__version__ = "0.1.0"  # the only place that says so
