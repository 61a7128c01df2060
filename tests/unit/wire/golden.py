"""Makes golden.h: what fastavro, an implementation that is not ours, says of our schemas and of others.

    python3 golden.py ../../../schemas > golden.h        (needs: pip install fastavro; made with 1.13.1)
"""

import copy
import io
import json
import sys

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

directory = sys.argv[1]


def quoted(text):
    body = text.replace("\\", "\\\\").replace('"', '\\"')
    lines = [body[i:i + 100] for i in range(0, len(body), 100)]
    for i in range(len(lines) - 1):  # an escape must not be cut in two
        while (len(lines[i]) - len(lines[i].rstrip("\\"))) % 2:
            lines[i + 1] = lines[i][-1] + lines[i + 1]
            lines[i] = lines[i][:-1]
    return "\n    ".join(f'"{line}"' for line in lines)


def emit_text(name, text):
    print(f"static const char {name}[] =\n    {quoted(text)};\n")


def emit_bytes(name, data):
    rows = [data[i:i + 20] for i in range(0, len(data), 20)]
    body = "\n".join("    " + " ".join(f"0x{byte:02x}," for byte in row) for row in rows)
    print(f"static const uint8_t {name}[] = {{\n{body}\n}};\n")


def number(schema):
    """The CRC-64-AVRO as a number: fastavro gives the hex of its bytes, least significant first."""
    text = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    return int.from_bytes(bytes.fromhex(text), "little")


def encode(schema, value):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(copy.deepcopy(schema)), value)
    return out.getvalue()


def frame(schema, value):
    return b"\xc3\x01" + number(schema).to_bytes(8, "little") + encode(schema, value)


print("/* Made by golden.py with fastavro 1.13.1: do not edit. */")
print("#ifndef WIRE_GOLDEN_H\n#define WIRE_GOLDEN_H\n")
print("#include <stdint.h>\n")
print("/* clang-format off */\n")

ours = {name: json.load(open(f"{directory}/{name}.avsc"))
        for name in ["Interaction", "Item", "User", "ScoreRequest", "ScoreResponse"]}
for name, schema in ours.items():
    print(f"#define FINGERPRINT_{name.upper()} 0x{number(schema):016x}u")
print()

rating = {"user_id": "u196", "item_id": "242", "timestamp": 881250949000, "kind": "rating", "value": 3.5, "label": True,
          "request_id": "r-1"}
click = {"user_id": "ü", "item_id": "", "timestamp": -1, "kind": "click", "value": None, "label": None,
         "request_id": None}
item = {"item_id": "242", "title": "Kolya (1996)", "attributes": {"genre": "Comedy", "year": "1996"}}
user = {"user_id": "u196", "profile": {}}
request = {
    "request_id": "r-1", "user_id": "u196", "timestamp": 881250949000,
    "candidates": [{"item_id": "242", "title": None}, {"item_id": "302", "title": "L.A. Confidential (1997)"}],
    "deadline_ms": 881250949250,
    "history": [{"item_id": "377", "title": "Heavyweights", "kind": "dislike", "value": None, "timestamp": 881250000000},
                {"item_id": "51", "title": None, "kind": "rating", "value": 4.0, "timestamp": 881240000000}],
    "explain": True}
response = {
    "request_id": "r-1", "user_id": "u196", "status": "OK", "error": None,
    "candidates": [
        {"item_id": "242", "probability": 0.7310585786300049, "exit_layer": 10, "status": "SHALLOW", "explanation": {
            "prompt": "Will \"u\"\nlike it?",
            "similar_users": [{"user": "p1", "cosine": 0.5, "verdict": "liked"},
                              {"user": "p2", "cosine": -0.25, "verdict": None}],
            "evidence": [{"name": "item_like_rate", "value": 0.625}],
            "exits": [{"layer": 5, "fired": False, "probabilities": [0.5, 0.625, 0.75]},
                      {"layer": 10, "fired": True, "probabilities": []}]}},
        {"item_id": "302", "probability": None, "exit_layer": 0, "status": "ERROR", "explanation": None}],
    "model": "smollm2-135m", "heads": "",
    "state": {"events_applied": 100000, "newest_event_ms": 881250948999, "embedding_bound": 0.0125},
    "timings": {"queue_ms": 0.5, "plan_ms": 1.25, "engine_ms": 40.0}}

emit_bytes("rating_frame", frame(ours["Interaction"], rating))
emit_bytes("click_frame", frame(ours["Interaction"], click))
emit_bytes("item_frame", frame(ours["Item"], item))
emit_bytes("user_frame", frame(ours["User"], user))
emit_bytes("request_frame", frame(ours["ScoreRequest"], request))
emit_bytes("response_frame", frame(ours["ScoreResponse"], response))

# Canonical forms and fingerprints.

forms = {
    "primitive": "int",
    "primitive_object": {"type": "string", "logicalType": "uuid"},
    "record": {"type": "record", "name": "Fixed.Point", "doc": "d", "aliases": ["P"], "fields": [
        {"default": 1, "type": {"type": "int"}, "doc": "x", "order": "ignore", "name": "x", "aliases": ["a"]}]},
    "names": {"namespace": "outer.space", "name": "R", "type": "record", "fields": [
        {"name": "f", "type": {"type": "fixed", "size": 16, "name": "Hash"}},
        {"name": "g", "type": {"type": "array", "items": "Hash"}},
        {"name": "e", "type": {"type": "enum", "name": "E", "namespace": "inner", "symbols": ["A", "B"],
                               "default": "A"}},
        {"name": "h", "type": ["null", {"type": "map", "values": ["inner.E", "outer.space.Hash"]}], "default": None},
        {"name": "s", "type": {"type": "record", "name": "deep.S", "fields": [
            {"name": "t", "type": {"type": "record", "name": "T", "fields": []}}]}},
        {"name": "u", "type": "deep.T"}]},
}
for name, schema in forms.items():
    emit_text(f"{name}_schema", json.dumps(schema))
    emit_text(f"{name}_canonical", to_parsing_canonical_form(copy.deepcopy(schema)))
    print(f"#define FINGERPRINT_{name.upper()} 0x{number(copy.deepcopy(schema)):016x}u\n")

# Schemas of other writers, and what they write.

KINDS = {"type": "enum", "name": "InteractionKind", "namespace": "headrace",
         "symbols": ["unknown", "rating", "click", "like", "dislike", "impression", "purchase", "remove"]}


def interaction(fields, **more):
    return {"type": "record", "name": "Interaction", "namespace": "headrace", "fields": fields, **more}


def field(name, kind, **more):
    return {"name": name, "type": kind, **more}


plain = {"user_id": "u", "item_id": "i", "timestamp": 5, "kind": "like", "value": 2.5, "label": True, "request_id": "r"}
required = [field("user_id", "string"), field("item_id", "string"), field("timestamp", "long"), field("kind", KINDS)]
dropped = {"type": "record", "name": "Dropped", "fields": [
    field("nothing", "null"), field("flag", "boolean"), field("small", "int"), field("big", "long"),
    field("single", "float"), field("double", "double"), field("raw", "bytes"), field("text", "string"),
    field("hash", {"type": "fixed", "name": "Hash", "size": 3}),
    field("color", {"type": "enum", "name": "Color", "symbols": ["RED", "BLUE"]}),
    field("lists", {"type": "array", "items": {"type": "array", "items": "int"}}),
    field("nulls", {"type": "array", "items": "null"}),
    field("table", {"type": "map", "values": {"type": "map", "values": ["null", "Color", "string"]}}),
    field("either", ["null", {"type": "record", "name": "Inner", "fields": [field("a", "Hash"), field("b", "long")]}])]}
dropped_value = {
    "nothing": None, "flag": True, "small": -77, "big": 2**40, "single": 1.5, "double": 2.5, "raw": b"\x00\xff",
    "text": "text", "hash": b"abc", "color": "BLUE", "lists": [[1, 2], [], [300]], "nulls": [None] * 5,
    "table": {"k": {"x": None, "y": "RED"}, "l": {}}, "either": {"a": b"xyz", "b": -1}}

cases = {
    "older": (interaction(required), {k: plain[k] for k in ["user_id", "item_id", "timestamp", "kind"]}),
    "reordered": (interaction([
        field("request_id", ["null", "string"]), field("label", ["null", "boolean"]),
        field("value", ["null", "double"])] + required[::-1]), plain),
    "dropping": (interaction([field("before", dropped)] + required[:2] + [field("between", ["null", "Dropped"])] +
                             required[2:] + [field("after", {"type": "array", "items": "Dropped"})]),
                 {**plain, "before": dropped_value, "between": dropped_value, "after": [dropped_value] * 2}),
    "promoted": (interaction([field("user_id", "bytes"), required[1], field("timestamp", "int"), required[3],
                              field("value", ["null", "float"])]),
                 {**plain, "user_id": b"u"}),
    "long_value": (interaction(required + [field("value", "long")]), {**plain, "value": -7}),
    "int_value": (interaction(required + [field("value", ["int", "null"])]), {**plain, "value": -7}),
    "newer_symbol": (interaction(required[:3] + [field("kind", {
        **KINDS, "symbols": ["share", "like", "unknown"]})]), {**plain, "kind": "share"}),
    "other_numbers": (interaction(required[:3] + [field("kind", {
        **KINDS, "symbols": ["share", "like", "unknown"]})]), {**plain, "kind": "like"}),
    "plain": (interaction(required + [field("value", "double"), field("label", "boolean"),
                                      field("request_id", "string")]), plain),
    "unions": (interaction([field("user_id", ["null", "string"]), field("item_id", ["bytes", "null"]),
                            field("timestamp", ["int", "long"]), field("kind", ["null", KINDS]),
                            field("value", ["float", "null", "string"]), field("label", ["boolean"]),
                            field("request_id", ["string", "null"])]), {**plain, "item_id": b"i"}),
    "null_id": (interaction([field("user_id", ["null", "string"])] + required[1:]), {**plain, "user_id": None}),
    "text_value": (interaction(required + [field("value", ["float", "null", "string"])]), {**plain, "value": "much"}),
    "top_union": (["null", interaction(required)], plain),
}
for name, (schema, value) in cases.items():
    emit_text(f"{name}_writer", json.dumps(schema))
    emit_bytes(f"{name}_frame", frame(schema, value))

candidate = {"type": "record", "name": "RequestCandidate", "fields": [field("rank", "int"), field("item_id", "string")]}
event = {"type": "record", "name": "RequestEvent", "fields": [
    field("timestamp", {"type": "long", "logicalType": "timestamp-millis"}),
    field("kind", {**KINDS, "namespace": "headrace", "symbols": ["remove", "wish", "unknown"]}),
    field("item_id", "string"), field("weight", "float"), field("value", "int")]}
nested = {"type": "record", "name": "ScoreRequest", "namespace": "headrace", "fields": [
    field("history", {"type": "array", "items": event}), field("request_id", "string"), field("user_id", "string"),
    field("timestamp", "long"), field("candidates", {"type": "array", "items": candidate})]}
emit_text("nested_writer", json.dumps(nested))
emit_bytes("nested_frame", frame(nested, {
    "history": [{"timestamp": 1, "kind": "remove", "item_id": "a", "weight": 1.0, "value": 4},
                {"timestamp": 2, "kind": "wish", "item_id": "b", "weight": 1.0, "value": 5}],
    "request_id": "r", "user_id": "u", "timestamp": 3,
    "candidates": [{"rank": i, "item_id": f"c{i}"} for i in range(3)]}))

# A type of the test's own, with defaults and aliases that ours do not have.

emit_text("probe_reader", json.dumps({
    "type": "record", "name": "test.Probe", "aliases": ["Sonde"], "fields": [
        field("name", "string", aliases=["label", "title"]), field("count", "long", default=-3),
        field("ratio", "double", default=0.5), field("on", "boolean", default=True),
        field("mode", {"type": "enum", "name": "Mode", "symbols": ["SLOW", "FAST"]}, default="FAST"),
        field("word", "string", default="so"), field("level", "int", default=7),
        field("numbers", {"type": "array", "items": "double"}, default=[1, 2.5]),
        field("tags", {"type": "map", "values": "string"}, default={"a": "b"}),
        field("title", ["null", "string"], default=None)]}))
sonde = {"type": "record", "name": "other.Sonde", "fields": [field("label", "string")]}
emit_text("sonde_writer", json.dumps(sonde))
emit_bytes("sonde_bytes", encode(sonde, {"label": "depth"}))
titled = {"type": "record", "name": "test.Probe", "fields": [
    field("title", "string"), field("label", "string"), field("level", "int")]}
emit_text("titled_writer", json.dumps(titled))
emit_bytes("titled_bytes", encode(titled, {"title": "T", "label": "L", "level": -9}))
modal = {"type": "record", "name": "test.Probe", "fields": [
    field("name", "string"), field("mode", {"type": "enum", "name": "Mode", "symbols": ["WARP"]})]}
emit_text("modal_writer", json.dumps(modal))
emit_bytes("modal_bytes", encode(modal, {"name": "n", "mode": "WARP"}))

print("/* clang-format on */\n")
print("#endif")
