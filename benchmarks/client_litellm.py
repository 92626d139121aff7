"""litellm against our server: whole and streamed answers, history, log probabilities, errors, by four of its providers.

    python benchmarks/client_litellm.py ENV [MODEL]

What is called, and what must come back, is in client_litellm_calls.py, which runs in litellm's environment.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from outside import SERVED, client
from serving import serving

CALLS = Path(__file__).with_name("client_litellm_calls.py")


def main() -> None:
    litellm = client(__doc__, "litellm")
    if litellm is None:
        return
    with serving(litellm.model, "--served-model-name", SERVED) as server, TemporaryDirectory() as into:
        print(litellm.run(CALLS, f"{server.url}/v1", SERVED, into=Path(into)), end="")


if __name__ == "__main__":
    main()
