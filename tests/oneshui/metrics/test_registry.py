from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from oneshui.errors import InputError, NumericalError
from oneshui.metrics import registry
from oneshui.metrics.registry import Predicted, measure, measured


def frame(offset: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "set": ["forget", "test", "forget"],
            "loss": [offset, offset + 1, offset + 2],
            "label": [np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([1.0, 1.0])],
            "logits": [np.array([offset, number]) for number in (1.0, 2.0, 3.0)],
        }
    )


def test_an_outcome_gives_the_rows_of_a_set_of_the_model_asked_for() -> None:
    outcome = Predicted(predictions=frame(0), retrained=frame(5), task="multilabel")
    assert outcome.logits("forget").tolist() == [[0, 1], [0, 3]]
    assert outcome.logits("test", retrained=True).tolist() == [[5, 2]]
    assert outcome.labels("forget").tolist() == [[1, 0], [1, 1]]
    assert outcome.losses("forget").tolist() == [0, 2]
    assert outcome.losses("forget", retrained=True).tolist() == [5, 7]


def test_a_key_is_measured_by_one_file_only(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = Predicted(predictions=frame(0), retrained=frame(5), task="multilabel")
    known = set(measured(outcome))
    for name in ("known", "_modules"):
        monkeypatch.setattr(registry.MEASURES, name, dict(getattr(registry.MEASURES, name)))
    measure("toy")(lambda _: 1.0)
    measure("toy", title="Toy", better="lower")(lambda _: 2.0)  # a file that is imported again
    assert measured(outcome, ["toy"])["toy"] == 2.0
    assert set(measured(outcome, ["toy"])) == known | {"toy"}
    # What a plugin of another sweep has registered is no measure of this one.
    assert set(measured(outcome)) == known
    assert set(registry.further_measures()) == {"toy"}
    with pytest.raises(TypeError, match="two measures are called 'js_forget'"):
        measure("js_forget")(lambda _: None)


def test_what_a_measure_says_of_itself_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("known", "_modules"):
        monkeypatch.setattr(registry.MEASURES, name, dict(getattr(registry.MEASURES, name)))
    with pytest.raises(InputError, match="key is 'My measure'"):
        measure("My measure")
    with pytest.raises(InputError, match=r"better of the measure toy is 'up'.*'higher'.*None"):
        measure("toy", better="up")  # type: ignore[arg-type]
    measure("toy")(lambda _: float("nan"))
    outcome = Predicted(predictions=frame(0), retrained=frame(5), task="multilabel")
    with pytest.raises(NumericalError, match="measure toy is nan; return None"):
        measured(outcome, ["toy"])
