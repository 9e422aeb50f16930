"""The AWS chain of credentials, as options narrow it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import botocore.session

if TYPE_CHECKING:
    from objfs.store.urls import StoreOptions


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
