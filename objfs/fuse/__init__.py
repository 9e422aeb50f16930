"""The FUSE adapter: translates the kernel's requests into calls of the file system. No logic of its own."""
