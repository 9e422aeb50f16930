"""The manual page objfs(1), made of what `--help` says and of what has no place there.

`python -m objfs.cli.manual >objfs.1` prints it; building a wheel does so, too.
"""

from __future__ import annotations

import os
import sys
import textwrap
import time
from typing import TYPE_CHECKING

from objfs import __version__
from objfs.cli.commands import app
from objfs.cli.help import plain_command, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from objfs.cli.help import CommandHelp, Section

_LINE = 70  # below mandoc's 80 also where a character is written as an escape
_DESCRIPTION = (
    "objfs mounts a bucket of an object store as a directory. Every file is one plain object under "
    "the same key. A cache on the local disk makes it fast. A journal there makes it safe: what a "
    "program was told is written survives a crash of objfs, and goes to the bucket in the background.",
    "A store is named by a URL: s3://bucket/prefix (Amazon S3, and with --endpoint-url any service "
    "that speaks S3), minio://host:9000/bucket/prefix (with ?tls=0 for a server without TLS), "
    "file:///folder, or memory://.",
)
_CONFIGURATION = (
    "Settings come from, in rising rank: [defaults] and [mounts.NAME] of /etc/objfs/config.toml, then"
    " of ~/.config/objfs/config.toml; variables OBJFS_…; -o options; flags. Keys are the names of the"
    " options of objfs mount with _ for -, and url and mountpoint in a mount's section. An unknown "
    "key is an error that names its line. objfs config check finds every mistake, objfs config show "
    "NAME prints each value with its origin.",
    "Secrets have no place in these files: name a profile, or a credentials_file.",
)
_CONFIGURATION_EXAMPLE = """\
[defaults]
cache_size = "50GiB"

[mounts.photos]
url = "s3://photos"
mountpoint = "/mnt/photos"
endpoint_url = "https://s3.example.org"
credentials_file = "/etc/objfs/photos.credentials"
"""
_VALUES = (
    "Sizes: 4096, 64K, 500M, 10GiB; K, M, G and T (KiB, …) are powers of 1024, KB, MB, GB and TB "
    "powers of 1000. Times: 500ms, 30s, 5m, 2h, 1d; a number alone is seconds. Switches in files and "
    "variables: yes or no.",
)
_ENVIRONMENT = (
    (
        "OBJFS_OPTION",
        "Any option of objfs mount in capitals with _ for -, for instance OBJFS_CACHE_SIZE=50G.",
    ),
    ("OBJFS_RUNTIME_DIR", "Where control sockets are, instead of the folder named below."),
    ("OBJFS_CONFIG", "One configuration file, instead of both."),
    ("AWS_…", "Credentials, profile, region and endpoint, as in every AWS tool."),
    ("XDG_CONFIG_HOME, XDG_CACHE_HOME, XDG_STATE_HOME, XDG_RUNTIME_DIR", "Where a user's files are."),
    ("CREDENTIALS_DIRECTORY", "Set by systemd; the file credentials there is used."),
    ("NO_COLOR, TERM, COLUMNS", "No colours, what the terminal can do, and its width."),
)
_FILES = (
    ("/etc/objfs/config.toml, ~/.config/objfs/config.toml", "Configuration of the system and of a user."),
    (
        "~/.cache/objfs, for root /var/cache/objfs",
        "A folder per store: cached blocks, and journal and files that wait for their upload. Do not "
        "delete it while objfs status or objfs cache show says that something waits.",
    ),
    ("~/.local/state/objfs, for root /var/log/objfs", "Logs, one per store."),
    ("$XDG_RUNTIME_DIR/objfs, for root /run/objfs", "Control sockets of running mounts."),
    ("/etc/fuse.conf", "Needs the line user_allow_other before other users than root may use --allow-other."),
    ("objfs@.service", "A systemd unit; its instance is the name of a mount of the configuration."),
)
_EXIT_STATUS = (
    ("0", "Done."),
    ("1", "It failed, or part of it did; stderr says why in one sentence."),
    ("2", "Wrong usage: the command line, a variable or a configuration file. Trying again will not help."),
    ("130", "Interrupted (SIGINT)."),
)
_HELPER_STATUS = (
    "mount.objfs(8), which mount(8) runs for the type objfs of fstab(5), returns mount(8)'s own: 0, 1"
    " (usage) or 32 (the mount failed).",
)
_EXAMPLES = (
    ("objfs mount s3://bucket ~/bucket", "Mount a bucket of Amazon S3."),
    (
        "objfs mount s3://bucket ~/bucket --endpoint-url https://s3.example.org",
        "Mount one of another service.",
    ),
    ("objfs umount ~/bucket", "Upload what waits, and unmount."),
    ("s3://bucket /mnt objfs _netdev,allow_other 0 0", "A line of fstab(5)."),
)
_SEE_ALSO = "fusermount3(1), mount(8), fstab(5), systemd.service(5), zstd(1)"


def manual() -> str:
    """The page as roff with man(7) macros."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    pages = list(walk(plain_command(app), "objfs", everything=True))
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())  # reproducible-builds.org
    day = time.strftime("%Y-%m-%d", time.gmtime(epoch))
    yield f'.TH OBJFS 1 "{day}" "objfs {_word(__version__)}" "User commands"'
    yield from [".nh", ".ad l"]  # names of files and options must not be broken
    yield ".SH NAME"
    yield r"objfs \- mount object\-store buckets as directories"
    yield ".SH SYNOPSIS"
    leaves = [page for page in pages if "COMMAND" not in page.synopsis]
    for number, page in enumerate(leaves):
        yield from [".br"] if number else []
        yield rf"\fB{_word(page.path)}\fR {_word(page.synopsis)}"
    yield ".SH DESCRIPTION"
    yield from _paragraphs(_DESCRIPTION)
    yield ".SH COMMANDS"
    for page in leaves:
        yield from _command(page)
    yield ".SH OPTIONS"
    yield from _rows(pair for part in pages[0].sections if part.title == "Options" for pair in _pairs(part))
    yield ".SH VALUES"
    yield from _paragraphs(_VALUES)
    yield ".SH CONFIGURATION"
    yield from _paragraphs(_CONFIGURATION)
    yield from [".PP", ".nf", *map(_word, _CONFIGURATION_EXAMPLE.rstrip().splitlines()), ".fi"]
    yield ".SH ENVIRONMENT"
    yield from _rows(_ENVIRONMENT)
    yield ".SH FILES"
    yield from _rows(_FILES)
    yield ".SH EXIT STATUS"
    yield from _rows(_EXIT_STATUS)
    yield ".PP"
    yield from _paragraphs(_HELPER_STATUS)
    yield ".SH EXAMPLES"
    yield from _rows(_EXAMPLES)
    yield from [".SH SEE ALSO", _text(_SEE_ALSO)]


def _command(page: CommandHelp) -> Iterator[str]:
    yield f".SS {_word(page.path)} {_word(page.synopsis)}"
    yield _text(page.text)
    for section in page.sections:
        pairs = [pair for pair in _pairs(section) if pair[0] != "-h, --help"]
        if section.title not in ("", "Options") and pairs:
            yield from [".PP", rf"\fI{_word(section.title)}\fR"]
        yield from _rows(pairs)


def _pairs(section: Section) -> list[tuple[str, str]]:
    return [(row.names, row.text) for row in section.rows]


def _rows(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    for names, text in rows:
        yield from [".TP", rf"\fB{_word(names)}\fR", _text(text)]


def _paragraphs(texts: tuple[str, ...]) -> Iterator[str]:
    for number, text in enumerate(texts):
        yield from [".PP"] if number else []
        yield _text(text)


def _text(text: str) -> str:
    """Text that roff takes as it is: no escapes, no requests, hyphens that can be copied."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    lines = textwrap.wrap(escaped, _LINE, break_long_words=False, break_on_hyphens=False)
    return "\n".join(rf"\&{line}" if line.startswith((".", "'")) else line for line in lines)


def _word(text: str) -> str:
    """The same, of words that belong on one line."""
    return text.replace("\\", r"\e").replace("-", r"\-")


if __name__ == "__main__":
    sys.stdout.write(manual())
