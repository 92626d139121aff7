"""Whether an engine can take a load's requests: said before anything is measured."""

from infergc.bench.workload import Load
from infergc.config import ConfigError

LENGTHS = "--input-len and --output-len"


def check_fits(load: Load, longest: int, flags: str) -> None:
    """Refuse requests that the engine cannot take.

    Args:
        load: of the requests.
        longest: tokens that one may have, prompt and output.
        flags: that set the load's lengths.

    Raises:
        ConfigError: naming these flags and the limit.
    """
    if load.input_len + load.output_len > longest:
        raise ConfigError(
            f"{flags}: {load.input_len} + {load.output_len} tokens are over the {longest} that one request may have; "
            "the model's context, --max-model-len, --memory and --kv-cache-memory set that limit"
        )
