"""Grammars looked at in a process of their own, with bounds on its time and memory."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress

import msgspec

from infergc.client.spawn import environment
from infergc.field_errors import ParameterError
from infergc.structured_outputs import FIELD, StructuredOutputs
from infergc.text.grammar_process import CPU_SECONDS, MEMORY

_REMEMBERED = 64  # verdicts on grammars, of at most 64 Ki characters each
_PATIENCE = 60.0  # seconds of the clock for what takes ``CPU_SECONDS`` of the processor: the machine may be busy
_TOO_LONG = f"takes too long to compile: more than {CPU_SECONDS} s of processor time; simplify it"
_TOO_MUCH = f"takes too much to compile: more than {MEMORY >> 20} MiB of memory; simplify it"


class GrammarProcessError(RuntimeError):
    """The process that looks at grammars does not work; no grammar is to blame."""


class GrammarProcess:
    """Tells grammars from what is none, or takes too much to compile. Belongs to one event loop.

    Those who ask wait in line: one grammar is looked at at a time, in a process that is started for the first and
    takes some 50 MB. A grammar beyond the bounds costs its life, and another is started for the next. The last 64
    verdicts are remembered.

    Args:
        vocab_size: of the model, see ``GrammarCheck``.
    """

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._verdicts: dict[StructuredOutputs, str] = {}  # "" for good ones
        self._turn = asyncio.Lock()
        self._process: Process | None = None
        self._is_closed = False

    async def check(self, outputs: StructuredOutputs) -> None:
        """Refuse what is no grammar, and what takes too much to compile. May be cancelled at any time.

        Raises:
            ParameterError: naming ``structured_outputs`` and its field.
            GrammarProcessError: it could not be found out.
        """
        if outputs not in self._verdicts:
            async with self._turn:
                if outputs not in self._verdicts:  # it may have been asked for meanwhile
                    self._remember(outputs, await self._verdict(outputs))
        if said := self._verdicts[outputs]:
            raise ParameterError(f"{FIELD}.{outputs.kind}", said)

    async def close(self) -> None:
        """End the process; who waits gets a ``GrammarProcessError``. Harmless when repeated."""
        self._is_closed = True
        process = self._process
        self._kill()
        if process is not None:
            await process.wait()

    def _remember(self, outputs: StructuredOutputs, verdict: str) -> None:
        self._verdicts[outputs] = verdict
        if len(self._verdicts) > _REMEMBERED:
            del self._verdicts[next(iter(self._verdicts))]

    async def _verdict(self, outputs: StructuredOutputs) -> str:
        """What the process says of it, or how it ended of it.

        It may have ended of something else, so only a second one that ends other than by its time is the grammar's.
        """
        try:
            async with asyncio.timeout(_PATIENCE):
                for _ in range(2):
                    process = await self._running()
                    if said := await _asked(process, msgspec.json.encode(outputs)):
                        return msgspec.json.decode(said, type=str)
                    if await process.wait() == -signal.SIGPROF:
                        return _TOO_LONG
                return _TOO_MUCH
        except BaseException as error:  # cancelled, as a rule: what it would say next is no answer to who asks next
            self._kill()
            if isinstance(error, TimeoutError):
                raise GrammarProcessError(f"a grammar was not read within {_PATIENCE:g} s; try again") from None
            raise

    async def _running(self) -> Process:
        """The process, started where there is none."""
        if self._is_closed:
            raise GrammarProcessError("no grammars are read any more: the server is shutting down")
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "infergc.text.grammar_process", str(self._vocab_size)),
                stdin=PIPE,
                stdout=PIPE,
                env=environment(),
            )
            if not await _line(self._process):
                raise GrammarProcessError(f"grammars cannot be read: exit code {await self._process.wait()}")
        return self._process

    def _kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            self._process = None


async def _asked(process: Process, question: bytes) -> bytes:
    """The process's answer; none where it ends."""
    assert process.stdin is not None
    with suppress(ConnectionError):
        process.stdin.write(question + b"\n")
        await process.stdin.drain()
    return await _line(process)


async def _line(process: Process) -> bytes:
    assert process.stdout is not None
    return await process.stdout.readline()
