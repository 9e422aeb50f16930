"""The settings of a mount, as options of `objfs mount`."""

from __future__ import annotations

from objfs.cli.options import REACHING_A_STORE, switch, text_flag

_STORE, _CACHE, _FILES, _RUN = "Store", "Cache", "Files", "Daemon"

STORE_FLAGS = (
    *REACHING_A_STORE,
    text_flag(
        "credentials_file",
        "FILE",
        "Credentials in AWS's format, mode 0600 (default: as in any AWS tool).",
        _STORE,
    ),
    text_flag("limit_upload", "RATE", "Most bytes sent a second, 50M/s (default: off).", _STORE),
    text_flag("limit_download", "RATE", "Most bytes received a second (default: off).", _STORE),
    text_flag("limit_requests", "RATE", "Most requests a second, 100/s (default: off).", _STORE),
)
CACHE_FLAGS = (
    text_flag(
        "cache_dir",
        "DIR",
        "Cache folders, one per store (~/.cache/objfs; root: /var/cache/objfs).",
        _CACHE,
    ),
    text_flag(
        "cache_size", "SIZE", "Most bytes of cached data; 5 % of the disk stay free (default: 10GiB).", _CACHE
    ),
    text_flag("memory_limit", "SIZE", "Budget of read buffers (default: 256MiB).", _CACHE),
    text_flag("metadata_ttl", "TIME", "How soon others' changes are seen (default: 5s).", _CACHE),
)
FILES_FLAGS = (
    text_flag(
        "write_mode",
        "back|through",
        "close() waits for the local disk (back, default) or for the store.",
        _FILES,
    ),
    text_flag(
        "fsync", "local|remote", "fsync() waits for the local disk (local, default) or for the store.", _FILES
    ),
    switch("read_only", "Refuse every change.", _FILES),
    switch("xattrs", "Extended attributes; costs a round trip per write.", _FILES),
    switch("allow_other", "Let other users in, as the permissions say.", _FILES),
    text_flag("uid", "UID", "Owner of files that record none (default: you).", _FILES),
    text_flag("gid", "GID", "Group of files that record none (default: yours).", _FILES),
    text_flag("umask", "OCTAL", "Taken off the mode of files that record none (default: 022).", _FILES),
)
DAEMON_FLAGS = (
    switch("foreground", "Stay, and log to the terminal too.", _RUN, "-f"),
    text_flag("log_file", "FILE", "Default: ~/.local/state/objfs/….log; root: /var/log/objfs/….log.", _RUN),
    text_flag("log_level", "LEVEL", "debug, info, warning or error (default: info).", _RUN),
    text_flag("log_format", "text|json", "Lines of text (default), or JSON objects.", _RUN),
    text_flag("metrics", "PLACE", "For Prometheus: 127.0.0.1:9400, unix:/PATH or textfile:/PATH.prom.", _RUN),
)
SELDOM_FLAGS = (  # the manual page has them, `--help` has not
    switch("origin_metadata", "Objects tell the host and user they come from.", hidden=True),
    switch("sha256", "Objects carry the SHA-256 of the file's bytes.", hidden=True),
    switch("decode", "Objects that others compressed with zstd are shown decompressed.", hidden=True),
    text_flag("drain_timeout", None, "How long uploads go on after SIGTERM or fusermount3 -u.", hidden=True),
    text_flag("store_timeout", None, "Deadline of an operation that needs the store.", hidden=True),
    text_flag("upload_delay", None, "How long a closed file rests before its upload.", hidden=True),
    text_flag("max_requests", None, "Most requests under way at once.", hidden=True),
)
MOUNT_FLAGS = (*STORE_FLAGS, *CACHE_FLAGS, *FILES_FLAGS, *DAEMON_FLAGS, *SELDOM_FLAGS)
