"""What the server's own process takes of a processor for a streamed token, and for a request.

    python benchmarks/server_cost.py [MODEL] [--streams 64] [--tokens 256] [--rounds 5] [--chat] [--flags "…"]

The engine is the simulated one, which steps every 20 ms whatever it is asked: each stream gets one token a step. What
is counted is the time (user and system) of the server process alone; this process is the client, the engine is a third.
A round is ``--streams`` requests at once. The cost of a streamed token is that of a round over the frames that came:
where the machine is so busy that the server lags, several tokens come in one, which must not make a token look cheap.
A share of reading the requests is in it; what a request takes by itself is measured by rounds of one token each.
"""

import argparse
import asyncio
import json
import os
import shlex
from pathlib import Path
from statistics import median

from serving import Server, serving

from infergc.units import MIB

ROOT = Path(__file__).parents[1]
EXECUTOR = "samples.slow_sim:create_dawdling"  # of tests/: a step takes 20 ms
BAR = 60e-6  # seconds of the server process for a streamed token
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def body_of(tokens: int, stream: bool, chat: bool) -> bytes:
    """A request for so many tokens."""
    text = "Once upon a time there was a king who"
    asked = {"messages": [{"role": "user", "content": text}]} if chat else {"prompt": text}
    asked |= {"max_tokens": tokens, "ignore_eos": True, "seed": 1, "stream": stream}
    return json.dumps(asked).encode()


def message(server: Server, body: bytes, chat: bool) -> bytes:
    path = "/v1/chat/completions" if chat else "/v1/completions"
    head = (f"POST {path} HTTP/1.1", f"host: {server.host}", "content-type: application/json",
            f"content-length: {len(body)}")  # fmt: skip
    return "\r\n".join((*head, "", "")).encode() + body


async def ask(connection: Connection, asked: bytes) -> int:
    """One request to its end; the frames that came of it, 0 of a whole answer."""
    reader, writer = connection
    writer.write(asked)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    assert " 200 " in head.split("\r\n", 1)[0], head
    if "content-length: " in head:
        await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        return 0
    content = await reader.readuntil(b"\r\n0\r\n\r\n")
    assert b"data: [DONE]" in content
    return content.count(b"data: {")


async def measure(server: Server, asked: bytes, tokens: int, options: argparse.Namespace) -> list[float]:
    """Microseconds of the server process for each frame, or each token of a whole answer, in each round."""
    opened = (asyncio.open_connection(server.host, server.port, limit=64 * MIB) for _ in range(options.streams))
    connections, each = await asyncio.gather(*opened), list[float]()
    for _ in range(options.rounds + 1):
        before = server.own_seconds()
        frames = sum(await asyncio.gather(*(ask(connection, asked) for connection in connections)))
        each.append((server.own_seconds() - before) / (frames or options.streams * tokens) * 1e6)
    for _, writer in connections:
        writer.close()
    return each[1:]  # the first warms caches


def spread(values: list[float]) -> dict[str, float]:
    return {"median": round(median(values), 1), "least": round(min(values), 1), "most": round(max(values), 1)}


async def run(server: Server, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    loads = {"streamed token": (options.tokens, True), "token of a whole answer": (options.tokens, False),
             "request of one token": (1, False)}  # fmt: skip
    figures = {}
    for name, (tokens, stream) in loads.items():
        asked = message(server, body_of(tokens, stream, options.chat), options.chat)
        figures[name] = spread(await measure(server, asked, tokens, options))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, default=ROOT / "models" / "demo")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=256, help="of an answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chat", action="store_true", help="chats instead of completions")
    parser.add_argument("--flags", default="", help="more flags of infergc serve")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    paths = (str(ROOT / "src"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", ""))
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)  # the engine finds the executor there
    flags = ("--executor", EXECUTOR, "--max-num-seqs", str(options.streams), *shlex.split(options.flags))
    with serving(options.model, *flags) as server:
        figures = asyncio.run(run(server, options))
    for name, values in figures.items():
        print(f"{name}: {values['median']} µs ({values['least']} to {values['most']})")
    print(f"load of the machine: {os.getloadavg()[0]:.2f}; the bar is {BAR * 1e6:g} µs a streamed token")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
