"""Frames between client and engine process."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infergc.engine.messages import Abort, Answer, Ask, Delta, Logprobs, Outputs, Ready, Shutdown, Submit
from infergc.engine.wire import (
    MAX_FRAME,
    EngineChannel,
    FrameReader,
    WireError,
    decode_commands,
    decode_outputs,
    decode_ready,
    encode_frame,
)
from infergc.params import SamplingParams

PARAMS = SamplingParams(
    max_tokens=None, temperature=0.5, top_k=3, logit_bias={5: -1.5}, seed=2**63 - 1, stop=("a", "é"),
    stop_token_ids=(7,), logprobs=2,
)  # fmt: skip
COMMANDS = [
    Submit("r", [1, 2, 3], PARAMS, priority=-2, salt="s"),
    Abort("r"),
    Abort("r", stopped=True),
    Ask(3, "verify", {"of": "x"}),
    Shutdown(),
]
READY = Ready(100, 50, (1, 2), "bfloat16", "cpu", {"weights": 2**40}, 4096, error="é")
OUTPUTS = Outputs(
    [Delta("r", [4, 5], "stop", 5, 16, [Logprobs(-0.5, 1, (4, 9), (-0.5, float("-inf")))] * 2, "none")],
    ["q"],
    [7],
    {"requests": {"running": 1}, "kv": {"full": {"free": 3}}},
    [Answer(3, {"closed": True}), Answer(4, error="no")],
)


def payloads(data: bytes, cuts: list[int]) -> list[bytes]:
    reader, found, at = FrameReader(), [], 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        found += reader.feed(data[at:cut])
        at = cut
    return found


def test_every_message_comes_through_as_it_was() -> None:
    for message, decode in ((COMMANDS, decode_commands), (READY, decode_ready), (OUTPUTS, decode_outputs)):
        (payload,) = payloads(encode_frame(message), [])
        assert decode(payload) == message


@given(st.lists(st.integers(0, 10_000)))
def test_frames_come_through_whatever_the_pieces(cuts: list[int]) -> None:
    data = encode_frame(COMMANDS) + encode_frame(OUTPUTS) + encode_frame([]) + encode_frame(READY)
    commands, outputs, empty, ready = payloads(data, cuts)
    assert decode_commands(commands) == COMMANDS
    assert decode_outputs(outputs) == OUTPUTS
    assert decode_commands(empty) == []
    assert decode_ready(ready) == READY


def test_a_frame_that_announces_too_much_is_refused_before_it_is_read() -> None:
    with pytest.raises(WireError, match="over the limit"):
        list(FrameReader().feed(struct.pack("<I", MAX_FRAME + 1)))


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x81\x01\x02", encode_frame(READY)[4:]])
def test_what_is_no_message_is_refused(payload: bytes) -> None:
    with pytest.raises(WireError, match="no valid message"):
        decode_commands(payload)


def test_bad_parameters_are_refused_on_the_wire_too() -> None:
    payload = encode_frame(COMMANDS)[4:].replace(b"\xabtemperature\xcb?\xe0", b"\xabtemperature\xcb\xbf\xe0")
    with pytest.raises(WireError, match="temperature"):
        decode_commands(payload)


def test_a_channel_takes_all_that_is_there_and_waits_only_when_told() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = EngineChannel(theirs)
        assert channel.take(0) == []
        ours.sendall(encode_frame(COMMANDS) + encode_frame([Ask(4, "verify")]) + encode_frame([Abort("x")])[:3])
        assert channel.take(None) == [*COMMANDS, Ask(4, "verify")]
        assert channel.take(0) == []
        ours.sendall(encode_frame([Abort("x")])[3:])
        assert channel.take(None) == [Abort("x")]
        ours.close()
        assert channel.take(None) is None
        assert channel.take(0) is None
        with pytest.raises(OSError, match="pipe"):
            channel.send(READY)
