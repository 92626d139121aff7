"""Sessions under the simulated executor: what they keep, what they give up, what counts alone would leave behind."""

import pytest

from infergc.engine.loop import Engine
from infergc.engine.messages import Abort, Ask, Submit
from infergc.params import SamplingParams
from samples.engines import Results, make_engine, run

PAGE = 16


def turn(name: str, prompt: list[int], session: str = "chat", salt: str = "", **params: object) -> Submit:
    return Submit(name, prompt, SamplingParams(seed=1, **{"max_tokens": 8, **params}), 0, salt, session)


def text(pages: int, first: int = 0) -> list[int]:
    return [(first + at) % 50 for at in range(pages * PAGE)]


def pages(engine: Engine, state: str) -> int:
    return sum(getattr(group, state) for group in engine.heap.stats())


def close(engine: Engine, session: str = "chat", reason: str = "asked", salt: str = "") -> str:
    about = {"salt": salt, "session": session, "reason": reason}
    (answer,) = engine.step([Ask(1, "close_session", about)]).answers
    assert not answer.error
    return answer.value


def at_rest(engine: Engine) -> None:
    """Nothing but open sessions holds anything, and nothing is wrong."""
    engine.heap.check()
    (answer,) = engine.step([Ask(9, "verify")]).answers
    assert answer.value == ""
    assert pages(engine, "in_transit") == 0


@pytest.mark.parametrize("depth", [1, 2])
def test_a_turn_is_kept_until_its_session_is_closed(depth: int) -> None:
    engine = make_engine(pipeline_depth=depth)
    run(engine, [turn("a", text(4))])
    assert (pages(engine, "live"), len(engine.scheduler.sessions)) == (4, 1)
    assert engine.heap.holder.max() == -1, "it has no slot"
    assert close(engine) == "closed"
    assert (pages(engine, "live"), pages(engine, "cached")) == (0, 4)
    assert close(engine) == "unknown"
    assert engine.scheduler.sessions.closed == {"asked": 1}
    at_rest(engine)


def test_the_next_turn_takes_the_place_of_the_last() -> None:
    engine = make_engine()
    prompt = text(4)
    for number in range(3):
        results = run(engine, [turn(f"t{number}", prompt)])
        prompt = prompt + results.tokens[f"t{number}"] + text(1, number)
        assert number == 0 or results.cached[f"t{number}"] >= 4 * PAGE
    held = pages(engine, "live")
    assert held == (len(prompt) - PAGE - 1) // PAGE, "one turn is held, the last"
    parked = [sequence for sequence in engine.heap.sequences.values() if sequence.slot < 0]
    assert len(parked) == 1
    at_rest(engine)


def test_what_a_session_keeps_survives_a_flood_that_evicts_all_else() -> None:
    engine = make_engine(pages=32)
    run(engine, [turn("a", text(8)), turn("plain", text(8, 20), session="")])
    for number in range(20):
        run(engine, [turn(f"f{number}", text(16, number), session="", max_tokens=1)])
    results = run(engine, [turn("b", [*text(8), 1]), turn("plain2", [*text(8, 20), 1], session="")])
    assert results.cached["b"] == 8 * PAGE
    assert results.cached["plain2"] < 8 * PAGE


def test_sessions_that_rest_give_way_before_anyone_waits_or_is_preempted() -> None:
    engine = make_engine(pages=32)
    for number in range(3):
        run(engine, [turn(f"s{number}", text(8, 10 * number), session=f"s{number}")])
    assert pages(engine, "live") == 24
    results = run(engine, [turn("big", text(20, 3), session="", max_tokens=64)])
    assert len(results.tokens["big"]) == 64
    assert engine.scheduler.counters.preemptions == 0
    assert engine.scheduler.sessions.closed["memory"] >= 2
    assert "s2" in {session.owner for session in engine.heap.graph.rooted.values()}, "the last used goes last"
    at_rest(engine)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_session_closed_while_its_request_runs_is_a_cycle_that_is_found_when_it_ends(depth: int) -> None:
    engine = make_engine(pipeline_depth=depth)
    engine.step([turn("a", text(4), max_tokens=30)])
    assert close(engine, reason="idle") == "busy"
    assert close(engine) == "closed"
    results = run(engine, [])
    assert results.finish["a"] == "length"
    assert engine.heap.counters.cycles == 1
    assert (pages(engine, "live"), len(engine.heap.graph.objects)) == (0, 0)
    at_rest(engine)


def test_without_the_collector_a_dropped_session_leaks() -> None:
    engine = make_engine(gc="off")
    for number in range(4):
        engine.step([turn(f"r{number}", text(4, number), max_tokens=30)])
        close(engine)
        run(engine, [])
    assert pages(engine, "live") >= 16
    assert len(engine.heap.graph.objects) == 8
    assert len(engine.scheduler.sessions) == 0


@pytest.mark.parametrize("depth", [1, 2])
def test_an_aborted_turn_goes_at_once_and_leaves_the_turn_before(depth: int) -> None:
    engine = make_engine(pipeline_depth=depth)
    run(engine, [turn("a", text(4))])
    engine.step([turn("b", text(12, 7), max_tokens=30)])
    engine.step()
    engine.step([Abort("b")])
    run(engine, [])
    assert pages(engine, "live") == 4
    at_rest(engine)


def test_a_preempted_turn_comes_back_to_its_session() -> None:
    engine = make_engine(pages=12, max_num_seqs=4)
    turns = [turn(f"t{at}", text(3, 10 * at), session=f"s{at}", max_tokens=60) for at in range(3)]
    results = run(engine, turns)
    assert engine.scheduler.counters.preemptions > 0
    assert all(len(tokens) == 60 for tokens in results.tokens.values())
    for at in range(3):
        close(engine, f"s{at}")
    assert pages(engine, "live") == 0
    at_rest(engine)


def test_tenants_do_not_share_sessions() -> None:
    engine = make_engine()
    run(engine, [turn("a", text(4), salt="x"), turn("b", text(4), salt="y")])
    assert len(engine.scheduler.sessions) == 2
    assert close(engine, salt="x") == "closed"
    assert close(engine, salt="x") == "unknown"
    assert pages(engine, "live") == 4


def test_more_sessions_than_may_be_open_close_the_least_recently_used() -> None:
    engine = make_engine(max_sessions=2)
    for name in ("a", "b", "a", "c"):
        run(engine, [turn(f"{name}{engine.counters.steps}", text(2), session=name)])
    assert engine.scheduler.sessions.closed == {"limit": 1}
    assert close(engine, "b") == "unknown"
    assert close(engine, "a") == "closed"


@pytest.mark.parametrize("depth", [1, 2])
def test_choices_and_beams_of_a_session_come_to_rest(depth: int) -> None:
    engine = make_engine(pipeline_depth=depth)
    beams = {"use_beam_search": True, "n": 3, "temperature": 0}
    results = Results()
    results.take(engine.step([turn("n", text(3), n=4), turn("b", text(3, 9), **beams)]).news())
    results.take_all(run(engine, []))
    close(engine)
    run(engine, [])
    assert pages(engine, "live") == 0
    assert not engine.heap.graph.objects
    at_rest(engine)


@pytest.mark.parametrize("pages", [64, 20])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_request_that_waits_for_a_cancelled_search_starts_when_it_is_collected(depth: int, pages: int) -> None:
    """Until then the search's hypotheses hold every slot, and most of the memory."""
    engine = make_engine(pages=pages, max_num_seqs=4, pipeline_depth=depth)
    beams = {"use_beam_search": True, "n": 4, "temperature": 0, "max_tokens": 30}
    engine.step([turn("b", text(8), session="", **beams)])
    for _ in range(20):
        engine.step()
    outputs = engine.step([Abort("b"), turn("x", text(16, 3), session="")])
    assert {delta.finish for delta in outputs.deltas} == {"abort"}
    assert len(run(engine, []).tokens["x"]) == 8
    at_rest(engine)


def test_sessions_are_given_up_for_memory_only() -> None:
    """Not when a slot is missing, nor while a hypothesis waits for the one that it will fork from."""
    engine = make_engine(max_num_seqs=4)
    run(engine, [turn("kept", text(4))])
    beams = {"use_beam_search": True, "n": 3, "temperature": 0, "max_tokens": 20}
    plain = [turn(f"p{at}", text(2, at), session="", max_tokens=4 + 3 * at) for at in range(4)]
    run(engine, [*plain, turn("b", text(2, 9), session="", **beams), turn("q", text(1), session="")])
    assert engine.scheduler.sessions.closed == {}
    assert len(engine.scheduler.sessions) == 1


# ---- requests of sessions that wait, are preempted, or outlive their session


def waiting(depth: int) -> Engine:
    """An engine in which a request of the session waits for the only slot."""
    engine = make_engine(max_num_seqs=1, pipeline_depth=depth)
    engine.step([turn("first", text(2), session="", max_tokens=30), turn("a", text(4, 7))])
    assert [request.id for request in engine.scheduler.waiting] == ["a"]
    return engine


CROWD = [turn(f"t{at}", text(3, 10 * at), session=f"t{at}", max_tokens=60) for at in range(3)]
VICTIM = "t2"  # is the one to be preempted, in 12 pages


def crowded(depth: int, *, until_preempted: bool) -> Engine:
    """An engine in which too many requests run, each of a session of the same name."""
    engine = make_engine(pages=12, max_num_seqs=4, pipeline_depth=depth, admission_policy="page-each")
    engine.step(CROWD)
    while len(engine.scheduler.running) < len(CROWD):
        engine.step()
    assert not engine.scheduler.counters.preemptions
    while until_preempted and not engine.scheduler.counters.preemptions:
        engine.step()
    assert [request.id for request in engine.scheduler.waiting] == [VICTIM] * until_preempted
    return engine


def nothing_left(engine: Engine) -> None:
    """As if there had been no session."""
    at_rest(engine)
    assert len(engine.scheduler.sessions) == 0
    assert pages(engine, "live") == 0
    assert not engine.heap.graph.objects


@pytest.mark.parametrize("depth", [1, 2])
def test_a_session_is_not_idle_while_its_request_waits(depth: int) -> None:
    engine = waiting(depth)
    assert close(engine, reason="idle") == "busy"
    assert len(run(engine, []).tokens["a"]) == 8
    assert pages(engine, "live") == 4
    assert close(engine, reason="idle") == "closed"
    nothing_left(engine)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_session_is_not_idle_while_its_request_is_preempted(depth: int) -> None:
    engine = crowded(depth, until_preempted=True)
    assert close(engine, VICTIM, reason="idle") == "busy"
    assert run(engine, []).finish[VICTIM] == "length"
    assert close(engine, VICTIM, reason="idle") == "closed"


@pytest.mark.parametrize("depth", [1, 2])
def test_a_session_deleted_while_its_request_waits_stays_deleted(depth: int) -> None:
    engine = waiting(depth)
    assert close(engine) == "closed"
    results = run(engine, [])
    assert results.tokens["a"] == run(make_engine(), [turn("a", text(4, 7))]).tokens["a"]
    assert engine.scheduler.sessions.closed == {"asked": 1}
    nothing_left(engine)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("deleted_first", [True, False])
def test_a_session_deleted_around_a_preemption_stays_deleted(deleted_first: bool, depth: int) -> None:
    engine = crowded(depth, until_preempted=not deleted_first)
    assert close(engine, VICTIM) == "closed"
    results = run(engine, [])
    assert engine.scheduler.counters.preemptions > 0
    assert results.finish[VICTIM] == "length"
    told = results.tokens[VICTIM]
    assert told == run(make_engine(), [CROWD[2]]).tokens[VICTIM][-len(told) :]
    assert close(engine, VICTIM) == "unknown"
    for one in CROWD:
        close(engine, one.session)
    nothing_left(engine)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_session_deleted_and_opened_anew_is_another(depth: int) -> None:
    """The request of the old one runs to its end beside it, and does not take the place of the new one's turn."""
    engine = make_engine(pipeline_depth=depth)
    engine.step([turn("old", text(6), max_tokens=40)])
    assert close(engine) == "closed"
    results = run(engine, [turn("new", text(3, 20))])
    assert results.finish == {"old": "length", "new": "length"}
    assert (pages(engine, "live"), len(engine.scheduler.sessions)) == (3, 1)
    assert close(engine) == "closed"
    nothing_left(engine)


@pytest.mark.parametrize("depth", [1, 2])
def test_what_a_deleted_session_has_parked_stands_in_nobodys_way(depth: int) -> None:
    """Its turn before, and that of a second request which ends after the deletion, while a third needs the memory."""
    engine = make_engine(pages=12, pipeline_depth=depth)
    run(engine, [turn("before", text(3), max_tokens=1)])
    engine.step([turn("short", text(3, 20), max_tokens=4), turn("long", text(2, 30), max_tokens=140)])
    assert close(engine) == "closed"
    results = run(engine, [])
    assert results.finish["long"] == "length"
    nothing_left(engine)


def test_a_session_with_a_request_gives_up_its_turn_before_but_stays_open() -> None:
    engine = make_engine(pages=12)
    run(engine, [turn("before", text(6), max_tokens=1)])
    run(engine, [turn("now", text(3, 20), max_tokens=100)])
    assert engine.scheduler.sessions.closed == {}
    assert pages(engine, "live") == (3 * PAGE + 99) // PAGE
    assert close(engine) == "closed"
    nothing_left(engine)


def test_too_many_sessions_close_idle_ones_first() -> None:
    engine = make_engine(max_sessions=2)
    engine.step([turn("a", text(2), session="a", max_tokens=30)])
    engine.step([turn("b", text(2, 9), session="b", max_tokens=1)])
    engine.step([turn("c", text(2, 20), session="c", max_tokens=1)])
    run(engine, [])
    assert [close(engine, name) for name in ("a", "b", "c")] == ["closed", "unknown", "closed"]


# ---- beam searches


BEAMS = {"use_beam_search": True, "n": 3, "temperature": 0, "max_tokens": 20}


@pytest.mark.parametrize("depth", [1, 2])
def test_a_session_keeps_the_best_text_of_a_beam_search(depth: int) -> None:
    engine = make_engine(pages=32, pipeline_depth=depth)
    engine.step([turn("b", text(4), **BEAMS)])
    engine.step()
    assert close(engine, reason="idle") == "busy"
    best = run(engine, []).tokens["b#0"]
    assert len(best) == 20
    full = (4 * PAGE + 19) // PAGE
    assert pages(engine, "live") == full
    for number in range(20):
        run(engine, [turn(f"f{number}", text(16, number), session="", max_tokens=1)])
    assert run(engine, [turn("next", [*text(4), *best, 1])]).cached["next"] == full * PAGE
    assert close(engine) == "closed"
    nothing_left(engine)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("deleted", [True, False])
def test_a_cancelled_search_leaves_the_turn_before(deleted: bool, depth: int) -> None:
    engine = make_engine(pipeline_depth=depth)
    run(engine, [turn("before", text(4))])
    engine.step([turn("b", text(6, 20), **BEAMS)])
    for _ in range(5):
        engine.step()
    if deleted:
        assert close(engine) == "closed"
    engine.step([Abort("b")])
    run(engine, [])
    if not deleted:
        assert pages(engine, "live") == 4
        assert close(engine) == "closed"
    nothing_left(engine)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("gc", ["on", "off"])
def test_a_request_alone_never_waits_for_the_collector(gc: str, depth: int) -> None:
    """What a session gave up is a candidate for garbage: before a request that is alone is refused, somebody looks."""
    engine = make_engine(pages=12, gc=gc, pipeline_depth=depth)
    run(engine, [turn("a", text(6))])
    results = Results()
    results.take(engine.step([turn("b", text(3, 7), session="", max_tokens=100)]).news())
    for _ in range(400):
        results.take(engine.step().news())
    assert results.finish == {"b": "length"}
    assert not engine.has_work()
    assert len(engine.scheduler.sessions) == 0


@pytest.mark.parametrize("depth", [1, 2])
def test_a_turn_that_a_stop_string_ended_is_kept(depth: int) -> None:
    """The client finds it in the text, a few tokens late: what was computed since is in nobody's way."""
    engine = make_engine(pages=32, pipeline_depth=depth)
    run(engine, [turn("before", text(1, 40))])
    results = Results()
    results.take(engine.step([turn("a", text(4), max_tokens=100)]).news())
    while len(results.tokens.get("a", [])) < 40:
        results.take(engine.step().news())
    told = results.tokens["a"]
    results.take(engine.step([Abort("a", stopped=True)]).news())
    results.take_all(run(engine, []))
    assert results.finish["a"] == "stop"
    assert engine.counters.finished == {"length": 1, "stop": 1}
    assert pages(engine, "live") == (4 * PAGE + len(told)) // PAGE, "in place of the turn before"
    for number in range(20):
        run(engine, [turn(f"f{number}", text(8, number), session="", max_tokens=1)])
    assert run(engine, [turn("b", [*text(4), *told[:20], 1])]).cached["b"] == 4 * PAGE + 20
    assert close(engine) == "closed"
    nothing_left(engine)


@pytest.mark.parametrize("depth", [1, 2])
def test_choices_that_stop_strings_end_are_kept_as_finished_ones_are(depth: int) -> None:
    """The last to end is kept, and what was abandoned is not."""
    engine = make_engine(pipeline_depth=depth)
    engine.step([turn("a", text(4), n=3, max_tokens=100)])
    for _ in range(30):
        engine.step()
    for ending in (Abort("a#2", stopped=True), Abort("a#0", stopped=True), Abort("a")):
        engine.step([ending])
    run(engine, [])
    assert engine.counters.finished == {"stop": 2, "abort": 1}
    (kept,) = engine.heap.sequences.values()
    assert (kept.owner, kept.slot) == ("a#0", -1)
    close(engine)
    nothing_left(engine)
