"""The AWS chain of credentials, as options narrow it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import botocore.session
from botocore.exceptions import BotoCoreError, ProfileNotFound

from objfs.errors import UnauthenticatedError, UsageError

if TYPE_CHECKING:
    from botocore.credentials import Credentials, ReadOnlyCredentials

    from objfs.store.urls import StoreOptions

_FILES = ("credentials_file", "config_file")  # botocore's variables that name them
Stamp = tuple[tuple[int, int, int] | None, ...]


def open_botocore(options: StoreOptions) -> botocore.session.Session:
    """A session of botocore; a profile or a file of credentials takes the place of the environment's.

    Raises:
        ProfileNotFound: there is no such profile.
    """
    # botocore leaves the variables with keys out once a profile is named (credentials.py).
    profile = options.profile or ("default" if options.credentials_file else None)
    session = botocore.session.Session(profile=profile)
    if options.credentials_file:
        session.set_config_variable("credentials_file", options.credentials_file)
    return session


class Chain:
    """Credentials that are good now: those that expire refresh themselves, files are read again once changed.

    Raises:
        UsageError: there is no such profile, or the configuration is not usable.
    """

    def __init__(self, options: StoreOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        try:
            self.session = open_botocore(options)
            self._files = [Path(self.session.get_config_variable(name) or "").expanduser() for name in _FILES]
            self._stamp = self._stamp_now()
            self._credentials: Credentials | None = self.session.get_credentials()
        except ProfileNotFound as error:
            raise UsageError(
                f"The AWS configuration has no profile {options.profile or 'default'}."
            ) from error
        except BotoCoreError as error:
            raise UsageError(f"The AWS configuration is not usable: {error}") from error

    def keys(self) -> ReadOnlyCredentials:
        """What to sign with.

        Raises:
            UnauthenticatedError: there is nothing, or it cannot be refreshed.
        """
        credentials = self._credentials
        if credentials is None:
            raise UnauthenticatedError(
                "There are no credentials: run `aws configure`, or set AWS_PROFILE or "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            )
        try:
            return credentials.get_frozen_credentials()
        except BotoCoreError as error:
            raise UnauthenticatedError("The credentials cannot be refreshed.") from error

    def renew(self, refused: ReadOnlyCredentials) -> bool:
        """Whether there are others than those that were refused; files that were changed are read again."""
        with self._lock:
            if self.keys() != refused:  # read by another thread meanwhile
                return True
            stamp = self._stamp_now()
            if stamp == self._stamp:
                return False
            try:
                credentials: Credentials | None = open_botocore(self._options).get_credentials()
            except BotoCoreError:
                return False  # being written just now, perhaps: looked at again with the next refusal
            if credentials is None:
                return False
            self._credentials, self._stamp = credentials, stamp
        return self.keys() != refused

    def _stamp_now(self) -> Stamp:
        return tuple(_stamp(path) for path in self._files)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes whenever a file does, None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
