"""Files that are no checkpoints any more, or never were; some of them with a right digest."""

import hashlib
import json
import re
import struct

import numpy as np


ZEROS = b"0" * 64
DIGEST = re.compile(rb'(?<=sha256\\":\\")[0-9a-f]{64}(?=\\")')
DEEP = 100_000


def sealed(content):
    """The same bytes with the digest that belongs to them, where one stands."""
    if not DIGEST.search(content):
        return content
    cleared = DIGEST.sub(ZEROS, content, count=1)
    return DIGEST.sub(hashlib.sha256(cleared).hexdigest().encode(), cleared, count=1)


def parts(content):
    """The header of a file, the facts in it, and its data."""
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    facts = json.loads(header.pop("__metadata__")["neuron"])
    return header, facts, content[8 + length :]


def file_of(header, data):
    """A file with that header, whatever it says, given as bytes."""
    return sealed(struct.pack("<Q", len(header)) + header + data)


def joined(header, facts, data):
    """The inverse of `parts`; `facts` may be their text."""
    text = facts if isinstance(facts, str) else json.dumps(facts, separators=(",", ":"))
    whole = {"__metadata__": {"neuron": text}, **header}
    return file_of(json.dumps(whole, separators=(",", ":")).encode(), data)


VALUES = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 0.5, 1e308, 10**30, "", "x", "x" * 999),
    *([], {}, [[]], [None], {"a": 1}, "NaN", "\ud800", [0, 0], [0, 2**63], [-1], [3], [2**40, 2**40]),
    *("F32", "I64", "U8", "BOOL", "C64", "F8_E8M0", "threefry2x32", "rbg"),
    *({"$": kind, "is": value} for kind in ("float", "bytes", "array", "other", None, []) for value in ("nan", "x", 3, [], {}, None)),
    *({"$": "array"}, {"$": "float", "is": "1" * 5000}, {"$": {}}),
]  # fmt: skip


def places(tree, path=()):
    """Every place of a tree of dicts and lists."""
    yield path
    inner = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in inner:
        yield from places(value, (*path, key))


def changed(tree, draws):
    """The tree with something else at one of its places, and what that was."""
    tree = json.loads(json.dumps(tree))
    path = draws.choice([path for path in places(tree) if path] or [()])
    if not path:
        return tree, "nothing"
    node = tree
    for key in path[:-1]:
        node = node[key]
    act = draws.choice(("remove", "value", "value", "value", "rename", "swap"))
    if act == "remove":
        del node[path[-1]]
    elif act == "rename" and isinstance(node, dict):
        node[draws.choice(("x", "", "step", "state.step", "numbers"))] = node.pop(path[-1])
    elif act == "swap":
        other = draws.choice(list(node) if isinstance(node, dict) else range(len(node)))
        node[path[-1]], node[other] = node[other], node[path[-1]]
    else:
        node[path[-1]] = draws.choice(VALUES)
    return tree, (act, path)


def random_one(content, draws):
    """One mutation, and what it is called."""
    kind = draws.choice(
        ("bits", "bytes", "cut", "more", "swap", "sealed", "header", "facts", "both")
    )
    if kind == "cut":
        return content[: draws.randrange(len(content))], kind
    if kind == "more":
        at = draws.choice((len(content), draws.randrange(len(content))))
        return content[:at] + draws.randbytes(draws.randrange(1, 99)) + content[at:], kind
    if kind == "swap":
        a, b, c, d = sorted(draws.randrange(len(content) + 1) for _ in range(4))
        return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:], kind
    if kind in ("bits", "bytes", "sealed"):
        made = bytearray(content)
        # A header's own bytes are looked at first, and more often here.
        length = min(len(content), draws.choice((80, 2000, len(content))))
        for _ in range(draws.choice((1, 1, 2, 8))):
            at = draws.randrange(length)
            made[at] = (
                made[at] ^ 1 << draws.randrange(8) if kind != "bytes" else draws.randrange(256)
            )
        return (sealed(bytes(made)) if kind == "sealed" else bytes(made)), kind
    header, facts, data = parts(content)
    what = []
    for _ in range(draws.choice((1, 1, 2, 3))):
        if kind in ("header", "both"):
            header, how = changed(header, draws)
            what.append(how)
        if kind in ("facts", "both") and facts:
            facts, how = changed(facts, draws)
            what.append(how)
    facts.setdefault("sha256", ZEROS.decode())
    return joined(header, facts, data), (kind, what)


def hostile(content):
    """Files that somebody has made on purpose, by what is wrong; each has a right digest where it
    has one at all."""
    header, facts, data = parts(content)
    name = next(iter(header))
    with_tensor = lambda **new: joined({**header, name: {**header[name], **new}}, facts, data)
    text = json.dumps(facts, separators=(",", ":"))
    with_fact = lambda more: joined(header, text[:-1] + more + "}", data)
    raw = joined(header, facts, data)
    length = struct.unpack("<Q", raw[:8])[0]
    start, rest = raw[8 : 8 + length], raw[8 + length :]
    nested = "[" * DEEP + "]" * DEEP
    yield "a length of 0", bytes(8) + raw[8:]
    for bits in (31, 32, 62, 63):
        yield f"a length of 2^{bits}", struct.pack("<Q", 2**bits) + raw[8:]
    yield "a length of all ones", b"\xff" * 8 + raw[8:]
    for offsets in (
        [-1, 3],
        [0, -1],
        [0, 2**63],
        [2**63, 2**64],
        [0, 2**64 + 4],
        [4, 0],
        [0, 1],
        "x",
        [0],
        [],
    ):
        yield f"offsets {offsets}", with_tensor(data_offsets=offsets)
    for shape in (
        [-1],
        [2**63],
        [2**32, 2**32],
        [2**64],
        [0, 2**63],
        [[]],
        "x",
        None,
        [1] * 1000,
        [1.5],
    ):
        yield f"shape {str(shape)[:40]}", with_tensor(shape=shape)
    for kind in ("F4", "F8_E8M0", "O", "float32", "", None, 3, [], "F6_E2M3"):
        yield f"type {kind}", with_tensor(dtype=kind)
    yield (
        "a name twice",
        file_of(
            start[:-1] + b',"%s":%s}' % (name.encode(), json.dumps(header[name]).encode()), rest
        ),
    )
    yield "metadata twice", file_of(start[:-1] + b',"__metadata__":{}}', rest)
    yield "a fact twice", with_fact(',"kind":"model"')
    yield "two digests", with_fact(f',"x":{{"sha256":"{"1" * 64}"}}')
    yield "a constant", with_fact(',"x":NaN')
    yield "an infinity", with_fact(',"x":1e999')
    yield "a number of 10^5 digits", with_fact(f',"x":{"1" * DEEP}')
    yield "a list that is nested", with_fact(f',"x":{nested}')
    yield "dicts that are nested", with_fact(',"x":' + '{"a":' * DEEP + "1" + "}" * DEEP)
    yield (
        "numbers that are nested",
        joined(header, text.replace('"numbers":{', f'"numbers":{{"x":{nested},', 1), data),
    )
    middle = "[" * 900 + "]" * 900
    yield (
        "a list as deep as Python goes",
        with_fact(f',"history":{middle}'.replace("history", "x")),
    )
    for fact in ("history", "callbacks", "position", "numbers"):
        yield (
            f"{fact} as deep as Python goes",
            joined(
                header,
                re.sub(
                    rf'"{fact}":(\{{\}}|null|\{{)',
                    lambda m, f=fact: f'"{f}":{middle}' + (',"y":{' if m[1] == "{" else ""),
                    text,
                    count=1,
                ),
                data,
            ),
        )
    yield (
        "a header that is nested",
        file_of(b'{"__metadata__":' + nested.encode() + b"}" + start, rest),
    )
    yield (
        "a header that is nested behind",
        file_of(start[:-1] + b',"x":' + nested.encode() + b"}", rest),
    )
    yield "no facts", joined(header, {"sha256": ZEROS.decode()}, data)
    yield (
        "facts that are a list",
        joined(header, json.dumps([{"sha256": ZEROS.decode()}], separators=(",", ":")), data),
    )
    for version in (0, 2, "1", None, [], {}, 10**30):
        yield f"format {version}", joined(header, {**facts, "format": version}, data)
    yield "a lone surrogate", with_fact(',"x":"\\ud800"')
    yield "a byte that is no UTF-8", file_of(start.replace(b"neuron", b"neur\xffn", 1), rest)
    yield (
        "a gap",
        joined(
            {
                n: {**t, "data_offsets": [o + 8 for o in t["data_offsets"]]}
                for n, t in header.items()
            },
            facts,
            bytes(8) + data,
        ),
    )
    yield "data behind", joined(header, facts, data + b"x")
    yield "one byte less", joined(header, facts, data[:-1])
    yield (
        "another key beside",
        file_of(start.replace(b'{"neuron":', b'{"other":"x","neuron":', 1), rest),
    )
    yield (
        "a list in the place of metadata",
        file_of(
            start.replace(b'"__metadata__":{', b'"__metadata__":[{', 1).replace(b'"}', b'"}]', 1),
            rest,
        ),
    )
    yield (
        "many digests",
        file_of(
            b'{"x":"'
            + b'\\"sha256\\":\\"'
            + b"0" * 64
            + b'\\"' * 1
            + b'\\"sha256\\":\\"%s\\"' % ZEROS * 9999
            + b'"}',
            b"",
        ),
    )
    yield "many lists", with_fact(',"x":[' + ",".join(["[]"] * 300_000) + "]")
    yield "many dicts", with_fact(',"x":[' + ",".join(["{}"] * 300_000) + "]")
    yield "many names", with_fact("," + ",".join(f'"{n:x}":0' for n in range(100_000)))
    yield (
        "many arrays",
        joined(
            {
                **header,
                **{
                    f"{n:x}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
                    for n in range(20_000)
                },
            },
            facts,
            data,
        ),
    )


def of_other_formats(folder):
    """What other programs write, by name."""
    import io
    import pickle
    import zipfile

    import equinox as eqx
    import safetensors.numpy

    class Runs:
        def __reduce__(self):
            return print, ("code of a file was run",)

    out = io.BytesIO()
    np.savez(out, weight=np.arange(3.0))
    yield "npz", out.getvalue()
    out = io.BytesIO()
    np.save(out, np.array([Runs()], dtype=object), allow_pickle=True)
    yield "npy with a pickle", out.getvalue()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield f"pickle {protocol}", pickle.dumps(Runs(), protocol)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("archive/data.pkl", pickle.dumps(Runs()))
    yield "zip, as of torch", out.getvalue()
    out = io.BytesIO()
    eqx.tree_serialise_leaves(out, {"weight": np.arange(3.0)})
    yield "leaves of equinox", out.getvalue()
    yield "safetensors of others", safetensors.numpy.save({"weight": np.arange(3.0)})
    yield (
        "safetensors of others, with metadata",
        safetensors.numpy.save({"weight": np.arange(3.0)}, {"neuron": "{}"}),
    )
    yield "nothing", b""
    yield "a byte", b"{"
    yield "zeros", bytes(4096)
    yield "text", b"step,loss\n1,0.5\n" * 100
    yield "JSON", json.dumps({"neuron": {"sha256": "0" * 64}}).encode()
    yield "HDF5", b"\x89HDF\r\n\x1a\n" + bytes(2048)
    yield "PNG", b"\x89PNG\r\n\x1a\n" + bytes(99)
    yield "gzip", b"\x1f\x8b\x08" + bytes(99)
    yield "Python", b"import os\nos._exit(1)\n"
