"""What is on the local disk: block cache, staging files, the journal and their recovery.

Keys are opaque here: this package knows no bucket, no ETag and no FUSE.
"""
