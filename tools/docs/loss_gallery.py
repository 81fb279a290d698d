"""The gallery of the losses: a picture of each, and one of all."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from mmengine.config import Config
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from loss_curves import (
    BATCH_LOGITS,
    BATCH_QUALITIES,
    BCE,
    LINEAR_BELOW,
    LOGITS,
    QUALITIES,
    Curve,
    curves,
    examples,
    gradient_in_batch,
    has_curves,
    losses_in,
    samples,
)
from loss_page import OVERVIEW, file_name, loss_page, settings_of
from mmfocalx.losses.catalogue import classification_losses
from mmfocalx.plotting import AXIS_GREY, COLOURS, GREY, STYLE

P_TICKS = {-6.907: '0.001', -4.595: '0.01', -2.197: '0.1', 0: '0.5', 2.197: '0.9', 4.595: '0.99',
           6.907: '0.999'}  # fmt: skip
VALUE_TICKS = (0, 0.001, 0.01, 0.1, 1, 10)
GRADIENT_TICKS = (-1, -0.1, -0.01, -0.001, 0, 0.001, 0.01, 0.1, 1)
VALUE_LIMITS = (-2e-5, 30)
GRADIENT_LIMITS = (-10, 10)
NEGATIVE_COLOUR = '#000000'
BCE_STYLE: dict[str, Any] = {'linestyle': (0, (4, 2)), 'linewidth': 1.1, 'alpha': 0.75}
OVERVIEW_COLUMNS = 4
DPI = 100


def draw_loss(title: str, config: Mapping[str, Any], target: Path) -> None:
    """A picture of a loss: of its curves, or of its gradient in a batch."""
    if has_curves(config):
        shown = curves(config)
        states = {} if by_state(shown) else dict.fromkeys(c.state for c in shown if c.state)
        draw_curves(title, '; '.join([settings_of(config), *states]), shown, target)
    else:
        draw_batch(title, settings_of(config), gradient_in_batch(config), target)
    note_content(target, {title: config})


def draw_curves(title: str, settings: str, shown: Sequence[Curve], target: Path) -> None:
    """Value and gradient of a loss, for positives and for negatives, next to BCE."""
    references = curves(BCE)

    def plot(figure: Figure) -> None:
        write_title(figure, title, settings)
        panels = figure.subplots(2, 2, sharex=True, sharey='row', gridspec_kw={'wspace': 0.06})
        for column, positives in enumerate((True, False)):
            lines = [c for c in shown if (c.quality > 0) == positives]
            qualities = {c.quality for c in lines}
            for row, axes in enumerate(panels[:, column]):
                for curve in references:
                    if curve.quality in qualities:
                        colour = GREY if by_state(shown) else colour_of(curve)
                        axes.plot(LOGITS, curve[2 + row], color=colour, **BCE_STYLE)
                for curve in lines:
                    axes.plot(LOGITS, curve[2 + row], color=colour_of(curve, shown))
                scale(axes, row == 1)
            panels[0, column].set_title('positives' if positives else 'negatives', fontsize=10)
            panels[1, column].set_xlabel('probability p')
        panels[0, 0].set_ylabel('loss')
        panels[1, 0].set_ylabel('gradient d loss / d logit')
        keys = {label_of(c, shown): Line2D([], [], color=colour_of(c, shown)) for c in shown}
        keys['BCE'] = Line2D([], [], color=GREY, **BCE_STYLE)
        figure.legend(keys.values(), keys, loc='outside lower center', ncols=len(keys))

    save(plot, (7.6, 5.4), target)


def draw_batch(title: str, settings: str, gradient: NDArray[np.float64], target: Path) -> None:
    """The gradient of each prediction of a batch, next to BCE's."""
    bce = gradient_in_batch(BCE)

    def plot(figure: Figure) -> None:
        write_title(figure, title, settings)
        axes = figure.subplots()
        scale(axes, signed=True)
        axes.plot(BATCH_LOGITS, bce, 'o', markerfacecolor='none', markeredgecolor=GREY, label='BCE')
        for quality in (*QUALITIES, 0):
            chosen = np.array(BATCH_QUALITIES) == quality
            colour = COLOURS[QUALITIES.index(quality)] if quality else NEGATIVE_COLOUR
            axes.vlines(BATCH_LOGITS[chosen], 0, gradient[chosen], color=colour)
            axes.plot(
                BATCH_LOGITS[chosen], gradient[chosen], 'o', color=colour, label=f'y = {quality:g}'
            )
        axes.set_xlabel('probability p')
        axes.set_ylabel('gradient d loss / d logit')
        figure.legend(loc='outside lower center', ncols=2 + len(QUALITIES))

    save(plot, (7.6, 3.6), target)


def draw_overview(configs: Mapping[str, Mapping[str, Any]], target: Path) -> None:
    """The gradient of every loss that has curves, in the last of its states."""
    references = curves(BCE)
    shown = {title: curves(config) for title, config in configs.items()}
    rows = -(-len(shown) // OVERVIEW_COLUMNS)

    def plot(figure: Figure) -> None:
        panels = figure.subplots(rows, OVERVIEW_COLUMNS, sharex=True, sharey=True, squeeze=False)
        for k, axes in enumerate(panels.flat):
            axes.set_visible(k < len(shown))
            axes.tick_params(labelbottom=k + OVERVIEW_COLUMNS >= len(shown))
        for axes, (title, found) in zip(panels.flat, shown.items(), strict=False):
            last = [curve for curve in found if curve.state == found[-1].state]
            for curve in references:
                if curve.quality in (1, 0):
                    axes.plot(LOGITS, curve.gradient, color=colour_of(curve), **BCE_STYLE)
            for curve in last:
                axes.plot(LOGITS, curve.gradient, color=colour_of(curve))
            axes.set_title(', '.join(filter(None, (title, last[0].state))), fontsize=9)
            scale(axes, signed=True)
            axes.set_xticks([-4.595, 0, 4.595], ['0.01', '0.5', '0.99'])
        figure.supxlabel('probability p', fontsize=9)
        figure.supylabel('gradient d loss / d logit', fontsize=9)
        keys = {label_of(c): Line2D([], [], color=colour_of(c)) for c in references}
        keys['BCE at y = 1 and y = 0'] = Line2D([], [], color=GREY, **BCE_STYLE)
        figure.legend(keys.values(), keys, loc='outside upper center', ncols=len(keys))

    save(plot, (9.2, 0.9 + 2.0 * rows), target)
    note_content(target, configs)


def write_title(figure: Figure, title: str, settings: str) -> None:
    """The name of a loss, and under it its settings."""
    figure.suptitle(f'{title}\n', fontsize=12, fontweight='bold', x=0.01, ha='left')
    height = figure.get_size_inches()[1]
    figure.text(0.01, 1 - 0.3 / height, settings, fontsize=9, va='top', color=GREY)


def by_state(shown: Sequence[Curve]) -> bool:
    """Whether the curves differ in state, and not in quality."""
    return len({curve.state for curve in shown}) > 1


def colour_of(curve: Curve, shown: Sequence[Curve] = ()) -> str:
    """The colour of a quality, or of a state where the curves differ in that."""
    if by_state(shown):
        return COLOURS[list(dict.fromkeys(c.state for c in shown)).index(curve.state)]
    return COLOURS[QUALITIES.index(curve.quality)] if curve.quality else NEGATIVE_COLOUR


def label_of(curve: Curve, shown: Sequence[Curve] = ()) -> str:
    """What :func:`colour_of` tells apart."""
    return curve.state if by_state(shown) else f'y = {curve.quality:g}'


def scale(axes: Axes, signed: bool) -> None:
    """The axes of every picture: logarithmic in p and 1 - p, and above LINEAR_BELOW."""
    axes.set_yscale('asinh', linear_width=LINEAR_BELOW)
    axes.set_ylim(GRADIENT_LIMITS if signed else VALUE_LIMITS)
    ticks = GRADIENT_TICKS if signed else VALUE_TICKS
    axes.set_yticks(ticks, [f'{tick:g}' for tick in ticks])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlim(LOGITS[0], LOGITS[-1])
    axes.set_xticks(list(P_TICKS), list(P_TICKS.values()))
    if signed:
        axes.axhline(0, color=AXIS_GREY, linewidth=0.8, zorder=0.5)


def save(plot: Callable[[Figure], None], size: tuple[float, float], target: Path) -> None:
    """Write a small PNG."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout='constrained')
        plot(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format='png', dpi=DPI, metadata={'Software': None})
    Image.open(buffer).convert('RGB').quantize(64).save(target, optimize=True)


def note_content(target: Path, shown: Mapping[str, Mapping[str, Any]]) -> None:
    """Keep in a PNG what it shows, so that :func:`content_of` tells whether it is stale."""
    text = PngInfo()
    text.add_text('Content', json.dumps({title: samples(shown[title]) for title in shown}))
    with Image.open(target) as picture:
        picture.save(target, optimize=True, pnginfo=text)


def content_of(target: Path) -> dict[str, list[float]]:
    """The :func:`samples` of each loss that a picture shows, by its title."""
    with Image.open(target) as picture:
        content: dict[str, list[float]] = json.loads(picture.text['Content'])
    return content


def draw_config(path: Path, out: Path) -> list[Path]:
    """Draw the losses of a config file.

    Raises:
        ValueError: if it cannot be read, or there is none of this package in it.
    """
    try:
        config = Config.fromfile(path)
    except Exception as error:  # a config is a program
        raise ValueError(
            f'Expected argument `config` to be a config file that can be read, but got {path}: '
            f'{type(error).__name__}: {error}'
        ) from error
    found = dict(losses_in(config.get('model', {})))
    if not found:
        raise ValueError(
            f'Expected argument `config` to be one with a classification loss of this package '
            f'({", ".join(classification_losses())}), but found none in the model of {path}'
        )
    targets = []
    for name, config in found.items():
        targets.append(out / f'{name}.png')
        draw_loss(config['type'], config, targets[-1])
    return targets


def draw_gallery(out: Path) -> list[Path]:
    """Draw every registered loss, all in one picture, and the page that shows them."""
    shown = {k: v for name in classification_losses() for k, v in examples(name).items()}
    targets = [out / file_name(title) for title in shown]
    for target, (title, config) in zip(targets, shown.items(), strict=True):
        draw_loss(title, config, target)
    draw_overview({k: v for k, v in shown.items() if has_curves(v)}, out / OVERVIEW)
    page = out.with_name(f'{out.name}.md')
    page.write_text(loss_page(out.name))
    return [*targets, out / OVERVIEW, page]


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description='Draw value and gradient of the losses over p.')
    parser.add_argument(
        '--out', type=Path, required=True, metavar='DIR',
        help='folder for the pictures; the page that shows them all is DIR.md',
    )  # fmt: skip
    parser.add_argument(
        '--config', type=Path, help='draw the losses of this config instead of all registered ones'
    )
    args = parser.parse_args(arguments)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        targets = draw_config(args.config, args.out) if args.config else draw_gallery(args.out)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print('\n'.join(map(str, targets)))
    return 0
