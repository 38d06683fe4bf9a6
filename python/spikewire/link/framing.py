"""Frames on a serial line: COBS(type byte | payload | CRC-32 little endian), then 0x00.

COBS (Cheshire and Baker 1999, "Consistent Overhead Byte Stuffing") frees the bytes of 0x00, so a
reader finds the next frame after any garbage, such as what a boot loader prints on the same pin.
"""

from __future__ import annotations

import zlib

from spikewire.link.packing import FrameError
from spikewire.link.table import BY_TYPE

DELIMITER = b"\x00"
OVERHEAD = 5  # type byte and CRC-32
MAX_PAYLOAD = max(message.size for message, _ in BY_TYPE.values())
MAX_BLOCK = 254  # bytes that follow one COBS code at most
# largest frame without its delimiter: one COBS code, and one more for every 254 bytes
MAX_ENCODED = MAX_PAYLOAD + OVERHEAD + 1 + (MAX_PAYLOAD + OVERHEAD) // MAX_BLOCK


def cobs_encode(data: bytes) -> bytes:
    """Return `data` without any 0x00, one byte longer for every 254 bytes begun."""
    out = bytearray()
    blocks = data.split(DELIMITER)
    for number, block in enumerate(blocks, start=1):
        while len(block) > MAX_BLOCK:
            out += b"\xff" + block[:MAX_BLOCK]
            block = block[MAX_BLOCK:]
        out.append(len(block) + 1)
        out += block
        if len(block) == MAX_BLOCK and number < len(blocks):
            out.append(
                1
            )  # a full block implies no zero, so the one that follows needs its own code
    return bytes(out)


def cobs_decode(data: bytes) -> bytes:
    """Return what `cobs_encode` was given.

    Raises
    ------
    FrameError
        `check` is "cobs": a zero inside, or a code that points past the end.
    """
    out = bytearray()
    at = 0
    while at < len(data):
        code = data[at]
        block = data[at + 1 : at + code]
        if code == 0 or len(block) != code - 1 or 0 in block:
            raise FrameError("cobs", f"COBS code {code} at byte {at} of {len(data)} is wrong")
        out += block
        at += code
        if code <= MAX_BLOCK and at < len(data):
            out.append(0)
    return bytes(out)


def frame(kind: int, payload: bytes) -> bytes:
    """Return one frame as it goes on the line.

    Parameters
    ----------
    kind : int
        Serial type byte, see `table.BY_TYPE`.
    payload : bytes

    Returns
    -------
    bytes
        With the 0x00 at its end; 71 bytes for STEP, 23 for SHORT, 15 for ARM.
    """
    body = bytes((kind,)) + payload
    return cobs_encode(body + zlib.crc32(body).to_bytes(4, "little")) + DELIMITER


class Deframer:
    """Finds frames in a stream of bytes, whatever the stream holds.

    Attributes
    ----------
    bad_crc, bad_cobs, too_long : int
        Stretches between two 0x00 that were thrown away, by reason.
    """

    def __init__(self) -> None:
        self.bad_crc = 0
        self.bad_cobs = 0
        self.too_long = 0
        self._part = bytearray()  # of the frame that has begun; never past MAX_ENCODED
        self._skipping = False  # until the next 0x00, since the stretch was too long

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take bytes as they came and return the frames that they complete.

        Parameters
        ----------
        data : bytes
            Any number, from any place in the stream.

        Returns
        -------
        list of (int, bytes)
            Type byte and payload, CRC checked.
        """
        frames = []
        begin = 0
        while (end := data.find(DELIMITER, begin)) >= 0:
            self._append(data, begin, end)
            body = self._take()
            if body is not None:
                frames.append((body[0], body[1:]))
            begin = end + 1
        self._append(data, begin, len(data))
        return frames

    def _append(self, data: bytes, begin: int, end: int) -> None:
        """Add a piece to the frame that has begun, or give the frame up."""
        if self._skipping:
            return
        if len(self._part) + end - begin > MAX_ENCODED:
            self._part.clear()
            self._skipping = True
            self.too_long += 1
        else:
            self._part += data[begin:end]

    def _take(self) -> bytes | None:
        """End the frame: return type byte and payload, or None and count why not."""
        encoded, skipped = bytes(self._part), self._skipping
        self._part.clear()
        self._skipping = False
        if skipped or not encoded:  # two 0x00 in a row are an idle line, not an error
            return None
        try:
            body = cobs_decode(encoded)
        except FrameError:
            self.bad_cobs += 1
            return None
        check = int.from_bytes(body[-4:], "little")
        if len(body) < OVERHEAD or zlib.crc32(body[:-4]) != check:
            self.bad_crc += 1
            return None
        return body[:-4]
