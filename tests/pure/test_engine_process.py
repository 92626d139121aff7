"""The engine's process: how it serves a client and how it leaves."""

import socket

from infergc.engine.messages import Outputs, Shutdown
from infergc.engine.process import serve
from infergc.engine.wire import EngineChannel, FrameReader, decode_outputs, decode_ready, encode_frame
from samples.engines import make_engine, submit


def served(*frames: bytes) -> list[Outputs]:
    """What an engine tells a client that sent these frames, the last of them an order to leave."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            ours.sendall(b"".join(frames))
            serve(make_engine(), EngineChannel(theirs))
        data = b"".join(iter(lambda: ours.recv(1 << 16), b""))
    first, *later = FrameReader().feed(data)
    assert decode_ready(first).error == ""
    return [decode_outputs(payload) for payload in later]


def test_an_engine_told_to_leave_tells_what_became_of_its_requests() -> None:
    requests = [submit(name, [5, 6], max_tokens=100) for name in ("one", "two")]
    *_, last = served(encode_frame([*requests, Shutdown()]))
    assert [(delta.request_id, delta.finish) for delta in last.news()] == [("one", "abort"), ("two", "abort")]


def test_an_idle_engine_leaves_when_told() -> None:
    assert all(not outputs.news() for outputs in served(encode_frame([Shutdown()])))
