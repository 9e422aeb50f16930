"""The file system in plain values: inodes, directories, handles. No FUSE, no SQL, no HTTP."""
