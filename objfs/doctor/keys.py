"""Keys that a mount cannot show as files."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from objfs.doctor.findings import Finding, ok, skipped, warning
from objfs.errors import ObjectStoreError
from objfs.vfs.names import RESERVED_ROOT, is_showable

if TYPE_CHECKING:
    from objfs.store.protocol import ObjectStore

_NAME = "keys"
_EXAMPLES = 3


def examine_keys(store: ObjectStore, most: int | None) -> Finding:
    """Look at up to `most` keys, all if None."""
    reasons: Counter[str] = Counter()
    examples: list[str] = []
    seen = 0
    files: set[str] = set()
    folders: set[str] = set()
    page: str | None = None
    try:
        while True:
            answer = store.list("", page=page)
            for info in answer.objects:
                seen += 1
                reason = why_hidden(info.key, info.version.size_bytes)
                if reason:
                    reasons[reason] += 1
                    if len(examples) < _EXAMPLES:
                        examples.append(repr(info.key))
                parts = info.key.split("/")
                if parts[-1]:
                    files.add(info.key)
                folders.update("/".join(parts[:count]) for count in range(1, len(parts)))
            page = answer.next_page
            if page is None or (most is not None and seen >= most):
                break
    except ObjectStoreError as error:
        return skipped(_NAME, f"the store does not list them ({str(error).rstrip('.')})")
    both = sorted(files & folders)
    if both:
        reasons["file and directory at once"] += len(both)
        examples = [*map(repr, both), *examples][:_EXAMPLES]
    scope = f"{seen:,} looked at" + ("" if page is None else ", there are more (--keys 0 looks at all)")
    if not reasons:
        return ok(_NAME, f"all can be shown as files: {scope}")
    told = ", ".join(f"{count:,} with {reason}" for reason, count in reasons.most_common())
    return warning(
        _NAME,
        f"{sum(reasons.values()):,} cannot be shown: {told}; {scope}; for instance {', '.join(examples)}",
        "objfs leaves them alone; rename them with another tool to see them",
    )


def why_hidden(key: str, size_bytes: int) -> str:
    """Why a key is not shown, "" if it is."""
    if key.split("/")[0] == RESERVED_ROOT:
        return ""
    parts = key.split("/")
    is_marker = len(parts) > 1 and parts[-1] == ""
    for part in parts[:-1] if is_marker else parts:
        if not is_showable(part):
            return "an empty part" if part == "" else "a part that no file can have as its name"
    return "a content that a directory cannot have" if is_marker and size_bytes else ""
