"""The offline API: ``LLM`` and its results."""

from infergc.llm.offline import LLM
from infergc.llm.results import CompletionOutput, Logprob, RequestOutput

__all__ = ["LLM", "CompletionOutput", "Logprob", "RequestOutput"]
