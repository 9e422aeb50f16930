"""Upload rules: what a mount's configuration says about how files are stored.

A rule is a table of texts and numbers (`[[mounts.photos.rules]]`), checked field by field. The first rule
whose glob and sizes fit a file decides; what it leaves out is off.
"""

from objfs.config.rules.building import build_rule, override
from objfs.config.rules.fields import RULE_FIELDS, SETTABLE
from objfs.config.rules.matching import Rule
from objfs.config.rules.texts import compress_rules, dump_rules, join_rules, parse_rules
from objfs.config.rules.treatment import (
    PLAIN,
    Compression,
    Treatment,
    describe_treatment,
    treatment_from_json,
    treatment_to_json,
)

__all__ = [
    "PLAIN",
    "RULE_FIELDS",
    "SETTABLE",
    "Compression",
    "Rule",
    "Treatment",
    "build_rule",
    "compress_rules",
    "describe_treatment",
    "dump_rules",
    "join_rules",
    "override",
    "parse_rules",
    "treatment_from_json",
    "treatment_to_json",
]
