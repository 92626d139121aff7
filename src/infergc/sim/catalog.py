"""Models by name: what their public config.json files say, so that none has to be at hand."""

from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from infergc.config import ConfigError
from infergc.sim.geometry import Geometry
from infergc.sim.hf_geometry import read_geometry
from infergc.wording import shown

_LLAMA3: dict[str, Any] = {"head_dim": 128, "vocab": 128256, "kv_heads": 8}
_LLAMA_1B = Geometry("llama-3.2-1b", 16, 2048, 32, 8, 64, 8192, 128256, 131072, tied=True)
_LLAMA_8B = Geometry("llama-3-8b", 32, 4096, 32, ffn=14336, max_len=8192, **_LLAMA3)
_LLAMA_70B = Geometry("llama-3-70b", 80, 8192, 64, ffn=28672, max_len=8192, **_LLAMA3)
_MISTRAL_V1 = Geometry("mistral-7b-v0.1", 32, 4096, 32, 8, 128, 14336, 32000, 32768, windows=(4096,) * 32)
_QWEN2_5: dict[str, Any] = {"head_dim": 128, "vocab": 152064, "max_len": 131072, "qkv_bias": True}
_QWEN2_5_SMALL: dict[str, Any] = {"vocab": 151936, "max_len": 32768, "qkv_bias": True, "tied": True}
_QWEN3: dict[str, Any] = {"kv_heads": 8, "head_dim": 128, "vocab": 151936, "max_len": 40960, "qk_norm": True}

_LISTED = (
    Geometry("llama-2-7b", 32, 4096, 32, 32, 128, 11008, 32000, 4096, dtype="float16"),
    Geometry("llama-2-13b", 40, 5120, 40, 40, 128, 13824, 32000, 4096, dtype="float16"),
    Geometry("llama-2-70b", 80, 8192, 64, 8, 128, 28672, 32000, 4096, dtype="float16"),
    _LLAMA_8B,
    _LLAMA_70B,
    replace(_LLAMA_8B, name="llama-3.1-8b", max_len=131072),
    replace(_LLAMA_70B, name="llama-3.1-70b", max_len=131072),
    Geometry("llama-3.1-405b", 126, 16384, 128, ffn=53248, max_len=131072, **_LLAMA3),
    _LLAMA_1B,
    Geometry("llama-3.2-3b", 28, 3072, 24, ffn=8192, max_len=131072, tied=True, **_LLAMA3),
    _MISTRAL_V1,
    replace(_MISTRAL_V1, name="mistral-7b", vocab=32768, windows=()),  # v0.3
    Geometry("qwen2.5-0.5b", 24, 896, 14, 2, 64, 4864, **_QWEN2_5_SMALL),
    Geometry("qwen2.5-1.5b", 28, 1536, 12, 2, 128, 8960, **{**_QWEN2_5_SMALL, "max_len": 131072}),
    Geometry("qwen2.5-3b", 36, 2048, 16, 2, 128, 11008, **_QWEN2_5_SMALL),
    Geometry("qwen2.5-7b", 28, 3584, 28, 4, ffn=18944, **_QWEN2_5),
    Geometry("qwen2.5-14b", 48, 5120, 40, 8, ffn=13824, **_QWEN2_5),
    Geometry("qwen2.5-32b", 64, 5120, 40, 8, ffn=27648, **_QWEN2_5),
    Geometry("qwen2.5-72b", 80, 8192, 64, 8, ffn=29568, **_QWEN2_5),
    Geometry("qwen3-0.6b", 28, 1024, 16, ffn=3072, tied=True, **_QWEN3),
    Geometry("qwen3-1.7b", 28, 2048, 16, ffn=6144, tied=True, **_QWEN3),
    Geometry("qwen3-4b", 36, 2560, 32, ffn=9728, tied=True, **_QWEN3),
    Geometry("qwen3-8b", 36, 4096, 32, ffn=12288, **_QWEN3),
    Geometry("qwen3-14b", 40, 5120, 40, ffn=17408, **_QWEN3),
    Geometry("qwen3-32b", 64, 5120, 64, ffn=25600, **_QWEN3),
)
MODELS = {geometry.name: geometry for geometry in _LISTED}


def geometry_named(model: str | Path) -> Geometry:
    """The geometry of a model known by name, of a model directory, or of a config.json.

    Raises:
        ConfigError: it is none of these, or the file does not describe a model that is simulated.
    """
    known = MODELS.get(str(model).lower())
    if known is not None:
        return known
    path = Path(model)
    if model and path.exists():
        return read_geometry(path)
    raise ConfigError(f"--model: {unknown(str(model), MODELS, 'a directory or a config.json')}")


def unknown(name: str, known: dict[str, Any], otherwise: str) -> str:
    """What is said of a name that is not known: the nearest ones, all of them, and what else may be given."""
    longer = [other for other in known if name and other.startswith(name.lower())]
    near = longer or get_close_matches(name.lower(), known, 3, cutoff=0.5)
    guess = f"; did you mean {' or '.join(near)}?" if near else "."
    return f"{name or shown(name)} is not known{guess} Give {otherwise}, or one of: {', '.join(known)}"
