"""Answers of the control socket that go on until the client leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from objfs.control import protocol
from objfs.control.tracing import TraceFilter, event_to_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.control.tracing import Tracer

_MAX_TOLD_BYTES = 64 * 1024  # of one send: what a listener's buffer takes without waiting


async def send_trace(stream: trio.SocketStream, tracer: Tracer, request: Mapping[str, Any]) -> None:
    """Send live requests until the client leaves; what it is too slow for is dropped, and it is told."""
    with tracer.listening(_filter(request)) as listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch_client, stream, nursery.cancel_scope)
            await stream.send_all(protocol.encode_line({"progress": {}}))  # from now on nothing is missed
            told_dropped = 0
            while True:
                events = await listener.next_events()
                text = bytearray()
                for event in events:
                    text += protocol.encode_line({"event": event_to_json(event)})
                    if len(text) > _MAX_TOLD_BYTES:
                        await stream.send_all(bytes(text))
                        text.clear()
                if listener.dropped > told_dropped:
                    told_dropped = listener.dropped
                    text += protocol.encode_line({"dropped": told_dropped})
                await stream.send_all(bytes(text))


async def _watch_client(stream: trio.SocketStream, serving: trio.CancelScope) -> None:
    """Ends the answer when the client closes its side."""
    try:
        while await stream.receive_some(protocol.MAX_REQUEST_BYTES):
            pass
    finally:
        serving.cancel()


def _filter(request: Mapping[str, Any]) -> TraceFilter:
    names = request.get("operations")
    least_s = request.get("least_s")
    return TraceFilter(
        path=str(request.get("path") or ""),
        operations=frozenset(str(name) for name in names) if isinstance(names, list) else frozenset(),
        least_s=float(least_s) if isinstance(least_s, int | float) else 0.0,
    )
