"""Makes evolution.json: what fastavro, an implementation that is not ours, reads with our schemas (or with such of ours
as have aliases) of what writers with other schemas wrote.

    python3 make_evolution.py        (needs: pip install fastavro; made with 1.13.1)

A case is a writer's schema, the reader's (null: ours as it stands in schemas/), the bytes, and the record that fastavro
makes of them, or null where it refuses.
"""

import copy
import datetime
import io
import json
import pathlib
import random

import fastavro

HERE = pathlib.Path(__file__).resolve().parent
NAMES = ["Interaction", "Item", "User", "ScoreRequest", "ScoreResponse"]
OURS = {name: json.loads((HERE / f"../../schemas/{name}.avsc").read_text()) for name in NAMES}
cases = []


def bare(schema):
    """Without what neither bytes nor reading depend on."""
    if isinstance(schema, list):
        return [bare(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key != "doc"}
    if "fields" in kept:
        kept["fields"] = [bare(field) for field in kept["fields"]]
    for key in ("type", "items", "values"):
        if key in kept:
            kept[key] = bare(kept[key])
    return kept


def some_value(schema, chance, named):
    """Any value of a schema."""
    if isinstance(schema, list):
        return some_value(chance.choice(schema), chance, named)
    kind = schema if isinstance(schema, str) else schema["type"]
    if isinstance(kind, (dict, list)):
        return some_value(kind, chance, named)
    if kind in ("record", "enum", "fixed"):
        named[schema["name"].split(".")[-1]] = schema
    if kind.split(".")[-1] in named and not isinstance(schema, dict):
        return some_value(named[kind.split(".")[-1]], chance, named)
    count = chance.randrange(4)
    if kind == "record":
        return {field["name"]: some_value(field["type"], chance, named) for field in schema["fields"]}
    return {
        "null": lambda: None,
        "boolean": lambda: chance.random() < 0.5,
        "int": lambda: chance.choice([0, -1, 2**31 - 1, chance.randrange(-1000, 1000)]),
        "long": lambda: chance.choice([0, 2**40 + 1, chance.randrange(2**31)]),
        "float": lambda: chance.randrange(-64, 64) / 8,
        "double": lambda: chance.choice([chance.random(), chance.randrange(-64, 64) / 8]),
        "bytes": lambda: chance.choice([b"", b"raw", "\u00fc".encode()]),
        "string": lambda: chance.choice(["", "a", "\u00fcber", "x" * 40]),
        "enum": lambda: chance.choice(schema["symbols"]),
        "fixed": lambda: chance.randbytes(schema["size"]),
        "array": lambda: [some_value(schema["items"], chance, named) for _ in range(count)],
        "map": lambda: {f"k{i}": some_value(schema["values"], chance, named) for i in range(count)},
    }[kind]()


def plain(value):
    """As JSON has it."""
    if isinstance(value, datetime.datetime):
        return round(value.timestamp() * 1000)
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def parsed(schema):
    return fastavro.parse_schema(copy.deepcopy(schema))


def read(name, writer, reader, data):
    try:
        return plain(fastavro.schemaless_reader(io.BytesIO(data), parsed(writer), parsed(reader or OURS[name])))
    except (fastavro.read.SchemaResolutionError, ValueError):
        return None


def add(title, name, writer, reader=None, value=None):
    chance = random.Random(f"{title} {name}")
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parsed(writer), some_value(writer, chance, {}) if value is None else value)
    cases.append({"case": f"{name}: {title}", "type": name, "writer": json.dumps(writer),
                  "reader": json.dumps(reader) if reader else None, "bytes": out.getvalue().hex(),
                  "record": read(name, writer, reader, out.getvalue())})


def records(schema):
    """Every record in a schema, the outermost first."""
    if isinstance(schema, list):
        return [record for branch in schema for record in records(branch)]
    if not isinstance(schema, dict):
        return []
    inner = [record for field in schema.get("fields", []) for record in records(field["type"])]
    inner += [record for key in ("type", "items", "values") for record in records(schema.get(key))]
    return ([schema] if schema.get("type") == "record" else []) + inner


def changed(name, change):
    """Our schema with `change` made to each of its records; None where it changed nothing."""
    schema = bare(OURS[name])
    before = json.dumps(schema)
    for record in records(schema):
        change(record)
    return schema if json.dumps(schema) != before else None


def defaults_only(record):
    record["fields"] = [field for field in record["fields"] if "default" not in field]


def reverse(record):
    if not any(isinstance(field["type"], str) and "." in field["type"] for field in record["fields"]):
        record["fields"].reverse()  # else a type would be named before it is defined


def widen(record):
    kinds = ["null", "boolean", "int", "long", "float", "double", "bytes", "string",
             {"type": "fixed", "name": f"{record['name']}Hash", "size": 5},
             {"type": "enum", "name": f"{record['name']}Color", "symbols": ["RED", "BLUE"]},
             {"type": "array", "items": {"type": "array", "items": "int"}}, {"type": "map", "values": ["null", "string"]},
             {"type": "record", "name": f"{record['name']}More", "fields": [{"name": "a", "type": "long"}]},
             ["null", f"{record['name']}More"]]
    fields = record["fields"]
    for place, kind in enumerate(kinds):
        fields.insert(place * 2, {"name": f"more_{place}", "type": kind})


def retype(change):
    """Changes the type of each field whose type, or the one beside null, is a plain one."""
    def apply(record):
        for field in record["fields"]:
            kind = field["type"]
            inner = kind["type"] if isinstance(kind, dict) else kind
            if isinstance(inner, list):
                field["type"] = [change.get(branch, branch) if isinstance(branch, str) else branch for branch in inner]
            elif isinstance(inner, str) and inner in change:
                field["type"] = change[inner]
            field.pop("default", None)
    return apply


def nullable(record):
    for field in record["fields"]:
        if not isinstance(field["type"], list):
            field["type"] = [field["type"], "null"]
        field.pop("default", None)


def swap(record):
    for field in record["fields"]:
        if isinstance(field["type"], list):
            field["type"] = field["type"][::-1]
        field.pop("default", None)


def never_null(record):
    for field in record["fields"]:
        if isinstance(field["type"], list):
            field["type"] = field["type"][1]
        field.pop("default", None)


def wide_unions(record):
    for field in record["fields"]:
        if field["type"] in ("string", "double", "long"):
            field["type"] = ["boolean", field["type"], {"type": "array", "items": "int"}]


def all_enums(change):
    def apply(record):
        for field in record["fields"]:
            if isinstance(field["type"], dict) and field["type"].get("type") == "enum":
                change(field["type"])
    return apply


def renamed(name):
    """A writer whose fields have old names, and our reader with these as aliases."""
    writer, reader = bare(OURS[name]), bare(OURS[name])
    for old, new in zip(records(writer), records(reader)):
        for was, now in zip(old["fields"], new["fields"]):
            now["aliases"] = [f"nobody_{was['name']}", f"old_{was['name']}"]
            was["name"] = f"old_{was['name']}"
    return writer, reader


for name in NAMES:
    add("as it is", name, bare(OURS[name]))
    add("as it is, other values", name, bare(OURS[name]), value=some_value(OURS[name], random.Random(7), {}))
    transformations = {
        "fields with a default are absent": defaults_only,
        "fields in reverse": reverse,
        "more fields of every type": widen,
        "int for long, float for double, bytes for string": retype({"long": "int", "double": "float", "string": "bytes"}),
        "int for double": retype({"double": "int"}),
        "long for double": retype({"double": "long"}),
        "everything may be null": nullable,
        "unions the other way round": swap,
        "unions without null": never_null,
        "unions with other types": wide_unions,
        "symbols in reverse": all_enums(lambda enum: enum.update(symbols=enum["symbols"][::-1])),
        "newer symbols": all_enums(lambda enum: enum.update(symbols=["newer", *enum["symbols"], "newest"])),
        "newer symbols only": all_enums(lambda enum: (enum.update(symbols=["newer", "newest"]), enum.pop("default", None))),
        "string for long": retype({"long": "string"}),
        "long for string": retype({"string": "long"}),
        "double for long": retype({"long": "double"}),
    }
    for title, change in transformations.items():
        schema = changed(name, change)
        if schema is not None:
            for variant in range(3 if "union" in title or "null" in title or "symbols" in title else 1):
                add(f"{title}, {variant}" if variant else title, name, schema)
    writer, reader = renamed(name)
    add("old names, which are aliases", name, writer, reader)
    add("old names, which nobody knows", name, writer)
    for place in range(len(OURS[name]["fields"])):
        schema = bare(OURS[name])
        gone = schema["fields"].pop(place)
        if f'"{gone["type"]}"' not in json.dumps(schema) and not isinstance(gone["type"], dict):
            add(f"without {gone['name']}", name, schema)

(HERE / "evolution.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
refused = sum(case["record"] is None for case in cases)
print(f"{len(cases)} cases, of which fastavro refuses {refused}")
