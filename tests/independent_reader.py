#!/usr/bin/env python3
"""A second reader of kluis repositories, written from docs/format.md alone. It shares no code with the program.

    independent_reader.py REPOSITORY (--key-file FILE | --passphrase TEXT) [--extract FOLDER] [--check]

Lists the files of the latest snapshot, one JSON document a line. --extract writes their contents below FOLDER.
--check recomputes all that is redundant: names, parity, cut points, places where nodes end.
Needs the packages blake3, cryptography and zstandard.
"""

import argparse
import hmac
import json
import pathlib
import struct
import sys

import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HEADER_LEN, TAG_LEN, TAIL_LEN = 112, 16, 48
DATA_PACK, META_PACK, INDEX, SNAPSHOT, TOMBSTONE, FORGET, KEYRING = 1, 2, 3, 4, 5, 7, 12
FRAME_MAX = 16 << 20


def refuse_unless(rule_holds, message):
    if not rule_holds:
        raise ValueError(message)


def derive(context, material, length=32):
    return blake3(material, derive_key_context="kluis 2026 v1 " + context).digest(length)


def keyed(key, message):
    return blake3(message, key=key).digest()


# Basics ---------------------------------------------------------------------------------------------------------------


class Wire:
    """Reads the wire format of postcard."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        refuse_unless(self.at + count <= len(self.data), "the bytes end early")
        part = self.data[self.at : self.at + count]
        self.at += count
        return part

    def u8(self):
        return self.take(1)[0]

    def flag(self):
        value = self.u8()
        refuse_unless(value <= 1, "neither true nor false")
        return value == 1

    def varint(self):
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                refuse_unless(value < 1 << 64, "a number is too large")
                return value
            shift += 7
            refuse_unless(shift < 70, "a number is too long")

    def signed(self):
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def bytes(self):
        return self.take(self.varint())

    def text(self):
        return self.bytes().decode("utf-8")

    def list(self, read):
        return [read() for _ in range(self.varint())]

    def optional(self, read):
        return read() if self.flag() else None

    def moment(self):
        seconds, nanoseconds = self.signed(), self.varint()
        refuse_unless(nanoseconds < 10**9, "too many nanoseconds")
        return seconds, nanoseconds

    def extension(self):
        return self.varint(), self.bytes()

    def end(self):
        refuse_unless(self.at == len(self.data), "bytes are left over")


def read_all(data, read):
    wire = Wire(data)
    value = read(wire)
    wire.end()
    return value


# Containers -----------------------------------------------------------------------------------------------------------


class Header:
    def __init__(self, data):
        refuse_unless(len(data) >= HEADER_LEN, "a header ends early")
        fields = struct.unpack("<8sHBBHBB16sIIQ32s32s", data[:HEADER_LEN])
        magic, version, self.kind, suite, header_len, self.wrap, flags = fields[:7]
        self.repository, self.generation, zero, self.payload_len, self.salt, self.commitment = fields[7:]
        refuse_unless(magic == b"\x89KLU\r\n\x1a\n" and version == 1 and suite == 1, "this is no container")
        refuse_unless(header_len == HEADER_LEN and flags < 0x80 and zero == 0, "this header is not understood")
        self.derived = data[: HEADER_LEN - 32]


def derived_header(kind, wrap, flags, repository, generation, payload_len, salt):
    head = struct.pack("<8sHBBHBB", b"\x89KLU\r\n\x1a\n", 1, kind, 1, HEADER_LEN, wrap, flags)
    return head + repository + struct.pack("<IIQ", generation, 0, payload_len) + salt


class ObjectKeys:
    def __init__(self, secret, derived):
        keys = derive("object", secret + derived, 96)
        self.message, self.directory, self.commitment = AESGCM(keys[:32]), AESGCM(keys[32:64]), keys[64:]


def open_message(key, position, additional, sealed):
    return key.decrypt(bytes(4) + struct.pack(">Q", position), bytes(sealed), bytes(additional) or None)


# The repository -------------------------------------------------------------------------------------------------------


def read_key_file(text):
    squeezed = "".join(text.split()).replace("-", "").lower()
    refuse_unless(squeezed.startswith("kluiskey1") and "check" in squeezed, "this is no key file")
    secret, check = squeezed[len("kluiskey1") :].split("check")
    secret = bytes.fromhex(secret)
    refuse_unless(len(secret) == 32, "a key file holds 32 bytes")
    refuse_unless(derive("key file checksum", secret)[:4].hex() == check, "a digit of the key file is wrong")
    return secret


def slot_keys(kind, salt, credential):
    if kind[0] == 1 and credential[0] == "key file":
        return derive("slot key file", credential[1] + salt, 64)
    if kind[0] == 0 and credential[0] == "passphrase":
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

        _, memory, passes, lanes = kind
        allowed = 1 << 16 <= memory <= 1 << 21 and 3 <= passes <= 16 and 1 <= lanes <= 16
        refuse_unless(allowed, "these parameters are not allowed")
        stretch = Argon2id(salt=salt, length=64, iterations=passes, lanes=lanes, memory_cost=memory)
        return stretch.derive(credential[1])
    return None


def read_slot_head(wire):
    refuse_unless(wire.u8() == 1, "the version of a slot is unknown")
    slot_id, variant = wire.take(16), wire.varint()
    refuse_unless(variant <= 1, "the kind of a slot is unknown")
    kind = (0, wire.varint(), wire.varint(), wire.varint()) if variant == 0 else (1,)
    wire.moment()
    wire.text()
    return slot_id, kind, wire.take(32), wire.take(32)


class Repository:
    def __init__(self, folder, credential):
        self.folder = pathlib.Path(folder)
        number = max(int(path.name) for path in (self.folder / "config").iterdir())
        text = self.read(f"config/{number}")
        self.config = json.loads(text)
        refuse_unless(self.config["format"] == 1 and self.config["required"] == [], "this needs a newer program")
        self.id = bytes.fromhex(self.config["repository"])
        self.open_keyring(self.unlock(credential))
        tag = '"tag": "%s"'
        blank = text.replace((tag % self.config["tag"]).encode(), (tag % ("0" * 64)).encode())
        refuse_unless(keyed(self.config_key, blank).hex() == self.config["tag"], "the settings were altered")
        refuse_unless(self.config["number"] == number, "the settings have another number")
        self.pack_keys, self.frames = {}, {}
        self.read_index()

    def read(self, name):
        return (self.folder / name).read_bytes()

    def names(self, prefix):
        paths = (self.folder / prefix).rglob("*") if (self.folder / prefix).is_dir() else []
        return sorted(str(path.relative_to(self.folder)) for path in paths if path.is_file())

    def unlock(self, credential):
        for name in self.names("slot"):
            data = self.read(name)
            refuse_unless(data[:8] == b"\x89KLS\r\n\x1a\n", f"{name} is no slot")
            refuse_unless(blake3(data[:-8]).digest(8) == data[-8:], f"{name} is damaged")
            head, sealed = data[8:-56], data[-56:-8]
            _, kind, salt, commitment = read_all(head, read_slot_head)
            keys = slot_keys(kind, salt, credential)
            if keys and keys[32:] == commitment:
                return open_message(AESGCM(keys[:32]), 0, head + self.id, sealed)
        raise ValueError("no slot opens with this")

    def open_keyring(self, unlock_key):
        number = max(int(name.rsplit("/")[-1]) for name in self.names("keyring"))
        name = f"keyring/{number}"
        data = self.read(name)
        header = Header(data)
        refuse_unless(header.kind == KEYRING and header.wrap == 2, "this is no keyring")
        keyring = Wire(self.open_container(header, data, unlock_key, name))
        refuse_unless(keyring.u8() == 1 and keyring.varint() == number, "this keyring is not understood")
        master = keyring.take(32)
        generation = lambda: (keyring.varint(), (keyring.take(32), keyring.take(32)))
        self.generations = dict(keyring.list(generation))
        keyring.end()
        self.id_keys = [derive(word, master) for word in ("chunk id", "node id", "list id")]
        self.config_key, self.admin_key = derive("config", master), derive("admin", master)
        self.chunker_key, self.split_key = derive("chunker", master), derive("split", master)

    def root(self, header):
        refuse_unless(header.wrap == 0, "this wrap is not understood")
        content_root, catalogue_root = self.generations[header.generation]
        return content_root if header.kind in (DATA_PACK, META_PACK, SNAPSHOT) else catalogue_root

    def open_container(self, header, data, secret, name):
        refuse_unless(header.repository == self.id, "this belongs to another repository")
        refuse_unless(HEADER_LEN + TAG_LEN <= header.payload_len <= len(data), "this ends early")
        keys = ObjectKeys(secret, header.derived)
        refuse_unless(keys.commitment == header.commitment, "another key, or an altered header")
        return open_message(keys.message, 0, name.encode(), data[HEADER_LEN : header.payload_len])

    def open_object(self, name, kinds, additional):
        data = self.read(name)
        header = Header(data)
        refuse_unless(header.kind in kinds, f"{name} is of another kind")
        return header, self.open_container(header, data, self.root(header), additional)

    # Packs and index objects

    def read_index(self):
        self.places = {}
        described = set()
        for name in self.names("index"):
            header, plain = self.open_object(name, (INDEX,), "")
            payload = self.read(name)[: header.payload_len]
            refuse_unless(blake3(payload).hexdigest() == name.split("/")[1], f"{name} has another hash")
            for pack in read_all(plain, read_index_object):
                described.add(pack["id"])
                self.add_pack(pack)
        for name in self.names("data") + self.names("meta"):
            if bytes.fromhex(name.rsplit("/")[-1]) not in described:
                self.add_pack(self.read_directory(name))

    def add_pack(self, pack):
        name = f"{'data' if pack['kind'] == DATA_PACK else 'meta'}/{pack['id'].hex()[:2]}/{pack['id'].hex()}"
        if not (self.folder / name).exists():
            return
        offset = HEADER_LEN
        for number, frame in enumerate(pack["frames"]):
            frame = dict(frame, pack=pack, name=name, number=number, offset=offset)
            offset += frame["stored_len"] + TAG_LEN
            start = 0
            for key, _kind, length in frame["chunks"]:
                place = (frame, start, length)
                known = self.places.get(key)
                if known is None or frame["depth"] < known[0]["depth"]:
                    self.places[key] = place
                start += length

    def read_directory(self, name):
        data = self.read(name)
        header = Header(data)
        refuse_unless(header.repository == self.id, "this belongs to another repository")
        keys = ObjectKeys(self.root(header), header.derived)
        refuse_unless(keys.commitment == header.commitment, "another key, or an altered header")
        payload = data[: header.payload_len]
        tail_start = len(payload) - TAIL_LEN - TAG_LEN
        tail = open_message(keys.directory, 0, b"", payload[tail_start:])
        directory_len, frame_count, body_len, padding_len = struct.unpack("<IIQI", tail[:20])
        lengths = HEADER_LEN + body_len + padding_len + directory_len + TAG_LEN + TAIL_LEN + TAG_LEN
        refuse_unless(lengths == header.payload_len and not any(tail[20:]), f"the parts of {name} do not add up")
        start = tail_start - directory_len - TAG_LEN
        directory = Wire(open_message(keys.directory, 1, b"", payload[start:tail_start]))
        refuse_unless(directory.u8() == 1, "the version of a directory is unknown")
        frames = directory.list(lambda: read_frame_entry(directory))
        directory.end()
        refuse_unless(len(frames) == frame_count, "the tail counts other frames")
        fields = dict(id=bytes.fromhex(name.rsplit("/")[-1]), kind=header.kind, wrap=header.wrap, flags=0)
        fields.update(generation=header.generation, payload_len=header.payload_len, salt=header.salt)
        return dict(fields, frames=frames)

    def keys_of(self, pack):
        if pack["id"] not in self.pack_keys:
            parts = [pack[part] for part in ("kind", "wrap", "flags")]
            rest = [pack[part] for part in ("generation", "payload_len", "salt")]
            refuse_unless(pack["wrap"] == 0, "this wrap is not understood")
            content_root, _ = self.generations[pack["generation"]]
            self.pack_keys[pack["id"]] = ObjectKeys(content_root, derived_header(*parts, self.id, *rest))
        return self.pack_keys[pack["id"]]

    def open_frame(self, frame):
        key = (frame["pack"]["id"], frame["number"])
        if key in self.frames:
            return self.frames[key]
        plain_len = sum(length for _, _, length in frame["chunks"])
        refuse_unless(frame["stored_len"] <= plain_len <= FRAME_MAX, "a frame is too long")
        listed = b"".join(bytes([kind]) + k + struct.pack("<I", length) for k, kind, length in frame["chunks"])
        additional = bytes([frame["codec"], frame["depth"]]) + struct.pack("<I", plain_len)
        additional += blake3(listed).digest(16) + b"".join(frame["bases"])
        with open(self.folder / frame["name"], "rb") as file:
            file.seek(frame["offset"])
            sealed = file.read(frame["stored_len"] + TAG_LEN)
        stored = open_message(self.keys_of(frame["pack"]).message, frame["number"], additional, sealed)
        plain = expand(frame["codec"], stored, self.prefix(frame), plain_len)
        self.frames = {key: plain} if len(self.frames) > 64 else {**self.frames, key: plain}
        return plain

    def prefix(self, frame):
        prefix = b""
        for base in frame["bases"]:
            below, _, _ = self.places[base[:16]]
            refuse_unless(below["depth"] < frame["depth"], "a base lies too deep")
            refuse_unless(below["pack"]["kind"] == frame["pack"]["kind"], "a node rests on a chunk, or a chunk on a node")
            kinds = [kind for key, kind, _ in below["chunks"] if key == base[:16]]
            prefix += self.content(kinds[0], base)
        return prefix

    def content(self, kind, content_id):
        refuse_unless(content_id[:16] in self.places, f"{content_id.hex()} is in no pack")
        frame, start, length = self.places[content_id[:16]]
        part = self.open_frame(frame)[start : start + length]
        refuse_unless(keyed(self.id_keys[kind], part) == content_id, f"{content_id.hex()} has other bytes")
        return part

    # Trees

    def node(self, id_kind, content_id, node_kinds):
        wire = Wire(self.content(id_kind, content_id))
        version, kind = wire.u8(), wire.u8()
        refuse_unless(version == 1 and kind in node_kinds, "this node is not understood")
        read = {
            0: lambda: read_entry(wire),
            1: lambda: (wire.bytes(), wire.take(32), wire.varint(), wire.varint()),
            2: lambda: (wire.take(32), wire.varint()),
            3: lambda: (wire.take(32), wire.varint()),
        }[kind]
        items = wire.list(read)
        wire.end()
        return kind, items

    def directory(self, node_id, leaves=None):
        kind, items = self.node(1, node_id, (0, 1))
        if kind == 1:
            return [entry for _, child, _, _ in items for entry in self.directory(child, leaves)]
        if leaves is not None:
            leaves.append([entry["name"] for entry in items])
        return items

    def chunks(self, list_id):
        kind, items = self.node(2, list_id, (2, 3))
        return items if kind == 2 else [chunk for child, _ in items for chunk in self.chunks(child)]

    def file_chunks(self, entry):
        variant, value = entry["content"]
        return {0: lambda: [], 1: lambda: value, 2: lambda: self.chunks(value)}[variant]()

    def file(self, entry):
        data = b"".join(self.content(0, chunk) for chunk, _ in self.file_chunks(entry))
        unknown = [tag for tag in entry["extensions"] if tag >= 1 << 14 and tag != 1 << 14]
        refuse_unless(not unknown, f"extensions {unknown} are not understood")
        if 1 << 14 in entry["extensions"]:
            data = with_holes(data, entry["extensions"][1 << 14])
        refuse_unless(len(data) == entry["size"], "a file has another size")
        return data

    def walk(self, node_id, path=b""):
        leaves = []
        entries = self.directory(node_id, leaves)
        names = [entry["name"] for entry in entries]
        refuse_unless(all(one < next for one, next in zip(names, names[1:])), "names are not in order")
        yield path or b"/", dict(kind=0, leaves=leaves), None
        for entry in entries:
            below = path + b"/" + entry["name"]
            if entry["kind"] == 0:
                yield below, entry, None
                yield from self.walk(entry["content"][1], below)
            else:
                yield below, entry, self.file(entry) if entry["kind"] == 1 else None

    def forgotten(self):
        dead = set()
        for name in self.names("forget"):
            header, plain = self.open_object(name, (FORGET,), "")
            payload = self.read(name)[: header.payload_len]
            refuse_unless(blake3(payload).hexdigest() == name.split("/")[1], f"{name} has another hash")
            record = read_all(plain, read_forget_record)
            if hmac.compare_digest(keyed(self.admin_key, bytes([FORGET]) + plain[:-32]), record["tag"]):
                dead |= {snapshot for snapshot, _, _ in record["snapshots"]}
        return dead

    def latest(self):
        snapshots, names = [], self.names("snapshot")
        dead = self.forgotten()
        for name in names:
            if bytes.fromhex(name.split("/")[1]) in dead:
                continue
            header, plain = self.open_object(name, (SNAPSHOT, TOMBSTONE), name)
            if header.kind == SNAPSHOT:
                snapshots.append(read_all(plain, read_snapshot))
        return max(snapshots, key=lambda snapshot: (snapshot["started_at"], snapshot["id"]))


def expand(codec, stored, prefix, plain_len):
    if codec == 0:
        plain = stored
    else:
        dictionary = zstandard.ZstdCompressionDict(prefix, zstandard.DICT_TYPE_RAWCONTENT) if codec == 2 else None
        decoder = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=1 << 25)
        plain = decoder.decompress(stored, max_output_size=plain_len, allow_extra_data=False)
    refuse_unless(len(plain) == plain_len, "a frame expands to another length")
    return plain


def with_holes(data, value):
    wire = Wire(value)
    holes = wire.list(lambda: (wire.varint(), wire.varint()))
    wire.end()
    out, at = [], 0
    for skip, length in holes:
        out += [data[at : at + skip], bytes(length)]
        at += skip
    return b"".join(out + [data[at:]])


def read_frame_entry(wire):
    codec, depth, stored_len = wire.varint(), wire.u8(), wire.varint()
    refuse_unless(codec <= 2, "a codec is unknown")
    bases = wire.list(lambda: wire.take(32))
    chunks = wire.list(lambda: (wire.take(16), wire.varint(), wire.varint()))
    refuse_unless(depth <= 8 and (codec == 2) == bool(bases) == (depth > 0), "codec, depth and bases do not fit")
    return dict(codec=codec, depth=depth, stored_len=stored_len, bases=bases, chunks=chunks)


def read_index_object(wire):
    refuse_unless(wire.u8() == 1, "the version of an index object is unknown")

    def pack():
        fields = dict(id=wire.take(32), kind=wire.u8(), wrap=wire.u8(), flags=wire.u8())
        fields.update(generation=wire.varint(), payload_len=wire.varint(), salt=wire.take(32))
        return dict(fields, frames=wire.list(lambda: read_frame_entry(wire)))

    packs = wire.list(pack)
    # What is stated of damage is for writers: a damaged frame does not open, and another copy is tried.
    dict(wire.list(wire.extension))
    return packs


def read_entry(wire):
    entry = dict(name=wire.bytes(), kind=wire.varint(), mode=wire.varint(), uid=wire.varint(), gid=wire.varint())
    entry.update(mtime=wire.moment(), ctime=wire.moment(), inode=wire.varint(), size=wire.varint())
    variant = wire.varint()
    readers = {
        0: lambda: None,
        1: lambda: wire.list(lambda: (wire.take(32), wire.varint())),
        2: lambda: wire.take(32),
        3: lambda: wire.take(32),
        4: wire.bytes,
        5: lambda: (wire.varint(), wire.varint()),
    }
    refuse_unless(variant in readers, "the content of an entry is unknown")
    entry["content"] = (variant, readers[variant]())
    entry["extensions"] = dict(wire.list(wire.extension))
    name = entry["name"]
    good = name not in (b"", b".", b"..") and b"/" not in name and b"\0" not in name
    refuse_unless(good, "a name leads elsewhere")
    return entry


def read_snapshot(wire):
    refuse_unless(wire.u8() == 1, "the version of a snapshot is unknown")
    snapshot = dict(id=wire.take(16), series=wire.take(16), sequence=wire.varint())
    snapshot["previous"] = wire.optional(lambda: wire.take(16))
    snapshot.update(started_at=wire.moment(), finished_at=wire.moment(), host=wire.text(), user=wire.text())
    snapshot.update(name_encoding=wire.u8(), paths=wire.list(wire.bytes), tags=wire.list(wire.text))
    snapshot.update(root=wire.take(32), totals=[wire.varint() for _ in range(5)], problem_count=wire.varint())
    snapshot["problems"] = wire.list(lambda: (wire.bytes(), wire.text()))
    snapshot["owners"] = wire.list(lambda: (wire.flag(), wire.varint(), wire.text()))
    snapshot.update(seen=wire.optional(wire.varint), verified=wire.flag(), program=wire.text())
    snapshot["extensions"] = wire.list(wire.extension)
    return snapshot


def read_forget_record(wire):
    refuse_unless(wire.u8() == 1, "the version of a forget record is unknown")
    record = dict(forgotten_at=wire.moment(), host=wire.text(), reason=wire.text(), policy=wire.text())
    record["snapshots"] = wire.list(lambda: (wire.take(16), wire.take(16), wire.varint()))
    record["extensions"] = wire.list(wire.extension)
    record["tag"] = wire.take(32)
    return record


# What a reader need not know, and --check recomputes -------------------------------------------------------------------

CHECKED = {"leaves": 0, "cuts": 0, "parity": 0}

MASKS = """1803110 18035100 1800035300 19000353000 590003530000 d90003530000 d90103530000 d90303530000
d90313530000 d90f03530000 d90303537000 d90703537000 d90707537000 d91707537000 d91747537000 d91767537000
d93767537000 d93777537000""".split()


def cut(data, config, key):
    table = blake3(b"", key=key).digest(2048)
    gear = struct.unpack("<256Q", table)
    low, average, high = (config[word] for word in ("bytes_min", "bytes_average", "bytes_max"))
    bits = average.bit_length() - 1
    strict, loose = int(MASKS[bits + 1 - 6], 16), int(MASKS[bits - 1 - 6], 16)
    lengths = []
    while data:
        length = len(data)
        if length > low:
            n = min(length, high)
            centre, h, length = min(average, n), 0, n
            for p in range(low, n - n % 2):
                h = ((h << 1) + gear[data[p]]) & 0xFFFFFFFFFFFFFFFF
                if h & (strict if p < centre else loose) == 0:
                    length = p
                    break
        lengths.append(length)
        data = data[length:]
    return lengths


BASIS = [0x0001, 0xACCA, 0x3C0E, 0x163E, 0xC582, 0xED2E, 0x914C, 0x4012]
BASIS += [0x6C98, 0x10D8, 0x6A72, 0xB900, 0xFDB8, 0xFB34, 0xFF38, 0x991E]


def field_tables():
    """Logarithms to the base x of all elements, and back."""
    power, log_of_polynomial = 1, {}
    for exponent in range(65535):
        log_of_polynomial[power] = exponent
        power <<= 1
        power ^= 0x1002D if power & 0x10000 else 0
    polynomial = [0] * 65536
    for element in range(1, 65536):
        low = element & -element
        polynomial[element] = polynomial[element ^ low] ^ BASIS[low.bit_length() - 1]
    log = [0] + [log_of_polynomial[polynomial[element]] for element in range(1, 65536)]
    exp = [0] * 65535
    for element in range(1, 65536):
        exp[log[element]] = element
    return log, exp


def parity(payload):
    length = len(payload)
    shard_len = min(max(-(-length // 64), 64), 16384)
    shard_len = 1 << (shard_len - 1).bit_length()
    data_count = max(-(-length // shard_len), 1)
    parity_count = max(data_count // 32, 4)
    padded = payload + bytes(data_count * shard_len - length)
    shards = [padded[at : at + shard_len] for at in range(0, len(padded), shard_len)]
    rows = [elements(shard) for shard in shards]
    log, exp = field_tables()
    data_pow2, parity_pow2 = (1 << (count - 1).bit_length() for count in (data_count, parity_count))
    is_high = parity_pow2 <= data_pow2
    size = parity_pow2 if is_high else data_pow2
    spare = []
    for j in range(parity_count):
        point, total = j if is_high else data_pow2 + j, [0] * (shard_len // 2)
        for number, row in enumerate(rows):
            group = number - number % size
            points = [(size if is_high else 0) + group + i for i in range(size)]
            own = points[number - group]
            factor = sum(log[point ^ other] - log[own ^ other] for other in points if other != own)
            total = [t ^ (exp[(factor + log[value]) % 65535] if value else 0) for t, value in zip(total, row)]
        spare.append(unelements(total))
    table = b"".join(blake3(shard).digest(8) for shard in shards + spare)
    fields = struct.pack("<8sHHIQII", b"\x89KLP\r\n\x1a\n", 1, 0, shard_len, length, data_count, parity_count)
    trailer = fields + blake3(table).digest(16)
    trailer += blake3(trailer).digest(16)
    return trailer + table + b"".join(spare) + table + trailer


def elements(shard):
    blocks = (shard[at : at + 64] for at in range(0, len(shard), 64))
    return [block[i] | block[32 + i] << 8 for block in blocks for i in range(32)]


def unelements(row):
    blocks = (row[at : at + 32] for at in range(0, len(row), 32))
    return b"".join(bytes(e & 255 for e in block) + bytes(e >> 8 for e in block) for block in blocks)


def ends_node(split_key, name):
    return int.from_bytes(keyed(split_key, name)[:2], "little") & 1023 == 0


def check_leaves(repository, leaves):
    """Every leaf but the last of a folder ends where the rules say. Leaves of a mebibyte are not looked for."""
    for names in leaves[:-1]:
        CHECKED["leaves"] += 1
        splits = [at for at, name in enumerate(names, 1) if at >= 128 and ends_node(repository.split_key, name)]
        refuse_unless((splits or [4096])[0] == len(names), "a leaf ends elsewhere")


def check_objects(repository):
    for folder in ("data", "meta", "index", "snapshot", "forget", "keyring"):
        for name in repository.names(folder):
            data = repository.read(name)
            payload, rest = data[: Header(data).payload_len], data[Header(data).payload_len :]
            if folder in ("data", "meta", "index", "forget"):
                refuse_unless(blake3(payload).hexdigest() == name.rsplit("/")[-1], f"{name} has another hash")
            if len(payload) <= 1 << 18 and repository.config["parity"]:
                refuse_unless(parity(payload) == rest, f"the parity of {name} is another")
                CHECKED["parity"] += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("repository")
    parser.add_argument("--key-file")
    parser.add_argument("--passphrase")
    parser.add_argument("--extract", type=pathlib.Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.key_file:
        credential = ("key file", read_key_file(pathlib.Path(options.key_file).read_text()))
    else:
        credential = ("passphrase", (options.passphrase or "").encode())
    repository = Repository(options.repository, credential)
    snapshot = repository.latest()
    for path, entry, data in repository.walk(snapshot["root"]):
        if "leaves" in entry:
            if options.check:
                check_leaves(repository, entry["leaves"])
            continue
        shown = dict(path=path.hex(), kind=entry["kind"], mode=entry["mode"], uid=entry["uid"], gid=entry["gid"])
        shown.update(mtime=entry["mtime"], inode=entry["inode"], size=entry["size"])
        shown["extensions"] = {str(tag): value.hex() for tag, value in entry["extensions"].items()}
        if entry["content"][0] == 4:
            shown["target"] = entry["content"][1].hex()
        print(json.dumps(shown))
        if data is not None and options.check and len(data) <= 1 << 21 and 1 << 14 not in entry["extensions"]:
            lengths = [length for _, length in repository.file_chunks(entry)]
            refuse_unless(cut(data, repository.config["chunker"], repository.chunker_key) == lengths, "cut elsewhere")
            CHECKED["cuts"] += len(lengths)
        if data is not None and options.extract:
            place = options.extract / path.decode("utf-8", "surrogateescape").lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
    if options.check:
        check_objects(repository)
        print(json.dumps(CHECKED), file=sys.stderr)


if __name__ == "__main__":
    main()
