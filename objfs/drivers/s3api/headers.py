"""Headers that several requests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from objfs.errors import CorruptError

if TYPE_CHECKING:
    from objfs.drivers.s3api.http import Answer
    from objfs.store.values import Condition


def condition_headers(condition: Condition) -> dict[str, str]:
    """Headers of a condition on the destination."""
    if condition.if_absent:
        return {"if-none-match": "*"}
    return {} if condition.if_match is None else {"if-match": f'"{condition.if_match}"'}


def etag_of(answer: Answer, key: str) -> str:
    """The ETag an answer must tell."""
    if not answer.etag:
        raise CorruptError("The store's answer has no ETag.", key=key)
    return answer.etag
