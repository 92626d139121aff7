"""The engine's client: checks requests, runs the engine in a process of its own, streams what comes back.

``EngineClient`` is asynchronous with the engine in its own process; ``LocalClient`` drives one in place.
"""

from infergc.client.engine import EngineClient, EngineDeadError, EngineStartError
from infergc.client.output import Output, Piece, QueueTimeoutError, RequestFailedError, outputs_of
from infergc.client.prepare import PromptError, RequestBuilder
from infergc.client.stream import RequestStream

__all__ = [
    "EngineClient",
    "EngineDeadError",
    "EngineStartError",
    "Output",
    "Piece",
    "PromptError",
    "QueueTimeoutError",
    "RequestBuilder",
    "RequestFailedError",
    "RequestStream",
    "outputs_of",
]
