"""Workloads made up from a seed: one idea a file, a frozen dataclass of knobs. ``spec`` reads them from a line."""

from infergc.sim.workloads.agents import Agents
from infergc.sim.workloads.beams import Beams
from infergc.sim.workloads.chat import Chat
from infergc.sim.workloads.knobs import Workload, WorkloadError
from infergc.sim.workloads.rag import Rag
from infergc.sim.workloads.spec import KINDS, workload
from infergc.sim.workloads.system_prompts import SystemPrompts

__all__ = ["KINDS", "Agents", "Beams", "Chat", "Rag", "SystemPrompts", "Workload", "WorkloadError", "workload"]
