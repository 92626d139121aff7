"""How the text of an answer that may call functions becomes a choice of a chat completion."""

import secrets
import string

from infergc.client import Piece
from infergc.server.answers.logprobs import chat_logprobs
from infergc.server.answers.responses import (
    CallChunk,
    CalledChunk,
    ChatChoice,
    ChatChunkChoice,
    ChatDelta,
    ChatMessage,
    FunctionCall,
    ToolCall,
)
from infergc.server.answers.shapes import ChatShape
from infergc.server.tools.turn import ToolTurn
from infergc.text.tools.calls import CallDelta, ToolDelta

_LETTERS = string.ascii_letters + string.digits
_ID_LETTERS = 24  # of ids that may have any length


class ToolShape(ChatShape):
    """POST /v1/chat/completions with tools: each choice's text is read on its own."""

    def __init__(self, turn: ToolTurn, choices: int) -> None:
        super().__init__(turn.tokenizer)
        self._turn = turn
        self._parsers = [turn.parser() for _ in range(choices)]

    def opening(self, index: int) -> ChatChunkChoice:
        """The assistant begins; whether it speaks is not known yet."""
        return ChatChunkChoice(index, ChatDelta(role="assistant"))

    def chunk(self, piece: Piece) -> ChatChunkChoice | None:
        """The choice of a chunk; None while it is not known what the text is."""
        news = self._read(piece)
        delta = ChatDelta()
        if news.content:
            delta.content = news.content
        if news.calls:
            delta.tool_calls = [self._call_chunk(call) for call in news.calls]
        logprobs = chat_logprobs(piece, self.tokenizer)
        if not (news.content or news.calls or logprobs or piece.finish_reason):
            return None
        return ChatChunkChoice(piece.index, delta, logprobs, self._finish_reason(piece), piece.stop_reason)

    def whole(self, piece: Piece) -> ChatChoice:
        """The choice of an unstreamed answer."""
        news = self._read(piece)
        message = ChatMessage(news.content)
        if news.calls:
            message.content = news.content or None
            message.tool_calls = [
                ToolCall(self._new_id(), FunctionCall(call.name or "", call.arguments)) for call in news.calls
            ]
        logprobs = chat_logprobs(piece, self.tokenizer)
        return ChatChoice(piece.index, message, logprobs, self._finish_reason(piece), piece.stop_reason)

    def _read(self, piece: Piece) -> ToolDelta:
        """What the piece tells; of several calls where one is allowed, the first."""
        news = self._parsers[piece.index].push(piece.text, last=piece.finish_reason is not None)
        if not self._turn.several:
            news.calls = [call for call in news.calls if call.index == 0]
        return news

    def _finish_reason(self, piece: Piece) -> str | None:
        called = self._parsers[piece.index].calls
        return "tool_calls" if called and piece.finish_reason == "stop" else piece.finish_reason

    def _call_chunk(self, call: CallDelta) -> CallChunk:
        if call.name is None:
            return CallChunk(call.index, CalledChunk(call.arguments))
        return CallChunk(call.index, CalledChunk(call.arguments, call.name), self._new_id(), "function")

    def _new_id(self) -> str:
        """An id of a call, such as the model's chat template takes when the conversation comes back."""
        length = self._turn.format.id_length
        drawn = "".join(secrets.choice(_LETTERS) for _ in range(length or _ID_LETTERS))
        return f"call_{drawn}" if length is None else drawn
