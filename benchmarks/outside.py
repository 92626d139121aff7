"""What the runs of other people's clients share: the client's own environment, and a server for it.

Every such run is ``python benchmarks/client_NAME.py ENV [MODEL]``: ENV is a virtual environment in which the client is
installed, MODEL a model directory (the bundled one unless told). Nothing outside this machine is asked for: tokenizers
come from the model's directory. Where the client is not installed, that is said, and nothing runs.
"""

import argparse
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

DEMO = Path(__file__).parents[1] / "models" / "demo"
SERVED = "demo"  # the model's name at the server
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "OPENAI_API_KEY": "none"}  # fmt: skip

_FIND = """
import sys
from importlib.metadata import packages_distributions, version

found = packages_distributions().get(sys.argv[1])
print(version(found[0]) if found else "")
"""


@dataclass(frozen=True)
class Client:
    """A client in an environment of its own.

    Attributes:
        python: that environment's.
        model: the directory of the model to be served, absolute: clients run elsewhere.
        version: the client's.
    """

    python: Path
    model: Path
    version: str

    def run(self, *command: str | Path, into: Path) -> str:
        """Run ``python *command`` to its end, in a folder; returns what it printed on both streams.

        Raises:
            SystemExit: it failed; what it printed is shown.
        """
        whole = [self.python, *command]
        done = subprocess.run(whole, cwd=into, env=_environment(), text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{done.stdout}\n{' '.join(map(str, command))}: exit code {done.returncode}")
        return done.stdout


def client(about: str | None, module: str) -> Client | None:
    """Read the command line and look for the client by its module; None, and a line that says so, where it is not."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", type=Path)
    parser.add_argument("model", type=Path, nargs="?", default=DEMO)
    given = parser.parse_args()
    python = given.environment.absolute() / "bin" / "python"
    found = ""
    if python.is_file():
        look = [python, "-c", _FIND, module]
        found = subprocess.run(look, env=_environment(), text=True, capture_output=True, check=True).stdout
    if not found.strip():
        print(f"SKIPPED: {module} is not installed in {given.environment}")
        return None
    print(f"{module} {found.strip()}", flush=True)
    return Client(python, given.model.absolute(), found.strip())


def _environment() -> dict[str, str]:
    """Ours, without what would lead the client to our packages."""
    return {**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, **_OFFLINE}
