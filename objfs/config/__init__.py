"""Settings of a mount: values with units, and where they come from."""

from objfs.config.settings import (
    SETTING_NAMES,
    MountSettings,
    build_settings,
    parse_duration,
    parse_size,
    settings_in_environment,
    split_mount_options,
)

__all__ = [
    "SETTING_NAMES",
    "MountSettings",
    "build_settings",
    "parse_duration",
    "parse_size",
    "settings_in_environment",
    "split_mount_options",
]
