"""LLM: generate from Python, with the engine in this process."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self, cast

from infergc.cache_control import CacheControl
from infergc.client.local import LocalClient
from infergc.client.output import Output, Piece, outputs_of
from infergc.config import ConfigError, engine_config
from infergc.engine.messages import Ready, Submit
from infergc.engine.ports import Sink
from infergc.llm.progress import Advance, progress_bar
from infergc.llm.prompts import Prompt, as_list, encode, params_for
from infergc.llm.results import RequestOutput, ResultBuilder
from infergc.params import SamplingParams
from infergc.text.chat import ChatTemplate
from infergc.text.tokenizer import Tokenizer

Messages = Sequence[Mapping[str, Any]]
Control = CacheControl | Mapping[str, Any] | None


class LLM:
    """A model to generate from.

    Args:
        model: directory of a Hugging Face model.
        sinks: hear of every step, for measuring and recording.
        settings: fields of ``EngineConfig``, such as ``kv_cache_memory="2GiB"``.

    Raises:
        ConfigError: a setting is not allowed, or the model is not a directory.
        ValueError, OSError: the model cannot be loaded.

    Use it from one thread. ``close``, or a ``with`` block, frees the memory.
    """

    def __init__(self, model: str | Path, *, sinks: Iterable[Sink] = (), **settings: Any) -> None:
        config = engine_config(model=model, **settings)
        if not config.model.is_dir():
            raise ConfigError(
                f"model: {config.model} is not a directory; models are read from disk, none is downloaded"
            )
        self._model_dir = config.model
        self._tokenizer = Tokenizer.load(config.model)
        self._client = LocalClient(config, sinks)

    @property
    def ready(self) -> Ready:
        """What the engine serves and holds in memory."""
        return self._client.ready

    @property
    def stats(self) -> dict[str, Any]:
        """The engine's latest counters and gauges."""
        return self._client.stats

    def get_tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._tokenizer

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        use_tqdm: bool = True,
        cache_control: Control = None,
    ) -> list[RequestOutput]:
        """Complete prompts, all of them batched together; results are in the order of the prompts.

        Args:
            prompts: strings, ``{"prompt": text}`` or ``{"prompt_token_ids": ids}``; one or a list.
            sampling_params: one for all prompts or a list with one for each; ``SamplingParams()`` if None.
            use_tqdm: show a progress bar where stderr is a terminal.
            cache_control: how all these prompts' pages are to be kept, as in ``{"ttl": "1h", "pin": True}``.

        Raises:
            ParameterError: a prompt or parameter is not allowed; nothing was started.
            TypeError: ``prompts`` or ``sampling_params`` is none of these.
            RequestFailedError: the engine gave up on a request; the others were aborted.
        """
        encoded = [encode(prompt, self._tokenizer) for prompt in as_list(prompts)]
        requests = self._requests([ids for _, ids in encoded], sampling_params, cache_control)
        builders = [
            ResultBuilder(text, request, self._tokenizer) for (text, _), request in zip(encoded, requests, strict=True)
        ]
        with progress_bar("Generating", len(requests), show=use_tqdm) as advance:
            self._gather(requests, builders, advance)
        return [builder.result for builder in builders]

    def chat(
        self,
        messages: Messages | Sequence[Messages],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        use_tqdm: bool = True,
        chat_template: Path | None = None,
        add_generation_prompt: bool = True,
        cache_control: Control = None,
    ) -> list[RequestOutput]:
        """Answer one conversation or several, through the model's chat template or the file given.

        Raises:
            ConversationError: there is no template, or it does not take these messages.
            ChatTemplateError: ``chat_template`` cannot be read.
            ParameterError, RequestFailedError: as ``generate``.
        """
        template = ChatTemplate.load(self._model_dir, chat_template)
        prompts: list[Prompt] = []
        for conversation in _conversations(messages):
            text = template.render(conversation, add_generation_prompt=add_generation_prompt)
            prompts.append({"prompt_token_ids": self._tokenizer.encode(text, add_special_tokens=False)})
        return self.generate(prompts, sampling_params, use_tqdm, cache_control)

    def stream(self, prompt: Prompt, sampling_params: SamplingParams | None = None) -> Generator[Piece]:
        """Complete one prompt, piece by piece; choices are told apart by the pieces' index.

        Closing the iterator aborts; nothing else may run until then.
        """
        _, ids = encode(prompt, self._tokenizer)
        return self._pieces_of(self._requests([ids], sampling_params))

    def stream_chat(self, messages: Messages, sampling_params: SamplingParams | None = None) -> Generator[Piece]:
        """Answer one conversation, piece by piece; otherwise as ``stream``."""
        text = ChatTemplate.load(self._model_dir).render(messages)
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        return self._pieces_of(self._requests([ids], sampling_params))

    def close(self) -> None:
        """Free what the engine holds. Harmless when repeated."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _requests(
        self,
        prompts: list[list[int]],
        given: SamplingParams | Sequence[SamplingParams] | None,
        control: Control = None,
    ) -> list[Submit]:
        """Checked requests, none of them started."""
        params = params_for(len(prompts), given)
        build = self._client.builder.build
        return [build(ids, one, cache_control=control) for ids, one in zip(prompts, params, strict=True)]

    def _gather(self, requests: list[Submit], builders: list[ResultBuilder], advance: Advance) -> None:
        builder_of = {request.request_id: builder for request, builder in zip(requests, builders, strict=True)}
        with closing(self._pieces(requests)) as pieces:
            for output, piece in pieces:
                builder = builder_of[output.request.request_id]
                builder.add(output, piece)
                if piece.finish_reason is not None and builder.result.finished:
                    advance(1)

    def _pieces_of(self, requests: list[Submit]) -> Generator[Piece]:
        with closing(self._pieces(requests)) as pieces:
            for _, piece in pieces:
                yield piece

    def _pieces(self, requests: list[Submit]) -> Generator[tuple[Output, Piece]]:
        outputs = outputs_of(requests, self._tokenizer)
        with closing(self._client.run(requests)) as news:
            for delta in (delta for deltas in news for delta in deltas):
                output = outputs[delta.request_id]
                if output.finished:
                    continue
                piece = output.take(delta)
                if piece.finish_reason is not None and not delta.finish:
                    self._client.stop(delta.request_id)
                yield output, piece


def _conversations(messages: Messages | Sequence[Messages]) -> list[Messages]:
    """One conversation or several, told apart by the first item, as a list."""
    one = not messages or isinstance(messages[0], Mapping)
    return [cast(Messages, messages)] if one else list(cast(Sequence[Messages], messages))
