"""What the command line looks like; each command imports its work when it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# Mountpoints are plain text here: typer would stat a Path, and hang with a mount that hangs.
app = typer.Typer(
    name="objfs",
    help="Mount object-store buckets as directories.",
    no_args_is_help=True,
    epilog="Exit status: 0 done, 1 failed, 2 wrong usage. More: objfs COMMAND --help, man objfs.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_EndpointUrl = Annotated[
    str | None, typer.Option(metavar="URL", help="S3 service other than AWS.", rich_help_panel="Store")
]
_Region = Annotated[
    str | None, typer.Option(metavar="NAME", help="Region of the bucket.", rich_help_panel="Store")
]
_Profile = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Profile of the AWS configuration files.", rich_help_panel="Store"),
]
_CacheDir = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Where the mount had its cache (default: ~/.cache/objfs; root: /var/cache/objfs).",
        rich_help_panel="Store",
    ),
]
_MOUNTS, _CHANGES, _SETUP = "Mounts", "Changes on their way", "Settings and caches"
_SEE = "See what it does"
_FILE_RULES = "How files are stored"
_STORE, _CACHE, _FILES, _RUN = "Store", "Cache", "Files", "Daemon"


def _show_version(value: bool) -> None:
    if value:
        from objfs.cli.version import describe_versions

        typer.echo(describe_versions())
        raise typer.Exit


@app.callback()
def objfs(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Show the versions of objfs, FUSE and libraries, and exit.",
        ),
    ] = False,
) -> None:
    """Mount object-store buckets as directories."""


@app.command(
    rich_help_panel=_MOUNTS,
    epilog="Sizes: 64K, 500M, 10GiB (K, M, G are powers of 1024; KB, MB, GB of 1000). Times: 500ms, 30s, 5m.",
)
def mount(
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL|NAME",
            help="s3://bucket/prefix, minio://host:9000/bucket, file:///folder, memory://, "
            "or a mount of the configuration.",
        ),
    ],
    mountpoint: Annotated[
        str | None,
        typer.Argument(metavar="[MOUNTPOINT]", help="An empty folder; a NAME has its own."),
    ] = None,
    endpoint_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="S3 service other than AWS.",
            rich_help_panel=_STORE,
        ),
    ] = None,
    region: Annotated[
        str | None, typer.Option(metavar="NAME", help="Region of the bucket.", rich_help_panel=_STORE)
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Profile of the AWS configuration files.", rich_help_panel=_STORE),
    ] = None,
    credentials_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Credentials in AWS's format, mode 0600 (default: as in any AWS tool).",
            rich_help_panel=_STORE,
        ),
    ] = None,
    cache_dir: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Cache folders, one per store (~/.cache/objfs; root: /var/cache/objfs).",
            rich_help_panel=_CACHE,
        ),
    ] = None,
    cache_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Most bytes of cached data; 5 % of the disk stay free (default: 10GiB).",
            rich_help_panel=_CACHE,
        ),
    ] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Budget of read buffers (default: 256MiB).", rich_help_panel=_CACHE
        ),
    ] = None,
    metadata_ttl: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="How soon others' changes are seen (default: 5s).", rich_help_panel=_CACHE
        ),
    ] = None,
    write_mode: Annotated[
        str | None,
        typer.Option(
            metavar="back|through",
            help="close() waits for the local disk (back, default) or for the store.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    fsync: Annotated[
        str | None,
        typer.Option(
            metavar="local|remote",
            help="fsync() waits for the local disk (local, default) or for the store.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Refuse every change.", rich_help_panel=_FILES)
    ] = False,
    xattrs: Annotated[
        bool,
        typer.Option(
            "--xattrs", help="Extended attributes; costs a round trip per write.", rich_help_panel=_FILES
        ),
    ] = False,
    allow_other: Annotated[
        bool,
        typer.Option(
            "--allow-other", help="Let other users in, as the permissions say.", rich_help_panel=_FILES
        ),
    ] = False,
    uid: Annotated[
        str | None,
        typer.Option(
            metavar="UID", help="Owner of files that record none (default: you).", rich_help_panel=_FILES
        ),
    ] = None,
    gid: Annotated[
        str | None,
        typer.Option(
            metavar="GID", help="Group of files that record none (default: yours).", rich_help_panel=_FILES
        ),
    ] = None,
    umask: Annotated[
        str | None,
        typer.Option(
            metavar="OCTAL",
            help="Taken off the mode of files that record none (default: 022).",
            rich_help_panel=_FILES,
        ),
    ] = None,
    foreground: Annotated[
        bool,
        typer.Option("--foreground", "-f", help="Stay, and log to the terminal too.", rich_help_panel=_RUN),
    ] = False,
    log_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Default: ~/.local/state/objfs/….log; root: /var/log/objfs/….log.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL", help="debug, info, warning or error (default: info).", rich_help_panel=_RUN
        ),
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option(
            metavar="text|json", help="Lines of text (default), or JSON objects.", rich_help_panel=_RUN
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="For Prometheus: 127.0.0.1:9400, unix:/PATH or textfile:/PATH.prom.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    limit_upload: Annotated[
        str | None,
        typer.Option(
            metavar="RATE", help="Most bytes sent a second, 50M/s (default: off).", rich_help_panel=_STORE
        ),
    ] = None,
    limit_download: Annotated[
        str | None,
        typer.Option(
            metavar="RATE", help="Most bytes received a second (default: off).", rich_help_panel=_STORE
        ),
    ] = None,
    limit_requests: Annotated[
        str | None,
        typer.Option(
            metavar="RATE", help="Most requests a second, 100/s (default: off).", rich_help_panel=_STORE
        ),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "-o",
            metavar="OPT[,OPT=VAL…]",
            help="Any option above with _ or -, and ro, nonempty, noexec, … as in fstab.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    compress: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB=zstd[:N]",
            help="Store such files compressed; the configuration has more rules.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    origin_metadata: Annotated[
        bool,
        typer.Option("--origin-metadata", hidden=True, help="Objects tell the host and user they come from."),
    ] = False,
    sha256: Annotated[
        bool, typer.Option("--sha256", hidden=True, help="Objects carry the SHA-256 of the file's bytes.")
    ] = False,
    decode: Annotated[
        bool,
        typer.Option(
            "--decode", hidden=True, help="Objects that others compressed with zstd are shown decompressed."
        ),
    ] = False,
    drain_timeout: Annotated[
        str | None, typer.Option(hidden=True, help="How long uploads go on after SIGTERM or fusermount3 -u.")
    ] = None,
    store_timeout: Annotated[
        str | None, typer.Option(hidden=True, help="Deadline of an operation that needs the store.")
    ] = None,
    upload_delay: Annotated[
        str | None, typer.Option(hidden=True, help="How long a closed file rests before its upload.")
    ] = None,
    max_requests: Annotated[
        str | None, typer.Option(hidden=True, help="Most requests under way at once.")
    ] = None,
) -> int:
    """Mount a bucket, and return once it can be used."""
    from objfs.cli.mounting.mount import mount as run
    from objfs.cli.settings import rules_of_flags

    texts = {
        "endpoint_url": endpoint_url,
        "region": region,
        "profile": profile,
        "credentials_file": credentials_file,
        "cache_dir": cache_dir,
        "cache_size": cache_size,
        "memory_limit": memory_limit,
        "metadata_ttl": metadata_ttl,
        "write_mode": write_mode,
        "fsync": fsync,
        "uid": uid,
        "gid": gid,
        "umask": umask,
        "log_file": log_file,
        "log_level": log_level,
        "log_format": log_format,
        "metrics": metrics,
        "drain_timeout": drain_timeout,
        "store_timeout": store_timeout,
        "upload_delay": upload_delay,
        "max_requests": max_requests,
        "limit_upload": limit_upload,
        "limit_download": limit_download,
        "limit_requests": limit_requests,
    }
    switches = {
        "read_only": read_only,
        "xattrs": xattrs,
        "allow_other": allow_other,
        "foreground": foreground,
        "origin_metadata": origin_metadata,
        "sha256": sha256,
        "decode": decode,
    }
    flags = {name: text for name, text in texts.items() if text is not None}
    if compress:
        flags["rules"] = rules_of_flags(compress)
    flags |= {name: "yes" for name, on in switches.items() if on}
    return run(url, Path(mountpoint) if mountpoint else None, flags, options or [])


@app.command(rich_help_panel=_MOUNTS)
def umount(
    mountpoint: Annotated[
        str, typer.Argument(metavar="MOUNTPOINT", help="Where it is, or its name in the configuration.")
    ],
    drain: Annotated[
        bool,
        typer.Option("--drain/--no-drain", help="Upload everything first, or leave it to the next mount."),
    ] = True,
) -> int:
    """Upload what waits, with a progress bar, then unmount."""
    from objfs.cli.mounting.umount import umount as run
    from objfs.cli.settings import find_mountpoint

    return run(find_mountpoint(mountpoint), drain=drain)


@app.command(rich_help_panel=_MOUNTS)
def status(
    mountpoint: Annotated[
        str | None, typer.Argument(metavar="[MOUNTPOINT]", help="One mount; default: all of yours.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> int:
    """Show mounts: store, uploads, cache, conflicts, parked changes."""
    from objfs.cli.mounting.status import status as run
    from objfs.cli.settings import find_mountpoint

    return run(find_mountpoint(mountpoint) if mountpoint else None, as_json=as_json)


@app.command(rich_help_panel=_SEE)
def top(
    mountpoint: Annotated[
        str | None, typer.Argument(metavar="[MOUNTPOINT]", help="May be left out if there is only one.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Show one second, and end.")] = False,
    prices: Annotated[
        str | None,
        typer.Option(
            metavar="write=P,read=P,out=P",
            help="Of 1,000 requests, and of 1 GB received (default: S3 Standard, 0.005, 0.0004, 0).",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A line for each second.")] = False,
) -> int:
    """Watch a mount: operations and latency, bytes, requests and cost, uploads."""
    from objfs.cli.looking.top import top as run

    return run(mountpoint, once=once, as_json=as_json, prices=prices)


@app.command(rich_help_panel=_SEE)
def trace(
    mountpoint: Annotated[
        str | None, typer.Argument(metavar="[MOUNTPOINT]", help="May be left out if there is only one.")
    ] = None,
    path: Annotated[
        str | None,
        typer.Option(metavar="PATH|GLOB", help="Only this file, what is below it, or names like '*.jpg'."),
    ] = None,
    operations: Annotated[
        list[str] | None, typer.Option("--op", metavar="NAME,…", help="Only these: read, write, lookup, …")
    ] = None,
    slow: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only what took at least so long: 50ms.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="An object for each line.")] = False,
) -> int:
    """Print what programs ask of a mount, live: who, what, how long."""
    from objfs.cli.looking.trace import trace as run

    return run(mountpoint, path=path, operations=operations or [], slow=slow, as_json=as_json)


@app.command(rich_help_panel=_SEE)
def stat(
    paths: Annotated[list[str], typer.Argument(metavar="PATH…", help="Files and directories in a mount.")],
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> int:
    """Tell of a file what is uploaded, cached, or waits; its version and key."""
    from objfs.cli.looking.stat import stat as run

    return run(paths, as_json=as_json)


@app.command(rich_help_panel=_CHANGES)
def flush(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[MOUNTPOINT|URL]", help="Default: all mounts of yours, and what earlier ones left."
        ),
    ] = None,
    retry_parked: Annotated[
        bool, typer.Option("--retry-parked", help="Try again what the store refused.")
    ] = False,
    progress: Annotated[
        bool | None, typer.Option("--progress/--no-progress", help="Show how far it is (default: yes).")
    ] = None,
    endpoint_url: _EndpointUrl = None,
    region: _Region = None,
    profile: _Profile = None,
    cache_dir: _CacheDir = None,
) -> int:
    """Upload everything that waits, also after the mount has gone; return when it is in the store."""
    from objfs.cli.pending.flush import flush as run

    flags = _given(endpoint_url=endpoint_url, region=region, profile=profile, cache_dir=cache_dir)
    return run(target, flags, retry_parked=retry_parked, progress=progress)


@app.command(rich_help_panel=_CHANGES)
def rescue(
    target: Annotated[
        str,
        typer.Argument(metavar="[MOUNTPOINT|URL]", help="May be left out if there is only one with changes."),
    ],
    folder: Annotated[
        str | None, typer.Argument(metavar="DIR", help="A new or empty folder for the copies.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what only waits, and was not refused.")
    ] = False,
    endpoint_url: _EndpointUrl = None,
    region: _Region = None,
    profile: _Profile = None,
    cache_dir: _CacheDir = None,
) -> int:
    """Copy files that the store refused into a plain folder, with a list; nothing is taken away."""
    from objfs.cli.pending.rescue import rescue as run

    flags = _given(endpoint_url=endpoint_url, region=region, profile=profile, cache_dir=cache_dir)
    if folder is None:
        return run(None, Path(target), flags, everything=everything)
    return run(target, Path(folder), flags, everything=everything)


@app.command(rich_help_panel=_CHANGES)
def conflicts(
    path: Annotated[
        str | None, typer.Argument(metavar="[PATH]", help="In a mount; default: all mounts.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> int:
    """List files that lost against another writer, kept beside the winner."""
    from objfs.cli.pending.conflicts import conflicts as run

    return run(path, as_json=as_json)


@app.command(rich_help_panel=_SETUP)
def warm(
    paths: Annotated[list[str], typer.Argument(metavar="PATH…", help="Files and directories in a mount.")],
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> int:
    """Fetch files into the cache ahead of need; programs that read come first."""
    from objfs.cli.setup.warm import warm as run

    return run(paths, as_json=as_json)


@app.command(rich_help_panel=_SETUP)
def pin(
    paths: Annotated[list[str], typer.Argument(metavar="PATH…", help="Files and directories in a mount.")],
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> int:
    """Fetch files, and keep them in the cache, version after version; 'objfs cache show' lists pins."""
    from objfs.cli.setup.pin import pin as run

    return run(paths, as_json=as_json)


@app.command(rich_help_panel=_SETUP)
def unpin(
    paths: Annotated[list[str], typer.Argument(metavar="PATH…", help="As they were pinned.")],
) -> int:
    """Let pinned files leave the cache again when room is needed."""
    from objfs.cli.setup.pin import unpin as run

    return run(paths)


@app.command(rich_help_panel=_MOUNTS)
def remount(
    mountpoint: Annotated[
        str, typer.Argument(metavar="MOUNTPOINT", help="Where it is, or its name in the configuration.")
    ],
    options: Annotated[
        list[str],
        typer.Option("-o", metavar="OPT=VAL[,OPT=VAL…]", help="cache_size, limit_upload, log_level, …"),
    ],
) -> int:
    """Change options of a running mount, until it is unmounted."""
    from objfs.cli.mounting.remount import remount as run
    from objfs.cli.settings import find_mountpoint

    return run(find_mountpoint(mountpoint), options)


@app.command(rich_help_panel=_SEE)
def doctor(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[URL|MOUNTPOINT|NAME]", help="A store or a mount; default: this machine and its mounts."
        ),
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Write nothing, not even for a moment.")
    ] = False,
    clean: Annotated[
        bool, typer.Option("--clean", help="Abort what objfs left unfinished more than a day ago.")
    ] = False,
    keys: Annotated[
        int, typer.Option(metavar="COUNT", min=0, help="Most keys to look at, 0 for all (default: 10000).")
    ] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    endpoint_url: _EndpointUrl = None,
    region: _Region = None,
    profile: _Profile = None,
    cache_dir: _CacheDir = None,
) -> int:
    """Find out what is wrong, with advice; the status is 1 if something is."""
    from objfs.cli.looking.doctor import doctor as run

    flags = _given(endpoint_url=endpoint_url, region=region, profile=profile, cache_dir=cache_dir)
    return run(target, flags, read_only=read_only, clean=clean, keys=keys or None, as_json=as_json)


@app.command(rich_help_panel=_SEE)
def bench(
    url: Annotated[str, typer.Argument(metavar="URL|NAME", help="A store that you may write to.")],
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the requests and bytes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    endpoint_url: _EndpointUrl = None,
    region: _Region = None,
    profile: _Profile = None,
) -> int:
    """Measure a store: small and large objects, one and many at a time; leaves nothing behind."""
    from objfs.cli.looking.bench import bench as run

    flags = _given(endpoint_url=endpoint_url, region=region, profile=profile)
    return run(url, flags, quick=quick, as_json=as_json)


@app.command("set", rich_help_panel=_FILE_RULES)
def set_files(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH… NAME=VALUE…",
            help="Files in a mount. storage_class, content_type, cache_control, tags, encryption, compress, "
            "expire_after, expire_idle; NAME= takes it back.",
        ),
    ],
) -> int:
    """Have single files stored in another way than the rules say."""
    from objfs.cli.storing.set import set_files as run

    return run(arguments)


@app.command(rich_help_panel=_FILE_RULES)
def expire(
    target: Annotated[str, typer.Argument(metavar="MOUNTPOINT|URL|NAME", help="A mount, or its store.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be deleted.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    endpoint_url: _EndpointUrl = None,
    region: _Region = None,
    profile: _Profile = None,
    cache_dir: _CacheDir = None,
) -> int:
    """Delete files that have expired, a thousand at a time."""
    from objfs.cli.storing.expire import expire as run

    flags = _given(endpoint_url=endpoint_url, region=region, profile=profile, cache_dir=cache_dir)
    return run(target, flags, dry_run=dry_run, as_json=as_json)


@app.command(rich_help_panel=_FILE_RULES)
def verify(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH|URL…", help="Files and directories in a mount, or a store.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    endpoint_url: _EndpointUrl = None,
    region: _Region = None,
    profile: _Profile = None,
    cache_dir: _CacheDir = None,
) -> int:
    """Read files back from the store, and compare them with their checksums."""
    from objfs.cli.storing.verify import verify as run

    flags = _given(endpoint_url=endpoint_url, region=region, profile=profile, cache_dir=cache_dir)
    return run(paths, flags, as_json=as_json)


rules = typer.Typer(help="Look at upload rules.", no_args_is_help=True)
app.add_typer(rules, name="rules", rich_help_panel=_FILE_RULES)


@rules.command("test")
def rules_test(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH…", help="Files in a mount, or names below its root.")
    ],
    mount_name: Annotated[
        str | None,
        typer.Option(
            "--mount", metavar="NAME", help="A mount of the configuration, or where it is (default: of PATH)."
        ),
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="SIZE", help="Of the file (default: its own).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> int:
    """Tell which rule a name meets, and why."""
    from objfs.cli.storing.rules import test

    return test(paths, mount=mount_name, size=size, as_json=as_json)


lifecycle = typer.Typer(help="Have the store itself delete what expires.", no_args_is_help=True)
app.add_typer(lifecycle, name="lifecycle", rich_help_panel=_FILE_RULES)


@lifecycle.command("show")
def lifecycle_show(
    target: Annotated[str, typer.Argument(metavar="MOUNTPOINT|URL|NAME", help="A mount, or its store.")],
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    endpoint_url: _EndpointUrl = None,
    region: _Region = None,
    profile: _Profile = None,
    cache_dir: _CacheDir = None,
) -> int:
    """List the store's lifecycle rules."""
    from objfs.cli.storing.lifecycle import show

    flags = _given(endpoint_url=endpoint_url, region=region, profile=profile, cache_dir=cache_dir)
    return show(target, flags, as_json=as_json)


@lifecycle.command("apply")
def lifecycle_apply(
    target: Annotated[str, typer.Argument(metavar="MOUNTPOINT|URL|NAME", help="A mount, or its store.")],
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    endpoint_url: _EndpointUrl = None,
    region: _Region = None,
    profile: _Profile = None,
    cache_dir: _CacheDir = None,
) -> int:
    """Install the lifecycle rules that the upload rules ask for; those of others stay."""
    from objfs.cli.storing.lifecycle import apply

    flags = _given(endpoint_url=endpoint_url, region=region, profile=profile, cache_dir=cache_dir)
    return apply(target, flags, as_json=as_json)


config = typer.Typer(help="Show and check configuration files.", no_args_is_help=True)
app.add_typer(config, name="config", rich_help_panel=_SETUP)


@config.command("show")
def config_show(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A mount; default: what holds for all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> int:
    """Print each setting, merged, with the file and line, variable or default it comes from."""
    from objfs.cli.setup.config import show

    return show(name, as_json=as_json)


@config.command("check")
def config_check() -> int:
    """Check the configuration files; every mistake is one line, with file and line number."""
    from objfs.cli.setup.config import check

    return check()


cache = typer.Typer(help="Show and clear local caches.", no_args_is_help=True)
app.add_typer(cache, name="cache", rich_help_panel=_SETUP)


@cache.command("show")
def cache_show(
    cache_dir: _CacheDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> int:
    """List the caches of all stores: where, how large, what waits in them, and whether they are in use."""
    from objfs.cli.setup.caches import show

    return show(_given(cache_dir=cache_dir), as_json=as_json)


@cache.command("clear")
def cache_clear(
    target: Annotated[
        str, typer.Argument(metavar="MOUNTPOINT|URL|NAME", help="Of a store that is not mounted.")
    ],
    endpoint_url: _EndpointUrl = None,
    cache_dir: _CacheDir = None,
) -> int:
    """Delete the cached blocks of a store; what waits for its upload is kept."""
    from objfs.cli.setup.caches import clear

    return clear(target, _given(endpoint_url=endpoint_url, cache_dir=cache_dir))


@cache.command("verify")
def cache_verify(
    target: Annotated[
        str | None,
        typer.Argument(metavar="[MOUNTPOINT|URL|NAME]", help="Mounted or not; default: all caches."),
    ] = None,
    endpoint_url: _EndpointUrl = None,
    cache_dir: _CacheDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> int:
    """Read back all cached blocks and staged files; bad blocks are dropped, damaged changes are told."""
    from objfs.cli.setup.caches import verify

    return verify(target, _given(endpoint_url=endpoint_url, cache_dir=cache_dir), as_json=as_json)


def _given(**texts: str | None) -> dict[str, str]:
    return {name: text for name, text in texts.items() if text is not None}
