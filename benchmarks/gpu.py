"""All that is to be known of the engine on a GPU, by one command: builds, checks, measures, a table last, JSON.

    python benchmarks/gpu.py [--json gpu-benchmark.json] [--minutes 9.5] [--sections attention,transfers] [--traces DIR]
    python benchmarks/gpu.py --device cpu --quick      # tries the program itself; figures mean nothing

It runs from a bare checkout, without network: torch for CUDA, Triton and numpy suffice for kernels, transformers adds
the peers; what is missing skips what needs it, by name. Sections run in order of value, each in a process of its own,
and get a share of the time that is left. The exit status is 1 if a kernel's results differ from the reference or it was
not checked, a section broke off, or there is no GPU; 130 if it was interrupted before its end; and 0 otherwise,
whatever was missed or skipped. docs/gpu-benchmark.md says how each figure is measured.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests"), str(HERE)]  # a bare checkout: nothing is installed

from infergc.bench.gpu import child, stand_ins  # noqa: E402 - found where the line above says
from infergc.bench.gpu.campaign import Done, Interrupt, Planned, run_all  # noqa: E402
from infergc.bench.gpu.figure import left_out, not_run  # noqa: E402
from infergc.bench.gpu.record import Record  # noqa: E402
from infergc.bench.gpu.section import Setting  # noqa: E402
from infergc.bench.json_file import cannot_write, check_writable, write_json  # noqa: E402
from infergc.wording import counted, shown  # noqa: E402

JSON = "gpu-benchmark.json"  # in the current folder
SECTIONS = (  # the first are worth most
    Planned("checks", "gpu_sections.checks:measure", 16),
    Planned("attention", "gpu_sections.attention:measure", 9),
    Planned("engine-1b", "gpu_sections.throughput:measure_1b", 28),
    Planned("flashinfer", "gpu_sections.flashinfer:measure", 14),  # where it is not installed, those after get its time
    Planned("overhead", "gpu_sections.overhead:measure", 14),
    Planned("transfers", "gpu_sections.transfers:measure", 6),
    Planned("scenarios", "gpu_sections.scenarios:measure", 11),
    Planned("engine-8b", "gpu_sections.throughput:measure_8b", 18),
)


def main() -> int:
    args = arguments()
    if args.child:
        serve(args)
        return 0
    head = {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "commit": commit(), "device_asked_for": args.device}
    judged = args.device == "cuda" and not args.quick

    def told(done: list[Done]) -> None:
        lines = counted(len(done[-1].figures), "line")
        print(f"{done[-1].name}: {lines} in {done[-1].seconds:.0f} s", file=sys.stderr)
        print(done[-1].log, file=sys.stderr, end="")
        write_json(args.json, Record(head, judged, done).plain())  # what was measured stays, whatever ends this run

    interrupt = noted_interrupt()
    with tempfile.TemporaryDirectory(prefix="infergc-gpu-", dir=folder()) as scratch:
        started = partial(command, args, Path(scratch))
        done = run_all(args.sections, 60 * args.minutes, started, told, interrupt)
    record = Record(head, judged, done)
    if args.markdown is not None and record.about:
        with args.markdown.open("a", encoding="utf-8") as page:
            page.write("\n" + record.markdown())
    print(f"Every figure: {args.json}\n")
    print(record.text())
    if judged and record.status == 1 and not record.about:
        print("--device cpu --quick tries the program where there is no GPU.")
    return record.status


def noted_interrupt() -> Interrupt:
    """Have what ends a program note only that it has to end: then things are put in order."""
    interrupt = Interrupt()

    def note(*_: object) -> None:
        interrupt.asked = True

    for end in (signal.SIGINT, signal.SIGTERM):  # also as a background job, which would ignore the first
        signal.signal(end, note)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # no nohup: the terminal is gone
        signal.signal(signal.SIGHUP, note)
    return interrupt


def command(args: argparse.Namespace, scratch: Path, section: Planned, seconds: float) -> list[str]:
    """How this program runs one section."""
    print(f"{section.name}: at most {seconds:.0f} s ...", file=sys.stderr)
    flags = ["--device", args.device, *["--quick"] * args.quick, "--scratch", str(scratch), "--seconds", f"{seconds}"]
    traces = [] if args.traces is None else ["--traces", str(args.traces)]
    return [sys.executable, str(HERE / "gpu.py"), "--child", section.name, *flags, *traces]


def serve(args: argparse.Namespace) -> None:
    """Run one section, in the process that was started for it."""
    ends = monotonic() + args.seconds
    tell = child.teller()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # ninja may lie there
    os.environ |= {"HF_HUB_OFFLINE": "1", "USE_HUB_KERNELS": "NO"}  # transformers looks for nothing elsewhere
    os.environ.pop("TRITON_INTERPRET", None)
    if args.device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton
    names = stand_ins.install()
    section = next(each for each in SECTIONS if each.name == args.child)
    try:
        from gpu_sections.about import about, no_device
    except ModuleNotFoundError as error:
        missing = not_run("all", error)
        tell({"figure": asdict(missing), "ends_all": missing.skipped})
        return
    if reason := no_device(args.device):
        tell({"figure": asdict(left_out("all", reason)), "ends_all": reason})
        return
    tell({"about": {**about(args.device), "stand_ins": names}})
    child.run(section.home, Setting(args.device, args.quick, args.scratch, ends, args.traces), tell)


def commit() -> str:
    """Of the checkout; "" where there is no git."""
    try:
        told = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],  # noqa: S607 - whichever git there is
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return told.stdout.strip()


def folder() -> str | None:
    """The folder for models: in memory where there is plenty, else where the system keeps what is temporary."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder with a random name is made in it
    needed = 20 << 30
    if memory.is_dir():
        room = os.statvfs(memory)
        if room.f_bavail * room.f_frsize > needed:
            return str(memory)
    return None


def sections(text: str) -> list[Planned]:
    names = [name.strip() for name in text.split(",")]
    unknown = sorted(set(names) - {each.name for each in SECTIONS})
    if unknown:
        known = ", ".join(each.name for each in SECTIONS)
        raise argparse.ArgumentTypeError(f"there is no section {shown(unknown[0])}; there are {known}")
    return [each for each in SECTIONS if each.name in names]


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu tries the program, with --quick")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; figures mean nothing")
    parser.add_argument("--minutes", type=float, default=9.5, help="for everything, default 9.5")
    parser.add_argument(
        "--sections",
        type=sections,
        default=list(SECTIONS),
        help="names with commas between, of " + ", ".join(each.name for each in SECTIONS),
    )
    parser.add_argument(
        "--traces", type=Path, help="directory of recorded traces for the scenarios; else they are made"
    )
    parser.add_argument("--json", type=Path, default=Path(JSON), help=f"file for every figure, default {JSON}")
    parser.add_argument("--markdown", type=Path, help="page to append the table to")
    for name in ("--child", "--scratch", "--seconds"):  # how it calls itself
        kind = {"--child": str, "--scratch": Path, "--seconds": float}[name]
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    args = parser.parse_args(given)
    if args.child:  # what follows was looked at by whoever started it
        return args
    if not args.minutes > 0:
        parser.error(f"--minutes: {args.minutes:g} is not allowed; it must be > 0")
    if args.device == "cpu" and not args.quick:
        parser.error("--device cpu: tries the program, which goes with --quick; figures there mean nothing")
    if args.traces is not None and not args.traces.is_dir():
        parser.error(f"--traces: {args.traces} is no directory")
    for file in filter(None, (args.json, args.markdown)):
        try:
            check_writable(file)
        except OSError as error:
            parser.error(cannot_write(file, error))
    return args


if __name__ == "__main__":
    sys.exit(main())
