"""What a participant is asked to do, second by second: rest, pull once, follow a trapezoid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikewire.signals import InputError

# stage -> what the participant reads; the number is the effort asked for, % of the own maximum
WORDS = {
    "rest": "rest",
    "maximum": "as hard as you can",
    "up": "slowly up to {level:g} %",
    "hold": "hold {level:g} %, steady",
    "down": "slowly down",
}
RECORDED = ("up", "hold", "down")
LONGEST_S = 600.0


@dataclass(frozen=True)
class Stage:
    """One thing to do.

    Attributes
    ----------
    kind : str
        A key of WORDS.
    start_s, stop_s : float
        Since the first sample.
    """

    kind: str
    start_s: float
    stop_s: float


@dataclass(frozen=True)
class Plan:
    """A calibration's contractions.

    Attributes
    ----------
    level : float
        Effort to hold, % of the maximum.
    contractions : int
    hold_s, ramp_s, rest_s, maximum_s : float
        Zero leaves a stage out.
    """

    level: float = 20.0
    contractions: int = 1
    hold_s: float = 30.0
    ramp_s: float = 5.0
    rest_s: float = 3.0
    maximum_s: float = 3.0

    def __post_init__(self) -> None:
        """Refuse what nobody can do, and what no decoder can be made of."""
        limits = {"level": (1, 100), "contractions": (1, 20), "hold_s": (10, LONGEST_S),
                  "ramp_s": (0, 60), "rest_s": (0, 300), "maximum_s": (0, 10)}
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                option = f"--{name.removesuffix('_s')}"
                raise InputError(f"{option} is {getattr(self, name):g}, allowed is {low:g} to "
                                 f"{high:g}")

    def stages(self) -> list[Stage]:
        """Everything in its order."""
        first = [("rest", self.rest_s), ("maximum", self.maximum_s)] if self.maximum_s else []
        each = [("rest", self.rest_s), ("up", self.ramp_s), ("hold", self.hold_s),
                ("down", self.ramp_s)]
        made, at = [], 0.0
        for kind, seconds in [*first, *each * self.contractions, ("rest", self.rest_s)]:
            if seconds:
                made.append(Stage(kind, at, at + seconds))
                at += seconds
        return made

    @property
    def seconds(self) -> float:
        """Length of it all."""
        return self.stages()[-1].stop_s

    def at(self, t_s: float) -> Stage:
        """The stage of a moment; the last one afterwards."""
        stages = self.stages()
        return next((s for s in stages if t_s < s.stop_s), stages[-1])

    def target(self, t_s: float) -> float:
        """Effort asked for at a moment, % of the maximum."""
        stage = self.at(t_s)
        done = float(np.clip((t_s - stage.start_s) / (stage.stop_s - stage.start_s), 0, 1))
        return {"rest": 0.0, "maximum": 100.0, "up": self.level * done, "hold": self.level,
                "down": self.level * (1 - done)}[stage.kind]

    def words(self, t_s: float) -> str:
        """What to do now, and for how much longer."""
        stage = self.at(t_s)
        left = max(stage.stop_s - t_s, 0.0)
        return f"{WORDS[stage.kind].format(level=self.level)}   {left:.0f} s"

    def contractions_s(self) -> list[tuple[float, float]]:
        """Seconds from where each contraction begins to where it ends."""
        spans: list[tuple[float, float]] = []
        for stage in self.stages():
            if stage.kind in RECORDED:
                if spans and spans[-1][1] == stage.start_s:
                    spans[-1] = spans[-1][0], stage.stop_s
                else:
                    spans.append((stage.start_s, stage.stop_s))
        return spans

    def hold_out_s(self) -> tuple[float, float]:
        """The last quarter of the last hold: what the decoder is judged on and may not learn."""
        hold = [s for s in self.stages() if s.kind == "hold"][-1]
        return hold.stop_s - 0.25 * (hold.stop_s - hold.start_s), hold.stop_s


BARS = " ▁▂▃▄▅▆▇█"


def trace(plan: Plan, t_s: float, width: int, ahead_s: float = 10.0) -> str:
    """The target around now as a line of blocks: a third of the width is past, `ahead_s` come."""
    past = width // 3
    moments = t_s + (np.arange(width) - past) * ahead_s / (width - past)
    top = 1.25 * plan.level
    share = [min(plan.target(m) / top, 1.0) if 0 <= m < plan.seconds else 0.0 for m in moments]
    return "".join(BARS[round(s * (len(BARS) - 1))] for s in share)
