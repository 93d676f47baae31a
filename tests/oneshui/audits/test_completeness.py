"""How complete forgetting is, between a stranger and the pretrained model."""

from __future__ import annotations

import numpy as np
import pytest
from reference.completeness import completeness as slow

from oneshui.audits.completeness import completeness, of_people
from oneshui.errors import InputError

DRAW = np.random.default_rng(0)
STRANGER, PRETRAINED = DRAW.standard_normal((2, 40)) + np.array([[0.0], [2.0]])


def test_it_is_the_sum_over_steps_between_stranger_and_pretrained_model() -> None:
    own = DRAW.standard_normal(40) + 1
    expected = [
        slow(value, place, PRETRAINED.tolist(), STRANGER.tolist())
        for place, value in enumerate(own.tolist())
    ]
    np.testing.assert_allclose(completeness(own, PRETRAINED, STRANGER[None]), expected, rtol=1e-9)


def test_whoever_is_surer_has_forgotten_less() -> None:
    steps = np.linspace(-1, 5, 13)
    found = np.stack(
        [completeness(np.full(40, value), PRETRAINED, STRANGER[None]) for value in steps]
    )
    assert (np.diff(found, axis=0) < 0).all()
    far = completeness(np.linspace(-1e6, 1e6, 40), PRETRAINED, STRANGER[None])
    assert far[[0, -1]].tolist() == pytest.approx([1, 0])


def test_three_strangers_give_the_scale_that_one_has_not() -> None:
    level, kinds = 3 * DRAW.standard_normal(200), DRAW.standard_normal((4, 200))
    strangers, again = level + 0.3 * kinds[:3], level + 0.3 * kinds[3]
    known = level + 2.0
    several = [completeness(own, known, strangers).mean() for own in (known, again)]
    single = [completeness(own, known, strangers[:1]).mean() for own in (known, again)]
    assert several[0] < 0.05
    assert several[1] > 0.9
    # The spread between pictures hides what the models differ in.
    assert single[1] - single[0] < 0.5 < several[1] - several[0]


def test_the_interval_is_over_people_and_holds_the_mean_of_many() -> None:
    effects = DRAW.standard_normal(60)
    identities = np.repeat(np.arange(60), 5)

    def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        draw = np.random.default_rng(seed)
        stranger = draw.standard_normal(300)
        return (
            stranger + 1 + effects[identities] + 0.1 * draw.standard_normal(300),
            stranger + 2,
            stranger[None],
        )

    found = of_people(*drawn(0), identities)
    assert found.interval is not None
    low, high = found.interval
    assert low < found.mean < high
    assert found.people["images"].tolist() == [5] * 60
    means = found.people["completeness"]
    assert found.mean == pytest.approx(means.mean())
    error = means.std(ddof=1) / np.sqrt(60)
    assert high - low == pytest.approx(2 * 2.0 * error, rel=0.25)


def test_a_person_counts_once_however_many_pictures_there_are() -> None:
    own = np.array([0.0, 0.1, 0.2, 5.0])
    found = of_people(own, np.array([2.0, 3, 1, 2]), np.array([[0.0, 1, 0, 1]]), [4, 4, 4, 9])
    images = completeness(own, [2.0, 3, 1, 2], [[0.0, 1, 0, 1]])
    assert found.people["completeness"].tolist() == pytest.approx([images[:3].mean(), images[3]])
    assert found.mean == pytest.approx((images[:3].mean() + images[3]) / 2)
    assert found.interval is None


def test_what_has_no_spread_or_shape_is_refused() -> None:
    with pytest.raises(InputError, match="no spread"):
        completeness([1.0, 1.0], [2.0, 2.0], [[0.0, 0.0]])
    with pytest.raises(InputError, match=r"must be \[models, images\]"):
        completeness([1.0], [2.0], [0.0])
    with pytest.raises(InputError, match="expected 2 finite signals of the unlearned model"):
        completeness([1.0, np.nan], [2.0, 3.0], [[0.0, 1.0]])
