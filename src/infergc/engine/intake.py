"""From what clients submit to what the scheduler runs, and what is open under which name."""

from collections.abc import Iterator

import numpy as np

from infergc.engine.branching import beam_rules, check_branching
from infergc.engine.messages import Ready, Submit, choice_names
from infergc.engine.transcript import Choices, OpenChoice
from infergc.heap.group_root import GroupRoot
from infergc.heap.heap import Heap
from infergc.heap.nodes import Namespace
from infergc.heap.objects import TokenLog
from infergc.params import ParameterError
from infergc.sched.branches import release, with_branches
from infergc.sched.deadlines import Deadlines
from infergc.sched.request import Request, Status
from infergc.sched.search import BeamSearch, Hypothesis
from infergc.sched.sessions import Sessions
from infergc.sched.trials import Unit


class Intake:
    """The open requests, by the names of their choices.

    Args:
        ready: what the engine takes.
        namespace: of the prefix cache, without a tenant's salt.
        heap: holds what they compute.
        sessions: that they are turns of.
        deadlines: until when they may wait.
    """

    def __init__(self, ready: Ready, namespace: str, heap: Heap, sessions: Sessions, deadlines: Deadlines) -> None:
        self._ready = ready
        self._namespace = namespace
        self._heap = heap
        self._sessions = sessions
        self._deadlines = deadlines
        self._units: dict[str, Unit] = {}  # by name of the choice
        self._open: dict[str, list[str]] = {}  # request with several choices → names of those that are open
        self._request_of: dict[str, str] = {}  # and back
        self._arrivals = 0

    def refusal(self, submit: Submit) -> str:
        """Why a request cannot run, "" if it can. Clients check first; this guards the heap."""
        names = (submit.request_id, *choice_names(submit.request_id, submit.params.n))
        if submit.request_id in self._open or not self._units.keys().isdisjoint(names):
            return f"request_id: {submit.request_id!r} is running already"
        if not 0 < len(submit.prompt) < self._ready.max_model_len:
            return f"prompt: {len(submit.prompt)} tokens; 1 to {self._ready.max_model_len - 1} are allowed"
        ids = np.array(submit.prompt)  # of Python's integers if one takes more than 64 bits: compared all the same
        if not 0 <= ids.min() <= ids.max() < self._ready.vocab_size:
            return f"prompt: token ids must be 0 to {self._ready.vocab_size - 1}"
        if not 0 <= submit.public_tokens <= len(submit.prompt):
            return f"public_tokens: {submit.public_tokens} of a prompt of {len(submit.prompt)}"
        try:
            check_branching(submit.params, len(submit.prompt), self._ready)
        except ParameterError as error:
            return str(error)
        return ""

    def open(self, submit: Submit) -> Request:
        """Take a request that is not refused; returns what is to be scheduled first."""
        names = choice_names(submit.request_id, submit.params.n)
        first = self._first(submit, names[0])
        if submit.session:
            first.session = self._sessions.bind((submit.salt, submit.session), len(names))
        if submit.params.use_beam_search:
            rules = beam_rules(submit.params, len(submit.prompt), self._ready)
            search = BeamSearch(first, rules, names, GroupRoot(self._heap, names[0]))
            first = search.first
            first.cache_control = submit.cache_control
            self._units.update(dict.fromkeys(names, search))
        else:
            self._units.update(zip(names, with_branches(first, names), strict=True))
            first.cache_control = submit.cache_control  # of the request once, not of every branch
        self._arrivals += max(submit.params.width, len(names))
        if len(names) > 1:
            self._open[submit.request_id] = list(names)
            self._request_of.update(dict.fromkeys(names, submit.request_id))
        return first

    def reopen(self, choices: Choices) -> list[Request]:
        """Take a request that was open in an engine that failed; returns what is to be scheduled.

        Its choices go on from what was told of them, each for itself, those of a beam search from the beginning.
        """
        told = next(iter(choices.values()))
        first, names = self.open(told.request), choice_names(told.submit.request_id, told.submit.params.n)
        deadline = self._deadlines.after(told.submit.queue_timeout, told.second)
        if isinstance(first, Hypothesis):
            first.deadline = deadline
            return [first]
        requests = dict(zip(names, (first, *first.branches), strict=True))
        for name, request in requests.items():
            request.deadline = deadline
            if name in choices:
                _go_on(request, choices[name])
        if len(choices) == len(names) and not any(one.tokens for one in choices.values()):
            return [first]
        release(first)
        for name in names:
            if name not in choices:
                requests[name].status = Status.FINISHED
                self.close(name)
        return [requests[name] for name in choices]

    def started(self, name: str) -> int | None:
        """Prompt tokens of a choice that were found in the prefix cache; None if it has not been started, or ended."""
        unit = self._units.get(name)
        return (unit.first if isinstance(unit, BeamSearch) else unit).cached if unit is not None else None

    def unit(self, name: str) -> Unit | None:
        """What runs under the name of a choice."""
        return self._units.get(name)

    def names(self, request_id: str) -> list[str]:
        """The open choices of a request; a name that is not a request's own is taken for a choice's."""
        return list(self._open.get(request_id, (request_id,)))

    def close(self, name: str) -> None:
        """A choice has ended."""
        unit = self._units.pop(name)
        if unit.session is not None:
            self._sessions.release((unit.namespace.salt, unit.session.owner), unit.session)
        request_id = self._request_of.pop(name, None)
        if request_id is not None:
            self._open[request_id].remove(name)
            if not self._open[request_id]:
                del self._open[request_id]

    def __iter__(self) -> Iterator[str]:
        """The names of open choices."""
        return iter(list(self._units))

    def _first(self, submit: Submit, name: str) -> Request:
        params, prompt = submit.params, np.array(submit.prompt, np.int32)
        longest = self._ready.max_model_len
        return Request(
            name,
            self._arrivals,
            TokenLog(prompt),
            len(prompt),
            params,
            longest if params.max_tokens is None else min(longest, len(prompt) + params.max_tokens),
            Namespace(self._namespace, submit.salt, submit.public_tokens // self._heap.page_tokens),
            submit.priority,
            self._deadlines.after(submit.queue_timeout),
            stop_ids=frozenset(params.stop_token_ids),
        )


def _go_on(request: Request, choice: OpenChoice) -> None:
    """A request is to go on behind what was told of it."""
    request.tokens = TokenLog(np.append(request.tokens.view(), np.array(choice.tokens, np.int32)))
    request.computed = request.place.start
    request.cached, request.preemptions, request.told = choice.cached, choice.preemptions, choice.prompt_told


def names_of(unit: Unit) -> tuple[str, ...]:
    """The choices that end with it."""
    return unit.names if isinstance(unit, BeamSearch) else (unit.id,)


def cached_of(unit: Unit) -> int:
    """Prompt tokens that were found in the prefix cache."""
    return unit.cached or 0
