"""Compressed objects: the Zstandard seekable format, and how an object says that it is in it."""
