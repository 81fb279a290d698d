"""The charts of a sweep's report, as SVG in data URIs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmfocalx.plotting import AXIS_GREY, COLOURS, GREY, log_scale, wrapped
from mmfocalx.reporting.charts import Chart, draw, rows
from mmfocalx.sweep.findings import Findings
from mmfocalx.sweep.parameters import Parameter
from mmfocalx.sweep.slots import Slot

BLUE, ORANGE = COLOURS[:2]
_LABEL_WIDTH = 22


def charts_of(findings: Findings) -> Iterator[Chart]:
    """The charts that there is something to draw in."""
    if findings.best is None:
        return
    yield Chart(
        'History',
        'Each trial in the order in which it was drawn; the line is the best so far. Crosses: '
        'pruned, at their last mAP. Orange: the config as it is.',
        history,
    )
    if findings.importance:
        yield Chart(
            'Importance',
            'How much each parameter decides whether a trial is among the best (PED-ANOVA, '
            'Watanabe et al. 2023, arXiv 2304.10255); the shares add up to 100 %.',
            importance,
        )
    for parameter in findings.plan.space.parameters:
        yield Chart(
            f'Along {parameter.name}',
            f'{findings.plan.metric} of the complete trials; the others vary, too. Dark: later '
            'trials. Ringed: the best. Orange: the config as it is.',
            partial(along, parameter),
        )
    if any(len(slot.last.intermediate_values) > 1 for slot in findings.slots):
        yield Chart(
            'mAP while training',
            'First seed. Blue: the best; orange: the config as it is; dashed: pruned.',
            curves,
        )


def history(findings: Findings) -> str:
    """Values by number, and the best so far."""

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        complete, pruned = findings.with_state('complete'), findings.with_state('pruned')
        x, y = [slot.index for slot in complete], _values(complete)
        end = max(slot.index for slot in findings.slots)
        axes.step([*x, end], np.maximum.accumulate([*y, y[-1]]), where='post', color=GREY)
        axes.plot(x, y, linestyle='', marker='o', color=BLUE)
        axes.plot([s.index for s in pruned], _values(pruned), linestyle='', marker='x',
                  color=AXIS_GREY)  # fmt: skip
        _mark_default(axes, findings, lambda slot: slot.index)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel='trial', ylabel=f'{findings.plan.metric}, percent')

    return draw(plot)


def importance(findings: Findings) -> str:
    """The share of each parameter."""

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        names, shares = [*findings.importance], [100 * v for v in findings.importance.values()]
        axes.barh(range(len(names)), shares, height=0.6, color=BLUE)
        for k, share in enumerate(shares):
            axes.annotate(f'{share:.0f} %', (share, k), (4, 0), textcoords='offset points',
                          va='center', color=GREY)  # fmt: skip
        rows(axes, [wrapped(name, _LABEL_WIDTH) for name in names])
        axes.set(xlabel='importance, percent', xlim=(0, 1.15 * max(shares)))

    return draw(plot, height=0.9 + 0.4 * len(findings.importance))


def along(parameter: Parameter, findings: Findings) -> str:
    """Values of the trials along one parameter."""

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        shown = [s for s in findings.with_state('complete') if parameter.name in s.last.params]

        def place(slot: Slot) -> float:
            value = slot.last.params.get(parameter.name, np.nan)
            return parameter.choices.index(value) if parameter.choices else float(value)

        if parameter.choices:
            labels = [wrapped(choice, 14) for choice in parameter.choices]
            axes.set_xticks(range(len(labels)), labels)
            axes.set_xlim(-0.5, len(labels) - 0.5)
        else:
            axes.set_xlim(parameter.low, parameter.high)
        if parameter.kind == 'log':
            log_scale(axes, 'x')
        shades = np.linspace(0.35, 1, max(len(shown), 1))
        for slot, shade in zip(shown, shades, strict=False):
            axes.plot([place(slot)], _values([slot]), marker='o', color=BLUE, alpha=shade,
                      clip_on=False)  # fmt: skip
        if findings.best in shown:
            axes.plot([place(findings.best)], _values([findings.best]), marker='o', markersize=12,
                      color=GREY, fillstyle='none', clip_on=False)  # fmt: skip
        if findings.default in shown:
            _mark_default(axes, findings, place)
        axes.set(xlabel=parameter.name, ylabel=f'{findings.plan.metric}, percent')

    return draw(plot)


def curves(findings: Findings) -> str:
    """MAP while training."""

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        above = {findings.best: BLUE, findings.default: ORANGE}
        if findings.best is findings.default:
            above = {findings.best: ORANGE}
        for slot in findings.slots:
            steps = sorted(slot.last.intermediate_values)
            maps = [100 * slot.last.intermediate_values[step] for step in steps]
            pruned = slot in findings.with_state('pruned')
            axes.plot(
                steps,
                maps,
                color=above.get(slot, AXIS_GREY),
                linewidth=2 if slot in above else 0.9,
                zorder=3 if slot in above else 2,
                linestyle='--' if pruned else '-',
                marker='o' if len(steps) == 1 else None,
                markersize=3,
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=findings.plan.unit, ylabel='mAP, percent')

    return draw(plot)


def _values(slots: Sequence[Slot]) -> list[float]:
    return [100 * (slot.last.value or 0.0) for slot in slots]


def _mark_default(axes: Axes, findings: Findings, place: Callable[[Slot], float]) -> None:
    if findings.default is not None:
        axes.plot([place(findings.default)], _values([findings.default]), marker='D',
                  color=ORANGE, linestyle='', clip_on=False)  # fmt: skip
