"""Damage to the bytes of a file, by its format: ``mutate(kind, content, random)``, the same for the same ``random``."""

import io
import json
import lzma
import re
import struct
import zipfile
import zlib

import numpy as np

INTEGERS = (
    0,
    1,
    -1,
    2,
    255,
    256,
    46341,
    2**16,
    2**20,
    2**31 - 1,
    2**31,
    2**32 - 1,
    -(2**31),
    2**63 - 1,
    10**30,
)
NUMBERS = (
    "0",
    "-1",
    "1e-45",
    "1e38",
    "1e39",
    "-1e30",
    "1e20",
    "nan",
    "inf",
    "-inf",
    "0.5",
    "",
    "x",
    "\u0661",
    "1_0",
    *map(str, INTEGERS),
)
PAGE = 4096  # of an LMDB


def mutate(kind, content, random):
    """``content`` with one to three damages of a file of this ``kind``, a key of KINDS; now and then of its bytes alone."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        damage = _bytes if random.random() < 0.25 else KINDS[kind]
        try:
            content = damage(content, random)
        except Exception:  # after a first damage there may be nothing of the format left
            content = _bytes(content, random)
    return content


def _bytes(content, random):
    content = bytearray(content)
    start = random.randrange(len(content) + 1)
    length = min(random.choice((1, 1, 4, 16, 300, 5000)), len(content) - start)
    how = random.randrange(6)
    if how == 0 and content:
        at = random.randrange(len(content))
        content[at] ^= 1 << random.randrange(8)
    elif how == 1:
        content[start : start + length] = bytes(length)
    elif how == 2:
        content[start : start + length] = random.randbytes(length)
    elif how == 3:
        del content[start:]
    elif how == 4:
        content[start:start] = content[start : start + length]
    else:
        content += random.choice((b"\0", b"\x0c", random.randbytes(7), bytes(content[:length])))
    return bytes(content)


# ---- Protocol buffers: fields of any depth


def _protobuf(content, random, depth=0):
    fields = _fields(content)
    if not fields:
        return _bytes(content, random)
    index = random.randrange(len(fields))
    number, wire, value = fields[index]
    how = random.randrange(5)
    if wire == 2 and value and how < 3 and depth < 6:
        fields[index] = number, wire, _protobuf(value, random, depth + 1)
    elif how == 3:
        del fields[index]
    elif how == 4:
        fields.insert(random.randrange(len(fields) + 1), fields[index])
    elif wire == 0:
        fields[index] = number, wire, random.choice(INTEGERS) % 2**64
    elif wire == 5:
        fields[index] = (
            number,
            wire,
            struct.pack("<f", random.choice((np.nan, np.inf, -1e38, 1e20, 1e6, 0))),
        )
    else:
        fields[index] = number, random.choice((0, 1, 2, 3, 4, 5, 6)), value
    return b"".join(map(_field, fields))


def _fields(content):
    """(number, wire type, value) of each field; empty where it is no message."""
    fields, at = [], 0
    try:
        while at < len(content):
            tag, at = _varint(content, at)
            size = None
            if tag & 7 == 0:
                value, at = _varint(content, at)
            else:
                if tag & 7 == 2:
                    size, at = _varint(content, at)
                value, at = _slice(content, at, {1: 8, 2: size, 5: 4}[tag & 7])
            fields.append((tag >> 3, tag & 7, value))
    except (IndexError, KeyError):
        return []
    return fields


def _slice(content, at, size):
    if at + size > len(content):
        raise IndexError
    return content[at : at + size], at + size


def _varint(content, at):
    value = shift = 0
    while True:
        byte = content[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at


def _field(field):
    number, wire, value = field
    body = (
        _packed(value)
        if isinstance(value, int)
        else value
        if wire != 2
        else _packed(len(value)) + value
    )
    return _packed(number << 3 | wire) + body


def _packed(value):
    content = bytearray()
    while value > 127:
        content.append(value & 127 | 128)
        value >>= 7
    return bytes([*content, value])


# ---- Archives of arrays, of files


def _npz(content, random):
    arrays = dict(np.load(io.BytesIO(content)))
    name = random.choice(list(arrays))
    how, array = random.randrange(6), arrays[name]
    if how == 0:
        del arrays[name]
    elif how == 1:
        arrays[name] = (
            array.astype(
                random.choice((complex, bool, str, "S5", "f2", "f8", "M8[s]", "V3")),
                casting="unsafe",
            )
            if array.dtype.kind in "fi"
            else np.array(random.choice(("", "{}", "[" * 9999, '{"warmup_iter": null}')))
        )
    elif how == 2 and array.dtype.kind == "f" and array.size:
        array = array.copy()
        array.flat[random.randrange(array.size)] = random.choice((np.nan, np.inf, 1e38, -1e20, 1e6))
        arrays[name] = array
    elif how == 3:
        arrays[name] = array[..., :-1] if array.ndim else array.reshape(1)
    elif how == 4 and array.dtype.kind == "U":
        arrays[name] = np.array(_json(str(array).encode(), random).decode(errors="replace"))
    else:
        return _zip(content, random)
    written = io.BytesIO()
    random.choice((np.savez, np.savez_compressed))(written, **arrays)
    return written.getvalue()


def _zip(content, random):
    """Members packed in another way, and one with other bytes; checksums fit."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice(list(members))
    members[name] = (
        members[name].replace(b"(", random.choice((b"(99999999999, ", b"(-1, ", b"((", b"")), 1)
        if random.random() < 0.5
        else _bytes(members[name], random)
    )
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", random.choice((0, 8, 12, 14))) as archive:
        for each, data in members.items():
            archive.writestr(each, data)
    return written.getvalue()


def _tar(content, random):
    """A header's field, with the checksum mended."""
    content = bytearray(content)
    headers = [
        at for at in range(0, len(content) - 511, 512) if content[at + 257 : at + 262] == b"ustar"
    ]
    if not headers:
        return _bytes(bytes(content), random)
    at = random.choice(headers)
    name, mode, size, kind = (0, 100), (100, 108), (124, 136), (156, 157)
    field = random.choice((name, mode, size, kind, (157, 257), (265, 297)))
    width = field[1] - field[0]
    value = random.choice(
        (
            b"",
            b"7" * (width - 1),
            b"../" * 33,
            b"/etc/x",
            b"\x80" + b"\x7f" * 11,
            random.randbytes(width),
            bytes([random.choice(b"0123456LKxgS")]),
        )
    )
    content[at + field[0] : at + field[1]] = value[:width].ljust(width, b"\0")
    content[at + 148 : at + 156] = b" " * 8
    content[at + 148 : at + 156] = b"%06o\0 " % sum(content[at : at + 512])
    return bytes(content)


def _xz(content, random):
    return lzma.compress(_tar(lzma.decompress(content), random), preset=0)


# ---- A database, an image


def _lmdb(content, random):
    content = bytearray(content)
    pages = len(content) // PAGE
    page = random.choice((0, 1, random.randrange(pages), random.randrange(pages))) * PAGE
    how = random.randrange(4)
    if how == 0:
        content[page : page + PAGE] = bytes(PAGE)
    elif how == 1:
        other = random.randrange(pages) * PAGE
        content[page : page + PAGE] = content[other : other + PAGE]
    elif how == 2:  # its header: number, flags, free space, or pointers behind
        at = page + random.choice((0, 8, 10, 12, 14, 16, 18, 24, 40, 64))
        content[at : at + 2] = random.choice((b"\0\0", b"\xff\xff", random.randbytes(2)))
    else:
        del content[page:]
    return bytes(content)


def _hdf5(content, random):
    """A number of what describes the arrays, which stands before them: an offset, a size, a version."""
    content = bytearray(content)
    at = random.randrange(min(len(content), 6000)) & random.choice((-1, -8))
    width = random.choice((1, 2, 4, 8))
    content[at : at + width] = (random.choice(INTEGERS) % 2 ** (8 * width)).to_bytes(
        width, "little"
    )
    return bytes(content)


def _png(content, random):
    """A chunk, with its checksum mended most of the time."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        (size,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    if not chunks:
        return _bytes(content, random)
    index = random.randrange(len(chunks))
    name, body = chunks[index]
    how = random.randrange(4)
    if how == 0:
        del chunks[index]
    elif how == 1:
        chunks.insert(index, chunks[index])
    elif how == 2 and name == b"IHDR":
        chunks[index] = (
            name,
            struct.pack(">II", *(random.choice((0, 1, 33, 70_000, 2**31)) for _ in range(2)))
            + body[8:],
        )
    else:
        chunks[index] = name, _bytes(body, random)
    mended = random.random() < 0.8
    return content[:8] + b"".join(
        struct.pack(">I", len(body))
        + name
        + body
        + struct.pack(">I", zlib.crc32(name + body) if mended else 0)
        for name, body in chunks
    )


# ---- Texts


def _prototxt(content, random):
    """A number, a word or a line."""
    return _text(content, random, rb"(?<=: )[^\s{}]+")


def _json(content, random):
    try:
        whole = json.loads(content)
    except ValueError:
        return _text(content, random, rb"[^\s,:]+")
    path, inner = [], whole
    while isinstance(inner, (dict, list)) and inner:
        key = (
            random.choice(list(inner)) if isinstance(inner, dict) else random.randrange(len(inner))
        )
        path.append((inner, key))
        inner = inner[key]
        if random.random() < 0.2:
            break
    if path:
        within, key = path[-1]
        if random.random() < 0.2:
            del within[key]
        else:
            within[key] = random.choice(
                (None, True, "", "x\n\u2028", -1, 1.5, 1e400, 10**30, [], {}, [[]], 2**63)
            )
    return json.dumps(whole).encode()


def _csv(content, random):
    return _text(content, random, rb"[^,\r\n]+")


def _text(content, random, token):
    lines = content.splitlines(keepends=True)
    found = list(re.finditer(token, content))
    how = random.randrange(5)
    if how < 3 and found:
        match = random.choice(found)
        value = random.choice(
            (*NUMBERS, '"' + "n" * 3000 + '"', '"$\\\\frac{$"', '"../../x"')
        ).encode()
        return content[: match.start()] + value + content[match.end() :]
    if lines:
        index = random.randrange(len(lines))
        if how == 3:
            del lines[index]
        else:
            lines.insert(random.randrange(len(lines)), lines[index])
    return b"".join(lines)


KINDS = {
    "protobuf": _protobuf,
    "npz": _npz,
    "zip": _zip,
    "tar": _tar,
    "tar.xz": _xz,
    "lmdb": _lmdb,
    "leveldb": _bytes,
    "hdf5": _hdf5,
    "png": _png,
    "csv": _csv,
    "prototxt": _prototxt,
    "json": _json,
}
