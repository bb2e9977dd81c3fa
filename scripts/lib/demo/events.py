"""The messages: threat-intelligence objects in the shape of STIX 2.1, made from a seed.

The same seed and index always give the same event. Each carries its own SHA-256, so that whoever
receives it can tell that it arrived whole.
"""

from __future__ import annotations

import hashlib
import json
import random
import uuid

SEED = "tidegate"
NAMESPACE = uuid.UUID("00abedb4-aa42-466c-9c01-fed23315a9b7")  # STIX 2.1's own, for derived identifiers
EXTENSION = "x_tidegate"

WORDS = """actor address analysis archive attachment backdoor beacon botnet browser campaign certificate channel
cluster command credential delivery domain dropper encoded endpoint evidence exfiltration exploit family
fingerprint gateway implant infrastructure injection installer keylogger lateral loader macro malware memory
movement network obfuscated operator overlap packed payload persistence phishing pivot process protocol proxy
ransom registry remote reported resolver sandbox scheduled script segment server session signature spear stage
staging stolen subnet supply target telemetry tooling traffic tunnel unpacked variant victim vulnerability wiper""".split()
LABELS = ["malicious-activity", "anomalous-activity", "benign", "compromised", "attribution", "c2", "phishing"]


def canonical(event: dict) -> bytes:
    """The one form that is hashed: keys sorted, no blanks, without the checksum itself."""
    plain = {key: value for key, value in event.items() if key != EXTENSION}
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def checksum(event: dict) -> str:
    return hashlib.sha256(canonical(event)).hexdigest()


def _text(source: random.Random, words: int) -> str:
    return " ".join(source.choice(WORDS) for _ in range(words)).capitalize() + "."


def _time(source: random.Random) -> str:
    return "2026-%02d-%02dT%02d:%02d:%02d.%03dZ" % (
        source.randint(1, 9), source.randint(1, 28), source.randrange(24),
        source.randrange(60), source.randrange(60), source.randrange(1000),
    )


def _identifier(source: random.Random, kind: str) -> str:
    return "%s--%s" % (kind, uuid.UUID(int=source.getrandbits(128), version=4))


def _address(source: random.Random) -> str:
    return "203.0.113.%d" % source.randrange(256)  # RFC 5737: documentation only


def _indicator(source: random.Random) -> dict:
    value = source.choice([
        "[ipv4-addr:value = '%s']" % _address(source),
        "[domain-name:value = '%s-%s.example']" % (source.choice(WORDS), source.choice(WORDS)),
        "[file:hashes.'SHA-256' = '%064x']" % source.getrandbits(256),
    ])
    return {
        "name": _text(source, 4), "pattern": value, "pattern_type": "stix", "valid_from": _time(source),
        "description": _text(source, source.randint(5, 60)),
    }


def _malware(source: random.Random) -> dict:
    return {
        "name": source.choice(WORDS), "is_family": source.random() < 0.5,
        "aliases": [source.choice(WORDS) for _ in range(source.randint(0, 6))],
        "description": _text(source, source.randint(20, 200)),
    }


def _report(source: random.Random) -> dict:
    return {
        "name": _text(source, 6), "published": _time(source), "description": _text(source, source.randint(50, 200)),
        "object_refs": [_identifier(source, "indicator") for _ in range(source.randint(1, 30))],
    }


def _relationship(source: random.Random) -> dict:
    return {
        "relationship_type": source.choice(["indicates", "targets", "uses", "attributed-to"]),
        "source_ref": _identifier(source, "indicator"), "target_ref": _identifier(source, "malware"),
    }


KINDS = {"indicator": (_indicator, 5), "relationship": (_relationship, 3), "malware": (_malware, 1), "report": (_report, 1)}


def event(index: int) -> dict:
    """Event number `index`."""
    source = random.Random("%s:%d" % (SEED, index))
    kind = source.choices(list(KINDS), [weight for _, weight in KINDS.values()])[0]
    created = _time(source)
    made = {
        "type": kind, "spec_version": "2.1", "id": identifier(kind, index), "created": created, "modified": created,
        "confidence": source.randint(0, 100),
        "labels": sorted(source.sample(LABELS, source.randint(1, 3))),
        **KINDS[kind][0](source),
    }
    made[EXTENSION] = {"sequence": index, "sha256": checksum(made)}
    return made


def identifier(kind: str, index: int) -> str:
    return "%s--%s" % (kind, uuid.uuid5(NAMESPACE, "%s:%d" % (SEED, index)))


def write_lines(path: str, first: int, last: int) -> list:
    """Writes the events from `first` up to `last` (not included), one a line; returns their identifiers."""
    identifiers = []
    with open(path, "w", encoding="utf-8") as lines:
        for index in range(first, last):
            made = event(index)
            identifiers.append(made["id"])
            lines.write(json.dumps(made, separators=(",", ":"), ensure_ascii=False) + "\n")
    return identifiers
