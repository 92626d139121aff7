"""From what ``--device`` names to the cost of steps on it."""

from pathlib import Path

from infergc.config import ConfigError
from infergc.sim.calibration import CalibratedCost, Calibration, read_calibration
from infergc.sim.cost import CostModel, Roofline
from infergc.sim.devices import device_named
from infergc.sim.geometry import Geometry

_SUFFIX = ".json"


def is_calibration(device: str) -> bool:
    """Whether this names a file of ``infergc bench calibrate`` rather than a device of the data sheets."""
    return device.endswith(_SUFFIX) or Path(device).is_file()


def cost_on(device: str, model: Geometry) -> CostModel:
    """The cost of a model's steps on a device by name, or on the machine of a calibration file.

    Raises:
        ConfigError: there is no such device, the file cannot be used, or it is of another model.
    """
    if not is_calibration(device):
        return Roofline(model, device_named(device))
    calibration = read_calibration(Path(device))
    _check_same(calibration, model, device)
    return CalibratedCost(calibration.terms, calibration.model)


def kv_room(device: str, model: Geometry) -> int:
    """Bytes that a device has left for KV beside a model's weights.

    Raises:
        ConfigError: none; or a calibration file tells of the device, which says nothing of memory.
    """
    if is_calibration(device):
        raise ConfigError(f"--capacity: must be given with --device {device}, which says nothing of memory")
    return device_named(device).room_for_kv(model)


def _check_same(calibration: Calibration, model: Geometry, device: str) -> None:
    """Measured times hold for the shape that was measured."""
    measured, asked = calibration.model.shape, model.shape
    differ = [field for field in asked if measured[field] != asked[field]]
    if differ:
        words = "; ".join(f"{field} {measured[field]} there, {asked[field]} here" for field in differ)
        of_dtype = f"give --dtype {measured['dtype']}"
        remedy = of_dtype if differ == ["dtype"] else "run infergc bench calibrate for that model"
        raise ConfigError(
            f"--device: {device} was measured with {calibration.model.name}, which is not shaped as --model "
            f"{model.name} ({words}); {remedy}"
        )
