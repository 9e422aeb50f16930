"""What an uploader tells of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedOperation:
    """A change that the store refuses."""

    path: str
    kind: str
    error: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadStatus:
    """What waits and what was done since the mount began. `offline_since_s` is Unix time."""

    waiting_files: int
    waiting_operations: int
    waiting_bytes: int
    in_flight_files: int
    uploaded_files: int
    uploaded_bytes: int
    conflicts: int
    parked: tuple[ParkedOperation, ...]
    offline_since_s: float | None
    last_error: str | None


@dataclass(slots=True)
class Counts:
    """What was done since the mount began."""

    uploaded_files: int = 0
    uploaded_bytes: int = 0
    conflicts: int = 0
