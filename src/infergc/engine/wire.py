"""Frames between a client and its engine process: a length, then one msgpack message.

A frame is a 4-byte little-endian length and that many bytes. The client sends lists of commands; the engine
sends one ``Ready`` and then ``Outputs``.
"""

import socket
import struct
from collections.abc import Iterator
from typing import TypeVar

import msgspec

from infergc.engine.messages import Command, Outputs, Ready

MAX_FRAME = 256 * 1024 * 1024  # bytes; a frame over this is a broken stream, not a message
_LENGTH = struct.Struct("<I")
_READ_BYTES = 1 << 18

_Message = TypeVar("_Message")
_encoder = msgspec.msgpack.Encoder()
_commands = msgspec.msgpack.Decoder(list[Command])
_ready = msgspec.msgpack.Decoder(Ready)
_outputs = msgspec.msgpack.Decoder(Outputs)


class WireError(ConnectionError):
    """The other side sent something that is not a frame, or a message is too large for one."""


def encode_frame(message: list[Command] | Ready | Outputs) -> bytes:
    """One message as a frame.

    Raises:
        WireError: the message takes more than ``MAX_FRAME`` bytes.
    """
    payload = _encoder.encode(message)
    _check_length(len(payload))
    return _LENGTH.pack(len(payload)) + payload


def decode_commands(payload: bytes) -> list[Command]:
    """Read what a client sent in one frame."""
    return _decode(_commands, payload)


def decode_ready(payload: bytes) -> Ready:
    """Read an engine's first frame."""
    return _decode(_ready, payload)


def decode_outputs(payload: bytes) -> Outputs:
    """Read an engine's later frames."""
    return _decode(_outputs, payload)


class FrameReader:
    """Cuts a byte stream into frames, whatever pieces it arrives in."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take the next piece of the stream; give the payload of each frame now complete, see ``cut``."""
        self.put(data)
        return self.cut()

    def put(self, data: bytes) -> None:
        """Take the next piece of the stream, all of it, or nothing where there is no memory for it."""
        self._buffer += data

    def cut(self) -> Iterator[bytes]:
        """The payload of each complete frame; one that was not done with when this stops is given again.

        Raises:
            WireError: a frame announces more than ``MAX_FRAME`` bytes.
        """
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            _check_length(length)
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            yield bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]


class EngineChannel:
    """The engine's end of the socket: takes commands, and waits for them as long as it is told to.

    Where memory for that is refused, nothing that has arrived is lost.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._frames = FrameReader()
        self._unread = b""
        self._commands: list[Command] = []

    def take(self, wait: float | None) -> list[Command] | None:
        """All commands that have arrived; None once the client is gone.

        Args:
            wait: seconds to wait for the first; None waits until there is one.

        Raises:
            MemoryError: there was none for them; to be called again.
        """
        while True:
            self._read_on()
            data = self._read(0.0 if self._commands else wait)
            if data is None:
                commands, self._commands = self._commands, []
                return commands
            if not data:
                return None
            self._unread = data

    def _read_on(self) -> None:
        """Take what has arrived apart."""
        self._frames.put(self._unread)
        self._unread = b""
        for payload in self._frames.cut():
            self._commands += decode_commands(payload)

    def send(self, message: Ready | Outputs) -> None:
        """Send one message, waiting while the client's buffer is full.

        Raises:
            OSError: the client is gone.
        """
        self.send_frame(encode_frame(message))

    def send_frame(self, frame: bytes) -> None:
        """Send one that is encoded; otherwise as ``send``."""
        self._socket.setblocking(True)
        self._socket.sendall(frame)

    def _read(self, wait: float | None) -> bytes | None:
        """The next bytes, b"" at the end of the stream, None if nothing came in time."""
        self._socket.settimeout(wait)
        try:
            return self._socket.recv(_READ_BYTES)
        except (BlockingIOError, TimeoutError):
            return None
        except ConnectionResetError:
            return b""


def _decode(decoder: msgspec.msgpack.Decoder[_Message], payload: bytes) -> _Message:
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, ValueError) as error:
        raise WireError(f"a frame holds no valid message: {error}") from error


def _check_length(length: int) -> None:
    if length > MAX_FRAME:
        raise WireError(f"a frame of {length} bytes is over the limit of {MAX_FRAME}")
