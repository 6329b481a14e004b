"""Predictive scaling: from a forecast of load to capacity, ahead of time.

After the EC2 Auto Scaling User Guide, "How predictive scaling works". The load metric is a total (CPU of all instances,
requests of the balancer); divided by the target for one instance it is a capacity. The forecast is a floor: it raises
the group and never lowers it, that is what dynamic policies are for. `buffer_s` looks that far ahead, so that what is
needed at ten is launched before ten.

Where the forecast nears the group's maximum: HonorMaxCapacity stops there; IncreaseMaxCapacity lifts the maximum to
forecast x (1 + buffer %), and as at AWS it stays lifted.

Where we differ: forecasts are refreshed every hour, not every six, and have a step of 15 minutes, not of an hour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from minicloud.scaling import limits
from minicloud.scaling.errors import invalid
from minicloud.scaling.forecast import Forecast
from minicloud.scaling.tracking import check_label, instances_for

MODES = ("ForecastOnly", "ForecastAndScale")
BREACHES = ("HonorMaxCapacity", "IncreaseMaxCapacity")
# The pairs of load and scaling metric that AWS has, and what the load is summed over.
PAIRS = ("ASGCPUUtilization", "ASGNetworkIn", "ASGNetworkOut", "ALBRequestCount")


class Floor(NamedTuple):
    """At least `capacity` now, under a maximum of `max_size`."""

    capacity: int
    max_size: int


@dataclass(frozen=True, slots=True)
class Predictive:
    """`pair` is a predefined pair of metrics, or "" with `customized` (load, scaling and capacity metrics)."""

    target: float
    pair: str = ""
    label: str = ""
    customized: dict[str, Any] | None = None
    mode: str = "ForecastOnly"
    buffer_s: int = 300  # API, SchedulingBufferTime: 300 by default
    breach: str = "HonorMaxCapacity"
    max_buffer_percent: int | None = None

    def check(self) -> None:
        """Raises InvalidParameterValue (ValidationError)."""
        if not (math.isfinite(self.target) and self.target > 0):
            raise invalid("TargetValue must be a number greater than 0", "predictive.target")
        if self.mode not in MODES:
            raise invalid(f"Mode must be one of {', '.join(MODES)}", "predictive.mode")
        if bool(self.pair) == (self.customized is not None):
            raise invalid("exactly one of a predefined metric pair and customized metrics is needed", "predictive.pair")
        if self.pair and self.pair not in PAIRS:
            raise invalid(f"PredefinedMetricType must be one of {', '.join(PAIRS)}", "predictive.pair")
        if self.pair == "ALBRequestCount":
            check_label(self.label, "predictive.label")
        if not 0 <= self.buffer_s <= limits.BUFFER_S_MAX:
            raise invalid(f"SchedulingBufferTime must be 0 to {limits.BUFFER_S_MAX}", "predictive.buffer_s")
        self._check_breach()

    def _check_breach(self) -> None:
        if self.breach not in BREACHES:
            raise invalid(f"MaxCapacityBreachBehavior must be one of {', '.join(BREACHES)}", "predictive.breach")
        if (self.max_buffer_percent is not None) != (self.breach == "IncreaseMaxCapacity"):
            raise invalid(
                "MaxCapacityBuffer is required with IncreaseMaxCapacity, and only allowed with it",
                "predictive.max_buffer",
            )
        if not 0 <= (self.max_buffer_percent or 0) <= limits.CAPACITY_BUFFER_PERCENT_MAX:
            raise invalid("MaxCapacityBuffer must be 0 to 100", "predictive.max_buffer")

    def needed(self, forecast: Forecast, now: float) -> int:
        """The capacity that the forecast asks for between now and the end of the buffer; 0 beyond its end."""
        load = forecast.most(now, now + self.buffer_s)
        return 0 if load is None else instances_for(load, self.target)

    def floor(self, forecast: Forecast, now: float, max_size: int) -> Floor | None:
        """None where the policy only forecasts, or its forecast does not reach this far."""
        if self.mode != "ForecastAndScale":
            return None
        needed = self.needed(forecast, now)
        if not needed:
            return None
        if self.breach == "IncreaseMaxCapacity":
            max_size = max(max_size, math.ceil(needed * (100 + (self.max_buffer_percent or 0)) / 100))
        return Floor(min(needed, max_size), max_size)

    def capacities(self, forecast: Forecast) -> list[int]:
        """For the caller who looks at a forecast: the capacity of each step, without bounds."""
        return [instances_for(load, self.target) for load in forecast.load]
