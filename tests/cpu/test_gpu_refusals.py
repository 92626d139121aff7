"""What is refused of a GPU, or for want of one, before anything is loaded."""

import pytest
import torch

from infergc.config import ConfigError, engine_config
from infergc.worker.factory import wants_gpu


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not wants_gpu(engine_config(model="."))
    assert not wants_gpu(engine_config(model=".", device="cpu"))
    for version, built in ((None, "the CPU"), ("13.0", "CUDA 13.0")):
        monkeypatch.setattr(torch.version, "cuda", version)
        with pytest.raises(ConfigError, match=rf"^--device: torch, built for {built}, finds no NVIDIA GPU here"):
            wants_gpu(engine_config(model=".", device="cuda"))


@pytest.mark.parametrize("device", ["auto", "cuda"])
@pytest.mark.parametrize("name", ["deterministic", "heap_debug"])
def test_what_only_the_cpu_keeps(name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    flag = "--" + name.replace("_", "-")
    with pytest.raises(ConfigError, match=rf"^{flag}: is kept on the CPU alone; add --device cpu$"):
        wants_gpu(engine_config(model=".", device=device, **{name: True}))
    assert not wants_gpu(engine_config(model=".", device="cpu", **{name: True}))
    assert wants_gpu(engine_config(model=".", device=device))
