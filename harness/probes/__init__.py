"""What flows through a model: hooks that observe and change nothing."""

from harness.probes.flow import Flow
from harness.probes.massive import Massive
from harness.probes.measuring import measure
from harness.probes.moments import Moments, Thresholds
from harness.probes.nonfinite import first_nonfinite
from harness.probes.observation import Observation, Where
from harness.probes.observer import Observer
from harness.probes.sites import RESIDUAL, Site, Sites

__all__ = [
    "RESIDUAL",
    "Flow",
    "Massive",
    "Moments",
    "Observation",
    "Observer",
    "Site",
    "Sites",
    "Thresholds",
    "Where",
    "first_nonfinite",
    "measure",
]
