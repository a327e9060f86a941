"""Messages byte by byte, so that they may be wrong in any way."""
import struct
import subprocess

from harness import BUILD


def varint(number):
    number &= (1 << 64) - 1
    text = b""
    while number > 127:
        text += bytes([number & 127 | 128])
        number >>= 7
    return text + bytes([number])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def record(name, tokens=b"", first=0, last=False, version=0, width=2):
    """A TokenRecord, byte by byte, so that it may be wrong in any way; and its key."""
    if not isinstance(tokens, bytes):
        tokens = b"".join(struct.pack("<H" if width == 2 else "<I", token) for token in tokens)
    return name, (field(1, name.encode()) + field(2, version) + field(3, first) + field(4, width) +
                  field(5, tokens) + field(6, int(last)))


def send(address, topic, messages, *properties):
    """(key, bytes) after (key, bytes), in this order, acknowledged. Properties: librdkafka's key=value."""
    text = "".join(f"{key} {value.hex()}\n" for key, value in messages)
    subprocess.run([BUILD / "raw_publish", address, topic, *properties], input=text, text=True, check=True, timeout=120)
