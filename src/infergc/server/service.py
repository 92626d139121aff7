"""What all routes share: the engine client, the texts, the server's settings."""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus

from starlette.types import Receive

from infergc.cache_control import CacheControl
from infergc.client import EngineSupervisor
from infergc.client.grammars import GrammarProcess
from infergc.client.prepare import MAX_LABEL, check_label
from infergc.config import HEEDING
from infergc.engine.messages import Submit
from infergc.params import ParameterError, SamplingParams, StructuredOutputs
from infergc.server.answers.disconnect import unless_gone
from infergc.server.entrance.line import Line
from infergc.server.entrance.tenants import Tenant
from infergc.server.errors import ApiError
from infergc.server.metrics import Latencies
from infergc.server.public_texts import PublicTexts
from infergc.server.requests.messages import Message
from infergc.server.requests.structured import named_as_sent
from infergc.server.requests.types import GenerationRequest
from infergc.server.routes.sessions import SessionClock
from infergc.server.settings import ServerSettings
from infergc.server.tools.fields import ToolField
from infergc.server.tools.turn import ToolSupport, ToolTurn, named_as_parameters
from infergc.text.chat import ChatTemplate
from infergc.text.tokenizer import Tokenizer
from infergc.wording import shown

LONG_TEXT = 2048  # characters; tokenising fewer takes less time than handing them to a thread


@dataclass(frozen=True, slots=True)
class Service:
    """One served model."""

    client: EngineSupervisor
    tokenizer: Tokenizer
    template: ChatTemplate
    settings: ServerSettings
    latencies: Latencies
    sessions: SessionClock
    line: Line
    tools: ToolSupport
    public: PublicTexts
    grammars: GrammarProcess

    def check_model(self, name: str | None) -> None:
        """Refuse requests for another model; null means the one there is.

        Raises:
            ApiError: 404.
        """
        if name is not None and name != self.settings.model_name:
            message = f"model: {shown(name)} is not served here; {shown(self.settings.model_name)} is"
            raise ApiError(HTTPStatus.NOT_FOUND, message, param="model", code="model_not_found")

    async def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Ids of a text; the event loop goes on while a long one is tokenised."""
        if len(text) < LONG_TEXT:
            return self.tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return await asyncio.to_thread(self.tokenizer.encode, text, add_special_tokens=add_special_tokens)

    async def encode_prompt(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Ids of a text to generate from; one that is sure to be too long is refused before it is tokenised.

        Raises:
            PromptError: it has more tokens than the context, told from its size: ``Tokenizer.fewest_tokens``.
        """
        self.client.builder.check_length(self.tokenizer.fewest_tokens(text), "is at least")
        return await self.encode(text, add_special_tokens=add_special_tokens)

    async def check_grammar(self, params: SamplingParams, body: GenerationRequest, receive: Receive) -> None:
        """See that what a text is to keep to is a grammar, and no costly one; ``request`` takes it to have been seen.

        Args:
            params: what to generate.
            body: the request, which was read.
            receive: tells when its client goes, which then waits in line no more.

        Raises:
            ParameterError: it is none, or takes too much to compile; it names the field that was sent.
            GrammarProcessError: it could not be found out.
            ClientGoneError: the client went.
        """
        if params.structured_outputs is not None:
            with named_as_sent(body.response_format):
                await unless_gone(receive, self.grammars.check(params.structured_outputs))

    async def check_calls(self, turn: ToolTurn, params: SamplingParams, receive: Receive) -> None:
        """The same for the grammar of the calls that an answer must make.

        Raises:
            ParameterError: it names the function whose parameters are at fault, if one's are by themselves.
        """
        if params.structured_outputs is not None:
            await unless_gone(receive, self._check_calls(turn, params.structured_outputs))

    async def _check_calls(self, turn: ToolTurn, calls: StructuredOutputs) -> None:
        try:
            await self.grammars.check(calls)
        except ParameterError:
            for at, outputs in turn.arguments():
                with named_as_parameters(at):
                    await self.grammars.check(outputs)
            raise

    def conversation(
        self, messages: list[Message], tools: list[ToolField] | None, *, add_generation_prompt: bool | None
    ) -> str:
        """A conversation as text, special tokens included, with the functions that may be called in it.

        Raises:
            ConversationError: there is no template, or it does not take these messages.
            NoToolsError: it does not take tools.
        """
        return self.template.render(
            [message.for_template() for message in messages],
            add_generation_prompt=add_generation_prompt is not False,
            tools=[tool.for_template() for tool in tools] if tools else None,
        )

    def request(self, prompt: list[int], params: SamplingParams, body: GenerationRequest, tenant: Tenant) -> Submit:
        """A checked request of a tenant's for the engine.

        Raises:
            ParameterError: naming the field.
        """
        if body.priority and self.client.config.scheduling_policy != "priority":
            message = "is only allowed where the server runs with --scheduling-policy priority"
            raise ParameterError("priority", message)
        control = None if body.cache_control is None else self._heeded(body.cache_control.control())
        check_label("cache_salt", body.cache_salt or "")
        if body.session_id == "":
            raise ParameterError("session_id", f"must have 1 to {MAX_LABEL} characters; leave it out for no session")
        salt, session = tenant.salt(body.cache_salt or ""), body.session_id or ""
        request = self.client.request(
            prompt,
            params,
            priority=body.priority or 0,
            cache_salt=salt,
            session=session,
            cache_control=control,
            queue_timeout=self._patience(body.queue_timeout),
            public_tokens=self.public.leading(prompt),
            is_grammar_checked=True,
        )
        self.sessions.touch(salt, session)
        return request

    def _patience(self, asked: int | None) -> int | None:
        """How long a request may wait: as long as it asks for, or as the server lets all."""
        most = self.settings.queue_timeout
        if asked is not None and most is not None and asked > most:
            message = f"{asked} is not allowed; this server lets no request wait longer than {most} s (--queue-timeout)"
            raise ParameterError("queue_timeout", message)
        return most if asked is None else asked

    def _heeded(self, control: CacheControl) -> CacheControl:
        """What a request asks of the cache, if this server's cache can be asked so."""
        config = self.client.config
        if not config.enable_prefix_caching:
            raise ParameterError("cache_control", "is only allowed where the server runs with --enable-prefix-caching")
        if not control.pin and config.retention_policy not in HEEDING:
            policies = f"{', '.join(HEEDING[:-1])} or {HEEDING[-1]}"
            message = f"without a pin is only allowed where the server runs with --retention-policy {policies}"
            raise ParameterError("cache_control", message)
        return control
