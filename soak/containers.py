"""Lies inside of containers that stay sound: lengths and checksums are right, so the content is read."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib

from soak.mutate import mutate_bytes, mutate_json, mutate_tree


def mutate_safetensors(rng: random.Random, data: bytes) -> bytes:
    """Change what a safetensors file says of itself, in a header of the right length."""
    length = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    if rng.random() < 0.6:
        metadata = header["__metadata__"]
        key = rng.choice(list(metadata))
        metadata[key] = mutate_json(rng, metadata[key].encode()).decode("utf-8", "replace")
    else:
        header = mutate_tree(rng, header)
    text = json.dumps(header).encode()
    if rng.random() < 0.3:
        body = mutate_bytes(rng, body)
    return struct.pack("<Q", len(text)) + text + body


def mutate_numbers(rng: random.Random, data: bytes) -> bytes:
    """Put numbers that are none among the weights of a safetensors file."""
    first = 8 + struct.unpack("<Q", data[:8])[0]
    result = bytearray(data)
    for _ in range(rng.choice((1, 100))):
        place = rng.randrange(first, len(data) - 4) & ~3
        result[place : place + 4] = struct.pack(
            "<f", rng.choice((float("nan"), float("inf"), 3e38, -1.0, 0.0))
        )
    return bytes(result)


def mutate_zip(rng: random.Random, data: bytes) -> bytes:
    """Damage an entry of an archive, or the list of entries, with checksums that are right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    how = rng.randrange(5)
    place = rng.randrange(len(entries))
    name, content = entries[place]
    if how < 3:
        pickled = [i for i, (name, _) in enumerate(entries) if name.endswith("data.pkl")]
        place = rng.choice(pickled) if pickled and rng.random() < 0.7 else place
        name, content = entries[place]
        entries[place] = (name, mutate_bytes(rng, content))
    elif how == 3:
        del entries[place]
    else:
        entries.append((rng.choice((name + "x", "../" + name, "constants.pkl", "archive/data.pkl")), content))
    stream = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, kind)
    return stream.getvalue()


def mutate_png(rng: random.Random, data: bytes) -> bytes:
    """Damage, repeat, remove or swap chunks of a PNG, with checksums that are right."""
    chunks, place = [], 8
    while place + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        chunks.append((kind, data[place + 8 : place + 8 + length]))
        place += 12 + length
    at = rng.randrange(len(chunks))
    kind, content = chunks[at]
    how = rng.randrange(5)
    if how < 2:
        chunks[at] = (kind, mutate_bytes(rng, content))
    elif how == 2:
        del chunks[at]
    elif how == 3:
        chunks.insert(
            rng.randint(0, len(chunks)), (rng.choice((kind, b"tEXt", b"iCCP", b"eXIf", b"acTL")), content)
        )
    else:
        rng.shuffle(chunks)
    written = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return data[:8] + b"".join(written)


def mutate_inside(rng: random.Random, data: bytes) -> bytes:
    """Damage an archive, a PNG or a JSON file from inside, and any other file anywhere."""
    kinds = {b"PK": mutate_zip, b"\x89P": mutate_png, b"{": mutate_json}
    inside = [mutate for start, mutate in kinds.items() if data.startswith(start)]
    return (inside or [mutate_bytes])[0](rng, data)
