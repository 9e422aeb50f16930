"""What the log says at the start of a mount about its store."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from objfs.app.stores import s3_endpoint_of
from objfs.store.urls import StoreUrl

if TYPE_CHECKING:
    from objfs.config import MountSettings
    from objfs.store.values import Capabilities

log = logging.getLogger("objfs.app")


def warn_of_store(settings: MountSettings, capabilities: Capabilities) -> None:
    """Say what the store at hand cannot keep, and what others may read on the way."""
    if not settings.read_only and not capabilities.put_conditions:
        log.warning("the store has no conditional writes: of two changes made at once, one may be lost")
    elif not settings.read_only:
        copies = capabilities.copy_conditions or capabilities.complete_conditions  # objfs.upload.copies
        honoured = {"large files": capabilities.complete_conditions, "their copies": copies}
        weak = [what for what, is_honoured in honoured.items() if not is_honoured]
        if weak:
            log.info(
                "the store has no conditions for %s: what is there is looked at before, and a moment remains",
                " and ".join(weak),
            )
    if not capabilities.user_metadata:
        log.warning("the store keeps no user metadata: modes, owners, times and symlinks are lost")
    url = StoreUrl.parse(settings.url)
    endpoint = s3_endpoint_of(settings)
    plain = endpoint.startswith("http://") if endpoint else url.scheme == "minio" and not url.tls
    host = urlsplit(endpoint or f"//{url.host}").hostname
    if plain and host not in ("localhost", "127.0.0.1", "::1"):
        log.warning("the store is reached by plain http: names and data can be read on the way")
