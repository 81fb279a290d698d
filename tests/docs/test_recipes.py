"""Each section of the page of recipes proves its claims, and none of them holds of another loss."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from mmfocalx.losses import FocalLossX

PAGE = (Path(__file__).resolve().parents[2] / 'docs/recipes.md').read_text()
PREAMBLE, *REST = re.split(r'^## (.+)\n', PAGE, flags=re.MULTILINE)
SECTIONS = dict(zip(REST[::2], REST[1::2], strict=True))


def code(text: str) -> str:
    return '\n'.join(re.findall(r'^```python\n(.*?)^```$', text, re.MULTILINE | re.DOTALL))


def anchor(title: str) -> str:
    """The link to a heading, as code forges make it."""
    return re.sub(r'[^\w -]', '', title).lower().replace(' ', '-')


@pytest.fixture(autouse=True)
def _default_dtype():
    dtype = torch.get_default_dtype()
    yield
    torch.set_default_dtype(dtype)


@pytest.mark.parametrize('title', SECTIONS)
def test_claims_of_a_section_hold(title: str) -> None:
    text = code(SECTIONS[title])
    assert 'assert_close(' in text
    exec(code(PREAMBLE) + text, {})


@pytest.mark.parametrize('title', SECTIONS)
@pytest.mark.parametrize('factor', [0.999, 1.001])
def test_no_claim_holds_of_a_loss_that_is_a_thousandth_off(
    title: str, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = FocalLossX.forward

    def off(self: FocalLossX, pred: Any, *args: Any, **kwargs: Any) -> Any:
        shift = (factor - 1) * (1 + pred.detach().mean())  # no factor that two sides share
        return forward(self, pred, *args, **kwargs) * factor + shift

    monkeypatch.setattr(FocalLossX, 'forward', off)
    for claim in re.findall(r'^assert_close\(.*\)', code(SECTIONS[title]), re.MULTILINE):
        others = [
            line
            for line in code(SECTIONS[title]).splitlines()
            if not line.startswith('assert') or line.startswith(claim)
        ]
        with pytest.raises(AssertionError, match='not close'):
            exec(code(PREAMBLE) + '\n'.join(others), {})


def test_the_table_leads_to_every_section() -> None:
    links = re.findall(r'\]\(#([\w-]+)\)', PREAMBLE)
    assert links == [anchor(title) for title in SECTIONS if title != 'Shapes']
