"""EngineClient: an engine in its own process, seen from asyncio."""

import asyncio
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Self

from infergc.cache_control import CacheControl
from infergc.client.prepare import RequestBuilder
from infergc.client.spawn import CLOSE_SECONDS, end_process, ending, spawn_engine
from infergc.client.stream import RequestStream
from infergc.config import EngineConfig
from infergc.engine.messages import (
    Abort,
    Answer,
    Ask,
    Command,
    Outputs,
    Ready,
    Shutdown,
    Submit,
    choice_names,
)
from infergc.engine.wire import FrameReader, WireError, decode_outputs, decode_ready, encode_frame
from infergc.params import SamplingParams
from infergc.wording import shown

_READ_BYTES = 1 << 18


class EngineStartError(RuntimeError):
    """The engine could not start; the message says why."""


class EngineDeadError(RuntimeError):
    """The engine process is gone: open requests fail with this, and so do new ones.

    Attributes:
        seconds: after which there should be another; None: that is not known, or there will be none.
    """

    def __init__(self, message: str, seconds: int | None = None) -> None:
        super().__init__(message)
        self.seconds = seconds


class EngineClient:
    """One engine process and the requests open on it. Belongs to the event loop that started it.

    Attributes:
        ready: what the engine serves and holds in memory.
        stats: the engine's latest counters and gauges (see ``engine.stats``).
        healthy: whether the engine runs.
        config: what the engine was started with.
        replaced_in: is asked, when it has died, for the ``seconds`` of ``EngineDeadError``.
    """

    def __init__(self, config: EngineConfig, process: Process, link: "_Link", ready: Ready) -> None:
        self.config = config
        self.ready = ready
        self.stats: dict[str, Any] = {}
        self.healthy = True
        self.builder = RequestBuilder(ready, config.seed)
        self.replaced_in: Callable[[], int | None] = lambda: None
        self._killed_for = ""
        self._process = process
        self._link = link
        self._streams: dict[str, RequestStream] = {}
        self._death: EngineDeadError | None = None
        self._questions: dict[int, asyncio.Future[Any]] = {}
        self._asked = 0
        self._submitted = 0
        self._reader = asyncio.create_task(self._read(), name="engine-reader")

    @classmethod
    async def start(cls, config: EngineConfig) -> Self:
        """Start an engine process and wait until it is ready; loading a model takes its time.

        Raises:
            EngineStartError: with the engine's own words.
        """
        process, reader, writer = await spawn_engine(config)
        link = _Link(reader, writer)
        try:
            return cls(config, process, link, await _first_words(link, process))
        except BaseException:
            link.close()
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise

    def request(
        self,
        prompt_ids: Iterable[int],
        params: SamplingParams,
        request_id: str | None = None,
        *,
        priority: int = 0,
        cache_salt: str = "",
        session: str = "",
        cache_control: CacheControl | Mapping[str, Any] | None = None,
        queue_timeout: int | None = None,
        public_tokens: int = 0,
    ) -> Submit:
        """A checked request, ready for ``submit``; see ``RequestBuilder.build``."""
        return self.builder.build(
            prompt_ids,
            params,
            request_id,
            priority=priority,
            cache_salt=cache_salt,
            session=session,
            cache_control=cache_control,
            queue_timeout=queue_timeout,
            public_tokens=public_tokens,
        )

    def submit(self, *requests: Submit) -> RequestStream:
        """Start requests and stream what comes back of them, one delta a choice and step at most.

        Raises:
            EngineDeadError: there is no engine.
            ValueError: a request id is in use. It is until the engine's last word on its request, so for a
                moment longer than the stream where that was closed early.
            ValueError, OverflowError, WireError: the requests cannot be sent; ``request`` builds such as can.
        """
        self.check_alive()
        names = [name for request in requests for name in choice_names(request.request_id, request.params.n)]
        if len(set(names)) < len(names) or not self._streams.keys().isdisjoint(names):
            raise ValueError(
                f"request_id: each must be unique among the open requests, got {shown(names)}; an id is free "
                "again after the engine's last word on its request, an aborted one too"
            )
        self._link.send(*requests)
        self._submitted += len(names)
        stream = RequestStream(names, self._abort_each)
        self._streams.update(dict.fromkeys(names, stream))
        return stream

    def abort(self, request_id: str) -> None:
        """Abandon a request or one of its choices, by name; its stream ends with finish "abort".

        What has finished is left alone. The choices of a request with several are named by ``choice_names``.
        """
        self._end(Abort(request_id))

    def stop(self, request_id: str) -> None:
        """Finish a request or one of its choices whose text a stop string ended: its session takes the turn.

        Otherwise as ``abort``, with finish "stop".
        """
        self._end(Abort(request_id, stopped=True))

    def abort_all(self) -> None:
        """Stop every open request."""
        for request_id in list(self._streams):
            self.abort(request_id)

    async def verify(self) -> str:
        """Have the engine recount all references and check the heap's laws now: "" when all is well, else what is not.

        Leaked pages and garbage that it finds are reclaimed.
        """
        return str(await self.ask("verify"))

    async def close_session(self, session: str, salt: str = "", reason: str = "asked") -> str:
        """Close a tenant's session, so that its KV may be reclaimed: "closed", or "unknown" if it is not open.

        With the reason "idle" one that is at work stays open: "busy".
        """
        return str(await self.ask("close_session", session=session, salt=salt, reason=reason))

    async def ask(self, what: str, **about: Any) -> Any:
        """Ask the engine something that ``engine.inquiries`` knows; it answers between two steps.

        Raises:
            EngineDeadError: there is no engine, or it died before it answered.
            ValueError: the engine cannot answer this; the message says why.
        """
        self.check_alive()
        self._asked += 1
        number, answer = self._asked, asyncio.get_running_loop().create_future()
        self._questions[number] = answer
        try:
            self._link.send(Ask(number, what, about))
            return await answer
        finally:
            del self._questions[number]

    def check_alive(self) -> None:
        """See that the engine runs.

        Raises:
            EngineDeadError: it does not.
        """
        if not self.healthy:
            raise EngineDeadError("the engine is not running")

    async def gone(self) -> EngineDeadError | None:
        """Wait until the engine is gone: how it died, or None where it was closed."""
        await asyncio.wait((self._reader,))
        return self._death

    @property
    def open_requests(self) -> int:
        """Requests, choices counted singly, on which the engine has not said its last word."""
        return len(self._streams)

    @property
    def unstarted_requests(self) -> int:
        """Requests, choices counted singly, that have not started by the engine's latest news, or came after it."""
        queue = self.stats.get("queue", {})
        return int(self._submitted - queue.get("taken", 0) + queue.get("unstarted", 0))

    def kill(self, why: str = "") -> None:
        """End the engine process where it stands: it dies, as those who wait for it are told.

        Args:
            why: what it did, as "was stuck", for them.
        """
        self._killed_for = why
        with suppress(ProcessLookupError):
            self._process.kill()

    async def close(self, patience: float = CLOSE_SECONDS) -> bool:
        """End the engine process; open requests fail at once. Harmless when repeated.

        Args:
            patience: seconds until it is killed if it does not leave.

        Returns:
            whether it left by itself.
        """
        if self.healthy:
            self._link.send(Shutdown())
        self._fail(EngineDeadError("the engine was closed"))
        self._link.close()
        has_left = await end_process(self._process, patience)
        await self._reader
        return has_left

    async def _read(self) -> None:
        """Take what the engine says until it is gone, then say so to all who wait."""
        reason = "its socket closed"
        try:
            async for payload in self._link.frames():
                self._take(decode_outputs(payload))
        except (ConnectionResetError, BrokenPipeError):
            pass  # it closed with something of ours unread
        except OSError as error:
            reason = str(error)
        finally:
            expected, self.healthy = not self.healthy, False
            self._link.close()
            if not expected:
                self._death = EngineDeadError(await self._end_words(reason), self.replaced_in())
                self._fail(self._death)

    async def _end_words(self, reason: str) -> str:
        how = await ending(self._process)
        return (
            f"the engine {self._killed_for} and was killed"
            if self._killed_for
            else f"the engine died ({reason}; {how})"
        )

    def _take(self, outputs: Outputs) -> None:
        if outputs.stats is not None:
            self.stats = outputs.stats
        for answer in outputs.answers:
            self._answer(answer)
        for name, waited in outputs.waits.items():
            if name in self._streams:
                self._streams[name].waits[name] = waited
        for delta in outputs.news():
            stream = self._streams.get(delta.request_id)
            if stream is not None:
                stream.put(delta)
                if delta.finish:
                    del self._streams[delta.request_id]

    def _answer(self, answer: Answer) -> None:
        question = self._questions.get(answer.number)
        if question is None or question.done():
            return  # whoever asked has left
        if answer.error:
            question.set_exception(ValueError(answer.error))
        else:
            question.set_result(answer.value)

    def _end(self, abort: Abort) -> None:
        """Tell the engine, unless it has told us of the end."""
        if self.healthy and (abort.request_id in self._streams or self._has_choices(abort.request_id)):
            self._link.send(abort)

    def _has_choices(self, request_id: str) -> bool:
        """Whether some of several choices are open."""
        return any(name.rpartition("#")[0] == request_id for name in self._streams)

    def _abort_each(self, request_ids: Iterable[str]) -> None:
        """Their stream was closed; it stays here until the engine's last word, so that no new request gets it."""
        for request_id in request_ids:
            self.abort(request_id)

    def _fail(self, error: EngineDeadError) -> None:
        self.healthy = False
        for stream in set(self._streams.values()):
            stream.fail(error)
        self._streams.clear()
        for question in self._questions.values():
            if not question.done():
                question.set_exception(error)


async def _first_words(link: "_Link", process: Process) -> Ready:
    try:
        ready = await link.ready()
    except OSError as error:
        end = await ending(process)
        raise EngineStartError(f"the engine ended before it was ready ({error}; {end})") from error
    if ready.error:
        raise EngineStartError(ready.error)
    return ready


class _Link:
    """The socket to the engine: gathers the frames of one turn of the event loop into one write.

    It never waits for the engine to read. What piles up while a step runs is no more than the open requests
    hold anyway, which is for who submits them to bound.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._outbox: list[bytes] = []
        self._frames = self._read_frames()

    def send(self, *commands: Command) -> None:
        """Send soon, as one frame; those sent before the event loop turns leave together.

        Raises:
            ValueError, OverflowError, WireError: they cannot be sent; nothing is.
        """
        frame = encode_frame(list(commands))
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outbox.append(frame)

    async def ready(self) -> Ready:
        """The engine's first message.

        Raises:
            WireError: the stream ended first, or it is something else.
        """
        async for payload in self._frames:
            return decode_ready(payload)
        raise WireError("its socket closed")

    def frames(self) -> AsyncIterator[bytes]:
        """Payloads of the frames that follow, until the stream ends."""
        return self._frames

    def close(self) -> None:
        """Close the socket once what was sent is on its way; the engine takes it as the order to leave."""
        self._flush()
        self._writer.close()

    async def _read_frames(self) -> AsyncIterator[bytes]:
        cutter = FrameReader()
        while data := await self._reader.read(_READ_BYTES):
            for payload in cutter.feed(data):
                yield payload

    def _flush(self) -> None:
        frames, self._outbox = self._outbox, []
        if frames and not self._writer.is_closing():
            self._writer.write(b"".join(frames))
