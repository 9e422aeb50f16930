"""Upload rules: what they say, which one a file meets, and what becomes of an object."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from objfs.config.rules import (
    PLAIN,
    Compression,
    Treatment,
    build_rule,
    compress_rules,
    describe_treatment,
    dump_rules,
    join_rules,
    override,
    parse_rules,
    treatment_from_json,
    treatment_to_json,
)
from objfs.drivers.memory import MemoryStore
from objfs.errors import InvalidRequestError
from objfs.store.values import PutOptions
from objfs.upload.honour import honoured
from objfs.upload.operations import Kind, Operation, from_record
from objfs.upload.rules import (
    EXPIRY_TAG,
    ORIGIN_METADATA,
    SET_METADATA,
    Decision,
    RuleSet,
    build_rule_set,
    expiry_days,
    overrides_of,
    overrides_text,
)

if TYPE_CHECKING:
    from objfs.config.rules import Rule
    from objfs.store.protocol import ObjectStore

NOW_NS = 1_700_000_000_000_000_000
FILE = PutOptions(metadata={"mode": "33188"}, content_type="text/plain")


def rules(*values: dict[str, object]) -> tuple[Rule, ...]:
    return parse_rules(json.dumps(values))


@pytest.mark.parametrize(
    ("glob", "path", "fits"),
    [
        ("*.log", "a/b/x.log", True),
        ("*.log", ".x.log", True),
        ("*.log", "x.log.gz", False),
        ("*.{jpg,png}", "d/a.png", True),
        ("*.LOG", "a.log", False),
        ("logs/*", "logs/a", True),
        ("logs/*", "logs/a/b", False),
        ("logs/*", "x/logs/a", False),
        ("logs/**", "logs/a/b", True),
        ("**/tmp/**", "a/tmp/b/c", True),
        ("**/tmp/**", "tmp/b", True),
        ("/a*", "a1", True),
        ("/a*", "x/a1", False),
        ("*", "any/thing\nat all", True),
        ("[ab]?", "x/a1", True),
        ("caf\u00e9*", "caf\u00e9.txt", True),
    ],
)
def test_globs(glob: str, path: str, fits: bool) -> None:
    assert build_rule({"glob": glob}).fits(path, 0) is fits


def test_the_first_rule_that_fits_decides() -> None:
    found = RuleSet(
        rules=rules(
            {"glob": "*.log", "min_size": "64KiB", "compress": "zstd", "level": 9},
            {"glob": "*.log", "storage_class": "standard_ia"},
            {"glob": "*", "max_size": 10, "cache_control": "no-store"},
        )
    )
    assert found.treat("a.log", 65536).compress == Compression(level=9)
    assert found.treat("a.log", 65536).storage_class is None
    assert found.treat("a.log", 65535) == Treatment(storage_class="STANDARD_IA")
    assert found.treat("x", 10).cache_control == "no-store"
    assert found.treat("x", 11) == PLAIN
    whys = [rule.why_not("a.log", 1) for rule in found.rules]
    assert whys[:2] == ["the file is smaller than 64KiB", None]


def test_every_field() -> None:
    rule = build_rule(
        {
            "glob": "*",
            "compress": "zstd",
            "level": 22,
            "compress_min_size": "1M",
            "compress_min_saving": "25%",
            "storage_class": "glacier_ir",
            "content_type": "text/plain; charset=utf-8",
            "cache_control": "max-age=5",
            "tags": {"a": "b c"},
            "metadata": {"project": "x"},
            "encryption": "kms:arn:aws:kms:eu-west-1:1:key/2",
            "expire_after": "30d",
            "expire_idle": "1w",
        }
    )
    assert rule.treatment == Treatment(
        compress=Compression(level=22, least_size=1024**2, least_saving=0.25),
        storage_class="GLACIER_IR",
        content_type="text/plain; charset=utf-8",
        cache_control="max-age=5",
        tags={"a": "b c"},
        metadata={"project": "x"},
        encryption="kms:arn:aws:kms:eu-west-1:1:key/2",
        expire_after_s=30 * 86400,
        expire_idle_s=7 * 86400,
    )
    assert treatment_from_json(json.loads(json.dumps(treatment_to_json(rule.treatment)))) == rule.treatment
    assert set(describe_treatment(rule.treatment)) >= {"compress", "tags", "expire_idle", "encryption"}
    assert parse_rules(dump_rules([rule])) == (rule,)
    assert treatment_to_json(PLAIN) == {}


def test_compress_in_short() -> None:
    assert build_rule({"glob": "*", "compress": "zstd:7"}).treatment.compress == Compression(level=7)
    assert build_rule({"glob": "*", "compress": "off"}).treatment.compress is None
    assert build_rule({"glob": "*", "compress": False}).treatment.compress is None
    text = compress_rules(["*.log=zstd", "a=b/*=zstd:19"])
    assert [(rule.glob, rule.treatment.compress) for rule in parse_rules(text)] == [
        ("*.log", Compression()),
        ("a=b/*", Compression(level=19)),
    ]


@pytest.mark.parametrize("text", ["*.log", "=zstd", "*.log=", "*.log=gzip", "*.log=zstd:99", "*=zstd:x"])
def test_wrong_flags(text: str) -> None:
    with pytest.raises(ValueError, match=r"zstd|level"):
        compress_rules([text])


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "needs a glob"),
        ({"glob": ""}, "glob: write a text"),
        ({"glob": "{1..100000}"}, "no glob, or stands for too many"),
        ({"glob": "*", "level": 3}, "without compress"),
        ({"glob": "*", "compress": "gzip"}, "not one of off, zstd"),
        ({"glob": "*", "compress": "zstd", "level": 23}, "no level"),
        ({"glob": "*", "compress": "zstd", "compress_min_saving": 10}, "no part of the size"),
        ({"glob": "*", "min_size": "2M", "max_size": "1M"}, "no file could ever"),
        ({"glob": "*", "min_size": True}, "write a number"),
        ({"glob": "*", "storage_class": "a b"}, "no storage class"),
        ({"glob": "*", "content_type": "text"}, "no content type"),
        ({"glob": "*", "cache_control": "a\nb"}, "no value that a header can carry"),
        ({"glob": "*", "tags": {"a": "<"}}, "no tag"),
        ({"glob": "*", "tags": {str(n): "" for n in range(11)}}, "at most 10"),
        ({"glob": "*", "tags": {str(n): "" for n in range(10)}, "expire_after": "1d"}, "at most 9"),
        ({"glob": "*", "tags": "a=b"}, "write a table"),
        ({"glob": "*", "metadata": {"mode": "1"}}, "used by objfs"),
        ({"glob": "*", "metadata": {"objfs-x": "1"}}, "used by objfs"),
        ({"glob": "*", "metadata": {"Up": "1"}}, "no metadata name"),
        ({"glob": "*", "encryption": "rot13"}, "not one of sse-s3"),
        ({"glob": "*", "expire_after": "0"}, "too little"),
        ({"glob": "*", "expire_idle": "soon"}, "no time"),
        ({"glob": "*", "colour": "red"}, "'colour' is not known"),
    ],
)
def test_wrong_rules_are_one_sentence(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build_rule(values)


def test_rules_of_layers_are_joined() -> None:
    joined = join_rules('[{"glob": "a"}]', join_rules('[{"glob": "b"}]', ""))
    assert [rule.glob for rule in parse_rules(joined)] == ["a", "b"]


def test_overrides_of_one_file() -> None:
    treatment = Treatment(storage_class="GLACIER", expire_after_s=5.0, compress=Compression(level=9))
    changed = override(treatment, {"storage_class": "standard_ia", "compress": "off", "tags": {"a": "b"}})
    assert changed == Treatment(storage_class="STANDARD_IA", expire_after_s=5.0, tags={"a": "b"})
    with pytest.raises(ValueError, match="no storage class"):
        override(treatment, {"storage_class": "?"})
    text = overrides_text({"tags": {"a": "é"}, "level": 3, "compress": "zstd"})
    assert text.isascii()
    assert overrides_of({SET_METADATA: text}) == {"tags": {"a": "é"}, "level": 3, "compress": "zstd"}
    for nonsense in ("", "%", "[]", "%7B%22storage_class%22%3A%22%3F%22%7D", "null"):
        assert overrides_of({SET_METADATA: nonsense}) == {}


def test_a_decision_is_the_same_after_a_restart() -> None:
    found = build_rule_set(
        rules({"glob": "*.tmp", "expire_after": "1d", "tags": {"a": "b"}, "metadata": {"x": "y"}}),
        origin=True,
        sha256=True,
    )
    operation = Operation(kind=Kind.PUT, path="d/a.tmp", options=FILE, body=b"x")
    operation.decision = found.decide(operation.path, operation.size_bytes, operation.options, NOW_NS)
    again = from_record(operation.record())
    assert again.decision == operation.decision
    stored = again.stored_options()
    assert stored == operation.stored_options()
    assert stored.metadata["objfs-expires"] == "2023-11-15T22:13:20Z"
    assert stored.metadata["x"] == "y"
    assert "/" in stored.metadata[ORIGIN_METADATA]
    assert stored.tags == {"a": "b"}
    assert stored.content_type == "text/plain"


def test_without_rules_nothing_is_decided() -> None:
    assert RuleSet().decide("a", 1, FILE, NOW_NS) == Decision()
    assert Decision().apply(FILE) == FILE


def test_links_and_the_like_are_stored_as_they_are() -> None:
    found = RuleSet(rules=rules({"glob": "*", "storage_class": "GLACIER"}))
    link = PutOptions(metadata={"mode": str(0o120777)})
    assert found.decide("a", 1, link, NOW_NS) == Decision()


def test_an_upload_takes_off_what_the_one_before_it_said() -> None:
    before = PutOptions(metadata={"objfs-expires": "2020-01-01T00:00:00Z", "objfs-origin": "a/b", "own": "x"})
    assert Decision().apply(before).metadata == {"own": "x"}


def test_what_was_set_meanwhile_outranks_the_decision() -> None:
    decision = Decision(treatment=Treatment(storage_class="GLACIER"), decided_ns=NOW_NS)
    later = PutOptions(metadata={SET_METADATA: overrides_text({"storage_class": "standard"})})
    assert decision.apply(later).storage_class == "STANDARD"


def test_days_of_the_stores_own_rules_are_never_early() -> None:
    assert expiry_days(PLAIN) is None
    assert expiry_days(Treatment(expire_after_s=1)) == 1
    assert expiry_days(Treatment(expire_after_s=86400)) == 1
    assert expiry_days(Treatment(expire_after_s=86401)) == 2
    assert expiry_days(Treatment(expire_idle_s=86400)) == 2  # a noted read puts it off by a day more
    assert expiry_days(Treatment(expire_after_s=10 * 86400, expire_idle_s=86400)) == 2
    tagged = RuleSet(rules=rules({"glob": "*", "expire_after": "7d", "tags": {"a": "b"}}), tags_expiry=True)
    assert tagged.treat("x", 0).tags == {"a": "b", EXPIRY_TAG: "7d"}


class PickyStore(MemoryStore):
    """Knows one storage class and no tags."""

    def put(self, key: str, body: object, *, options: PutOptions = FILE, condition: object = None) -> object:  # type: ignore[override]
        if options.storage_class not in (None, "STANDARD") or options.tags:
            raise InvalidRequestError("400 InvalidStorageClass.", key=key)
        return super().put(key, b"", options=options)


def test_what_the_store_cannot_honour_is_told(caplog: pytest.LogCaptureFixture) -> None:
    store: ObjectStore = PickyStore()  # type: ignore[assignment]
    asked = RuleSet(
        rules=rules(
            {"glob": "*.a", "storage_class": "GLACIER", "cache_control": "x"},
            {"glob": "*.b", "tags": {"a": "b"}, "expire_after": "1d"},
            {"glob": "*.c", "encryption": "sse-s3"},
            {"glob": "*.d", "storage_class": "STANDARD"},
        )
    )
    found = honoured(asked, store)
    assert found.treat("x.a", 0) == Treatment(cache_control="x")
    assert found.treat("x.b", 0) == Treatment(expire_after_s=86400)
    assert found.treat("x.c", 0) == Treatment(encryption="sse-s3")  # rather not uploaded than in the clear
    assert found.treat("x.d", 0) == Treatment(storage_class="STANDARD")
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3
    assert told[0].startswith(
        "the store cannot honour storage_class of rule 1 (*.a): 400 InvalidStorageClass"
    )
    assert "tags of rule 2" in told[1]
    assert told[2].endswith("such files are not uploaded")
    assert not store.list("").objects
