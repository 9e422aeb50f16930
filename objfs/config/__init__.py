"""Settings of a mount: values with units, and where they come from."""

from objfs.config.files import (
    ConfigError,
    ConfigFile,
    config_paths,
    defaults_layers,
    mount_layers,
    mount_names,
    read_file,
    read_files,
)
from objfs.config.layers import Layer, environment_layer, merge
from objfs.config.quantities import parse_duration, parse_size
from objfs.config.record import RECORD_NAME, MountRecord, read_record, read_records, write_record
from objfs.config.rules import PLAIN, Compression, Rule, Treatment
from objfs.config.settings import (
    SETTING_NAMES,
    MountSettings,
    build_settings,
    default_cache_base,
    settings_in_environment,
    split_mount_options,
)

__all__ = [
    "PLAIN",
    "RECORD_NAME",
    "SETTING_NAMES",
    "Compression",
    "ConfigError",
    "ConfigFile",
    "Layer",
    "MountRecord",
    "MountSettings",
    "Rule",
    "Treatment",
    "build_settings",
    "config_paths",
    "default_cache_base",
    "defaults_layers",
    "environment_layer",
    "merge",
    "mount_layers",
    "mount_names",
    "parse_duration",
    "parse_size",
    "read_file",
    "read_files",
    "read_record",
    "read_records",
    "settings_in_environment",
    "split_mount_options",
    "write_record",
]
