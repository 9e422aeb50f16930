"""Settings of a mount: values with units, and where they come from."""

from objfs.config.record import MountRecord, read_record, read_records, write_record
from objfs.config.settings import (
    SETTING_NAMES,
    MountSettings,
    build_settings,
    default_cache_base,
    parse_duration,
    parse_size,
    settings_in_environment,
    split_mount_options,
)

__all__ = [
    "SETTING_NAMES",
    "MountRecord",
    "MountSettings",
    "build_settings",
    "default_cache_base",
    "parse_duration",
    "parse_size",
    "read_record",
    "read_records",
    "settings_in_environment",
    "split_mount_options",
    "write_record",
]
