"""When files expire, and how reads put it off."""

from __future__ import annotations

import pytest

from objfs.config.rules import Treatment
from objfs.control.expiring import ExpiryCounts, delete_expired, find_expired
from objfs.drivers.memory import MemoryStore
from objfs.store.values import Capabilities, ObjectInfo, PutOptions, Version
from objfs.upload.expiry import (
    RENEW_EVERY_S,
    Expiry,
    expiry_metadata,
    expiry_of,
    has_expired,
    parse_time,
    read_expiry,
    time_text,
)

DAY_S = 86_400.0
NOW_S = 1_700_000_000.0
NOW_NS = 1_700_000_000_000_000_000
PAST, FUTURE = "2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"


def test_since_the_upload() -> None:
    metadata = expiry_metadata(Treatment(expire_after_s=10), NOW_NS)
    assert metadata == {"objfs-expires": "2023-11-14T22:13:30Z"}
    found = read_expiry(metadata)
    assert found is not None
    assert found == Expiry(at_s=NOW_S + 10)
    assert not found.has_passed(NOW_S + 9)
    assert found.has_passed(NOW_S + 10)
    assert found.renewed(NOW_S) is None  # no read puts it off


def test_reads_put_it_off_once_a_day_and_never_too_little() -> None:
    idle_s = 5 * DAY_S
    found = expiry_of(Treatment(expire_idle_s=idle_s), NOW_NS)
    assert found is not None
    assert found == Expiry(at_s=NOW_S + idle_s, idle_s=idle_s)
    renewals = 0
    last_read_s = NOW_S
    for hour in range(24 * 20):
        read_s = NOW_S + 60 + hour * 3600.0
        assert not found.has_passed(last_read_s + idle_s - 1)
        renewed = found.renewed(read_s)
        renewals += renewed is not None
        found = renewed or found
        last_read_s = read_s
        assert found.at_s >= read_s + idle_s  # never gone earlier than the idle time after a read
        assert found.at_s <= read_s + idle_s + RENEW_EVERY_S
    assert 19 <= renewals <= 21


def test_both() -> None:
    found = expiry_of(Treatment(expire_after_s=3 * DAY_S, expire_idle_s=DAY_S), NOW_NS)
    assert found is not None
    assert found == Expiry(at_s=NOW_S + DAY_S, idle_s=DAY_S, latest_s=NOW_S + 3 * DAY_S)
    assert read_expiry(found.to_metadata()) == found
    renewed = found.renewed(NOW_S + 1.5 * DAY_S)
    assert renewed is not None
    assert renewed.at_s == NOW_S + 3 * DAY_S  # reads do not move it beyond that
    assert renewed.renewed(NOW_S + 2.9 * DAY_S) is None


def test_times() -> None:
    assert time_text(NOW_S + 0.1) == "2023-11-14T22:13:21Z"  # never early
    assert parse_time("2023-11-14T22:13:20Z") == NOW_S
    assert parse_time("2023-11-14T23:13:20+01:00") == NOW_S
    for nonsense in (None, "", "soon", "2023-11-14T22:13:20", "9" * 50, "0000-00-00T00:00:00Z"):
        assert parse_time(nonsense) is None
        assert read_expiry({"objfs-expires": nonsense or ""}) is None  # then it stays
    assert read_expiry({"objfs-expires": PAST, "objfs-expire-idle": "-5"}) == Expiry(
        at_s=parse_time(PAST) or 0
    )


def test_has_expired() -> None:
    def info(**metadata: str) -> ObjectInfo:
        version = Version(etag="e", size_bytes=0)
        return ObjectInfo(
            key="a", version=version, metadata={k.replace("_", "-"): v for k, v in metadata.items()}
        )

    assert has_expired(info(objfs_expires=PAST))
    assert not has_expired(info(objfs_expires=FUTURE))
    assert not has_expired(info())
    assert not has_expired(ObjectInfo(key="a", version=Version(etag="e", size_bytes=0)))


def _fill(store: MemoryStore, count: int) -> None:
    for number in range(count):
        expires = {"objfs-expires": PAST} if number % 2 else {"objfs-expires": FUTURE}
        store.put(f"d{number % 3}/{number}", b"12", options=PutOptions(metadata=expires))
    store.put("plain", b"")
    store.put("d0/", b"", options=PutOptions(metadata={"objfs-expires": PAST}))


class BareStore(MemoryStore):
    """Its listings tell no metadata."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()

    def list(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        kwargs["with_metadata"] = False
        return super().list(*args, **kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [MemoryStore, BareStore])
def test_expire_deletes_what_has_expired_and_nothing_else(kind: type[MemoryStore]) -> None:
    store = kind()
    _fill(store, 2500)
    counts = ExpiryCounts()
    assert len(list(find_expired(store, counts, lambda: None))) == 1250
    assert (counts.looked_at, counts.expired, counts.deleted) == (2501, 1250, 0)
    done = ExpiryCounts()
    steps: list[int] = []
    delete_expired(store, done, lambda: steps.append(done.deleted))
    assert (done.expired, done.expired_bytes, done.deleted) == (1250, 2500, 1250)
    assert len(set(steps)) > 2  # told on the way
    assert not list(find_expired(store, ExpiryCounts(), lambda: None))
    assert store.head("plain").version.size_bytes == 0
    assert store.head("d0/").key == "d0/"  # a directory never expires
    assert store.head("d0/0").key == "d0/0"


class RenewingStore(MemoryStore):
    """Somebody reads, or replaces, files just before they are deleted."""

    def head(self, key: str) -> ObjectInfo:
        options = PutOptions(metadata={"objfs-expires": FUTURE if key == "read" else PAST})
        if key in ("read", "replaced"):
            self.put(key, b"new", options=options)
        return super().head(key)


def test_what_is_renewed_meanwhile_is_never_deleted() -> None:
    store = RenewingStore()
    for key in ("gone", "read", "replaced"):
        store.put(key, b"old", options=PutOptions(metadata={"objfs-expires": PAST}))
    counts = ExpiryCounts()
    delete_expired(store, counts, lambda: None)
    assert (counts.expired, counts.deleted, counts.renewed) == (3, 1, 2)
    assert [info.key for info in store.list("").objects] == ["read", "replaced"]
