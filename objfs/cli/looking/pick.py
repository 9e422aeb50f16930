"""The one mount that a command is about."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from objfs.cli.places import explain_silence
from objfs.cli.settings import find_mountpoint
from objfs.control import protocol
from objfs.control.client import NoAnswerError, connect, sockets_in
from objfs.errors import MountError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from objfs.control.client import ControlClient


@contextmanager
def one_mount(text: str | None) -> Iterator[ControlClient]:
    """A connection to the mount of that name or mountpoint; without a name to the only one there is.

    Raises:
        MountError: it does not answer, or there is none.
        UsageError: there are several.
    """
    folder = protocol.socket_folder()
    if text is not None:
        mountpoint = find_mountpoint(text)
        with ExitStack() as stack:
            try:
                client = stack.enter_context(connect(protocol.socket_of(mountpoint)))
            except NoAnswerError as error:
                raise explain_silence(mountpoint, error) from error
            yield client
        return
    with ExitStack() as stack:
        clients = []
        for socket in sockets_in(folder):
            with suppress(NoAnswerError):
                clients.append(stack.enter_context(connect(socket)))
        if not clients:
            raise MountError("nothing is mounted.")
        if len(clients) > 1:
            names = ", ".join(sorted(client.status().mountpoint for client in clients))
            raise UsageError(f"there are several mounts, name one of them: {names}.")
        yield clients[0]
