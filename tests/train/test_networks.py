"""Properties of the networks that hold for any weights."""

import numpy as np
import pytest
import torch

from models.networks import (
    INPUTS_OF,
    LOG_RATIO_LIMITS,
    OUTPUTS_OF,
    NetworkError,
    make_network,
    set_normalisation,
    two_views,
)

N = 60


def inputs(name: str, n_variables: int = 5, seed: int = 1) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    everything = {
        "variables": torch.randn(N, n_variables, generator=rng),
        "image": torch.rand(N, 14, 22, generator=rng),
        "stk": torch.rand(N, 6, 4, generator=rng),
        "stk_mask": (torch.arange(N) % 3 > 0).float()[:, None],
    }
    return [everything[n] for n in INPUTS_OF[name]]


@pytest.fixture(params=sorted(INPUTS_OF))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_one_answer_per_event(name: str) -> None:
    torch.manual_seed(1)
    network = make_network(name, 5).eval()
    with torch.inference_mode():
        outputs = network(*inputs(name))
        half = network(*(x[:20] for x in inputs(name)))
        empty = network(*(x[:0] for x in inputs(name)))
    assert len(outputs) == len(OUTPUTS_OF[name])
    for output, part, none in zip(outputs, half, empty, strict=True):
        assert output.shape[0] == N
        assert none.shape[0] == 0
        assert torch.isfinite(output).all()
        assert torch.allclose(output[:20], part, atol=1e-5)


def test_normalisation_is_inside(name: str) -> None:
    """Scaled and shifted inputs with the scaled and shifted normalisation give the same answer."""
    torch.manual_seed(2)
    network = make_network(name, 5).eval()
    x = dict(zip(INPUTS_OF[name], inputs(name), strict=True))
    statistics = {
        "variables": (np.zeros(5), np.ones(5)),
        "image": (np.zeros(1), np.ones(1)),
        "stk": (np.zeros(4), np.ones(4)),
        "target": (np.zeros(1), np.ones(1)),
    }
    set_normalisation(network, statistics)
    with torch.inference_mode():
        before = network(*x.values())
        factor, shift = torch.tensor([2.0, 0.5, 3.0, 10.0, 1.0]), torch.arange(5.0)
        statistics["variables"] = (shift.numpy(), factor.numpy())
        set_normalisation(network, statistics)
        after = network(*{**x, "variables": x["variables"] * factor + shift}.values())
        moved = network(*x.values())
    for a, b, c in zip(before, after, moved, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
        assert not torch.allclose(a, c, atol=1e-3)


def test_a_constant_column_and_outliers_do_no_harm() -> None:
    network = make_network("dnn", 2).eval()
    set_normalisation(network, {"variables": (np.array([1.0, 5.0]), np.array([2.0, 0.0]))})
    with torch.inference_mode():
        assert network.normalise_variables(torch.tensor([[3.0, 5.0]])).tolist() == [[1.0, 0.0]]
        assert network.normalise_variables(torch.tensor([[1e30, -9e9]])).tolist() == [[10.0, -10.0]]


def test_normalisation_must_be_finite_and_complete() -> None:
    network = make_network("dnn", 1)
    with pytest.raises(NetworkError, match="'variables' that are not finite"):
        set_normalisation(network, {"variables": (np.array([np.nan]), np.ones(1))})
    with pytest.raises(NetworkError, match="'variables' is missing"):
        set_normalisation(network, {})


def test_attention_sums_to_one_and_ignores_a_missing_track() -> None:
    torch.manual_seed(3)
    network = make_network("hamf", 5).eval()
    variables, image, stk, mask = inputs("hamf")
    with torch.inference_mode():
        score, attention = network(variables, image, stk, mask)
        other, _ = network(
            variables, image, torch.where(mask[:, :, None] > 0, stk, stk + 7.0), mask
        )
        moved, _ = network(variables, image, stk + 1.0, mask)
    without = mask[:, 0] == 0
    assert torch.allclose(attention.sum(dim=1), torch.ones(N), atol=1e-6)
    assert (attention >= 0).all()
    assert (attention[without, 2] == 0).all()
    assert (attention[~without] > 0).all()
    assert torch.equal(score, other)
    assert (score != moved)[~without].all()


def test_energy_stays_within_its_limits() -> None:
    torch.manual_seed(4)
    network = make_network("energy", 5).eval()
    statistics = {"variables": (np.zeros(5), np.ones(5)), "image": (np.zeros(1), np.ones(1))}
    set_normalisation(network, {**statistics, "target": (np.zeros(1), np.full(1, 1e6))})
    with torch.inference_mode():
        log_ratio, log_sigma = network(*inputs("energy"))
    assert pytest.approx((-0.6931472, 2.3025851)) == LOG_RATIO_LIMITS
    assert log_ratio.min() == pytest.approx(LOG_RATIO_LIMITS[0])
    assert log_ratio.max() == pytest.approx(LOG_RATIO_LIMITS[1])
    assert (log_sigma == 1.0).all()


def test_views_are_even_and_odd_layers() -> None:
    image = torch.arange(14.0)[None, :, None].expand(2, 14, 22)
    views = two_views(image)
    assert views.shape == (2, 2, 7, 22)
    assert views[1, 0, :, 3].tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert views[1, 1, :, 3].tolist() == [1, 3, 5, 7, 9, 11, 13]


def test_unknown_networks_and_options_are_refused() -> None:
    with pytest.raises(NetworkError, match="known: dnn, cnn, hamf, energy"):
        make_network("bdt", 3)
    with pytest.raises(NetworkError, match="no option 'width'; it takes: hidden, dropout"):
        make_network("dnn", 3, {"width": 3})
