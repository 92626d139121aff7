"""The engine's client: checks requests, runs the engine in a process of its own, streams what comes back.

``EngineClient`` is asynchronous with the engine in its own process, and ``EngineSupervisor`` starts another where that
dies; ``LocalClient`` drives one in place.
"""

from infergc.client.engine import EngineClient, EngineDeadError, EngineStartError
from infergc.client.output import Output, Piece, QueueTimeoutError, RequestFailedError, outputs_of
from infergc.client.prepare import PromptError, RequestBuilder
from infergc.client.restarts import RestartBudget
from infergc.client.stream import RequestStream
from infergc.client.supervisor import EngineRestartingError, EngineStuckError, EngineSupervisor

__all__ = [
    "EngineClient",
    "EngineDeadError",
    "EngineRestartingError",
    "EngineStartError",
    "EngineStuckError",
    "EngineSupervisor",
    "Output",
    "Piece",
    "PromptError",
    "QueueTimeoutError",
    "RequestBuilder",
    "RequestFailedError",
    "RequestStream",
    "RestartBudget",
    "outputs_of",
]
