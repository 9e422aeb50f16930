"""Lifecycle rules and tags as S3 has them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from objfs.drivers.s3api.checksums import content_md5
from objfs.drivers.s3api.errors import error_code, error_of
from objfs.drivers.s3api.http import Call
from objfs.drivers.s3api.xml import child_text, local_name, parse_document
from objfs.store.lifecycle import LifecycleRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from objfs.drivers.s3api.http import Answer
    from objfs.drivers.s3api.store import S3Store

_LAST_SUCCESS = 299
_QUERY = {"lifecycle": ""}
_KNOWN = frozenset({"ID", "Status", "Filter", "Prefix", "Expiration"})
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


class S3Lifecycle:
    """The lifecycle face of an `S3Store`."""

    def __init__(self, store: S3Store) -> None:
        self._store = store

    def read(self) -> list[LifecycleRule]:
        """See `LifecycleApi`."""
        answer = self._store.send_unchecked(Call("GET", query=_QUERY))
        if answer.status > _LAST_SUCCESS:
            if error_code(answer.data) == "NoSuchLifecycleConfiguration":
                return []
            raise error_of(answer, key="")
        root = parse_document(answer.data, "LifecycleConfiguration")
        return [_rule(child) for child in root if local_name(child) == "Rule"]

    def write(self, rules: Sequence[LifecycleRule]) -> None:
        """See `LifecycleApi`."""
        if not rules:
            self._store.send(Call("DELETE", query=_QUERY))
            return
        text = "".join(rule.document or _document(rule) for rule in rules)
        body = f'<LifecycleConfiguration xmlns="{_NAMESPACE}">{text}</LifecycleConfiguration>'.encode()
        headers = {"content-md5": content_md5(body), "content-type": "application/xml"}
        self._store.send(Call("PUT", query=_QUERY, headers=headers, body=body))


class S3Tags:
    """The tags face of an `S3Store`."""

    def __init__(self, store: S3Store) -> None:
        self._store = store

    def read(self, key: str) -> dict[str, str]:
        """See `TagsApi`."""
        answer: Answer = self._store.send(Call("GET", self._store.check_key(key), query={"tagging": ""}))
        root = parse_document(answer.data, "Tagging", key=key)
        return {child_text(tag, "Key"): child_text(tag, "Value") for tag in _all(root, "Tag")}


def _rule(element: ElementTree.Element) -> LifecycleRule:
    """A rule; what it has beyond what is known here is kept as text."""
    parts = {local_name(child): child for child in element}
    expiration = parts.get("Expiration")
    days = child_text(expiration, "Days") if expiration is not None else ""
    prefix = next((child.text or "" for child in _all(element, "Prefix")), "")
    is_plain = set(parts) <= _KNOWN and days.isdecimal() and not list(_all(element, "ObjectSizeGreaterThan"))
    return LifecycleRule(
        rule_id=child_text(element, "ID"),
        prefix=prefix,
        tags={child_text(tag, "Key"): child_text(tag, "Value") for tag in _all(element, "Tag")},
        expire_days=int(days) if days.isdecimal() else None,
        enabled=child_text(element, "Status") == "Enabled",
        document=None if is_plain else _as_text(element),
    )


def _document(rule: LifecycleRule) -> str:
    tags = "".join(
        f"<Tag><Key>{escape(name)}</Key><Value>{escape(value)}</Value></Tag>"
        for name, value in rule.tags.items()
    )
    prefix = f"<Prefix>{escape(rule.prefix)}</Prefix>" if rule.prefix or not tags else ""
    both = f"<And>{prefix}{tags}</And>" if len(rule.tags) + bool(prefix) > 1 else prefix + tags
    status = "Enabled" if rule.enabled else "Disabled"
    return (
        f"<Rule><ID>{escape(rule.rule_id)}</ID><Status>{status}</Status><Filter>{both}</Filter>"
        f"<Expiration><Days>{rule.expire_days}</Days></Expiration></Rule>"
    )


def _all(element: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [child for child in element.iter() if local_name(child) == name]


def _as_text(element: ElementTree.Element) -> str:
    """The element as text without prefixes, to stand within a document of its namespace."""
    for child in element.iter():
        child.tag = local_name(child)
    element.tail = None
    return ElementTree.tostring(element, encoding="unicode")
