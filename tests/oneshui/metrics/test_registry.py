from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

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
    monkeypatch.setattr(registry.MEASURES, "known", dict(registry.MEASURES.known))
    measure("toy")(lambda _: 1.0)
    measure("toy")(lambda _: 2.0)  # a file that is imported again replaces its own
    assert measured(outcome)["toy"] == 2.0
    assert set(measured(outcome)) == known | {"toy"}
    with pytest.raises(TypeError, match="two measures are called 'js_forget'"):
        measure("js_forget")(lambda _: None)
