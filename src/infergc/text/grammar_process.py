"""A process that looks at grammars: ``python -m infergc.text.grammar_process VOCAB_SIZE``.

llguidance's own limits do not bound its time: of a schema of 1 KB with 24 patterns that must all match, it would work
for hours, in a call that nothing but the end of its process stops. So a server has grammars looked at here.

Lines of JSON: in, ``StructuredOutputs``; out, what is wrong with it, "" where nothing is, and one "" at the start.
A grammar that takes more than ``CPU_SECONDS`` ends the process by SIGPROF, one that takes more than ``MEMORY``
by another signal, or by an exit code. It leaves when its input ends, so it never outlives who asks.
"""

import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from infergc.field_errors import ParameterError
from infergc.structured_outputs import StructuredOutputs
from infergc.text.grammar import GrammarCheck

CPU_SECONDS = 0.25  # of processor time, which others on the machine do not use up; a thousand fields take up to 0.1
MEMORY = 1 << 28  # bytes of address space, beyond what the process takes before its first grammar


def main() -> int:
    """Look at grammars until there are no more; returns the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):  # of a group's processes the server decides when to end
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, whatever it is in
    check = GrammarCheck(int(sys.argv[1]))
    check.check(StructuredOutputs(regex="a"))  # the first takes longer than others
    _bound_memory()
    try:
        _serve(check, sys.stdin.buffer, sys.stdout.buffer)
    except MemoryError:
        return 1
    except BrokenPipeError:  # who asked has gone
        sys.stdout = None
    return 0


def _serve(check: GrammarCheck, asked: BinaryIO, answers: BinaryIO) -> None:
    decoder = msgspec.json.Decoder(StructuredOutputs)
    _say(answers, "")
    for line in asked:
        outputs = decoder.decode(line)
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        said = _look(check, outputs)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _say(answers, said)


def _look(check: GrammarCheck, outputs: StructuredOutputs) -> str:
    try:
        check.check(outputs)
    except ParameterError as error:
        return error.message
    return ""


def _say(answers: BinaryIO, said: str) -> None:
    answers.write(msgspec.json.encode(said) + b"\n")
    answers.flush()


def _bound_memory() -> None:
    """Where the system says how much it takes (Linux). A grammar that runs into it leaves no core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))


if __name__ == "__main__":
    sys.exit(main())
