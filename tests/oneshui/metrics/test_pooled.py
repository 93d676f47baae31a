from __future__ import annotations

import pandas as pd
import pytest

from oneshui.errors import InputError
from oneshui.metrics.pooled import averaged, forget_images, joined, of_request


def table(**sets: list[int]) -> pd.DataFrame:
    rows = [(name, image) for name, images in sets.items() for image in images]
    return pd.DataFrame(rows, columns=["set", "image"]).assign(seen=range(len(rows)))


SHARED = table(retain=[9, 10], forget=[1, 2, 3], test=[11], support=[5, 4])
FIRST = table(retain=[9, 10], forget=[1, 3], test=[11], support=[5])
SECOND = table(retain=[9, 10], forget=[2], test=[11], support=[4])


def test_a_request_sees_its_own_people_and_all_others_who_are_nobody_s() -> None:
    assert of_request(SHARED, FIRST)["seen"].tolist() == [0, 1, 2, 4, 5, 6]
    assert of_request(SHARED, SECOND)["seen"].tolist() == [0, 1, 3, 5, 7]


@pytest.mark.parametrize(
    "other",
    [
        table(retain=[9], forget=[2], test=[11], support=[4]),
        table(retain=[9, 10], forget=[2, 7], test=[11], support=[4]),
        table(retain=[10, 9], forget=[2], test=[11], support=[4]),
    ],
)
def test_tables_about_other_images_are_refused(other: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="differ in images"):
        of_request(SHARED, other)


def test_requests_together_are_everybody_once() -> None:
    both = joined(SHARED, [FIRST, SECOND])
    assert both.loc[both["set"] == "forget", "image"].tolist() == [1, 3, 2]
    assert (both["set"] == "retain").sum() == 4
    assert forget_images([FIRST, SECOND]) == [2, 1]
    for wrong in ([FIRST], [FIRST, SECOND, SECOND]):
        with pytest.raises(InputError, match=r"the forget images of [13] requests are not all 3"):
            joined(SHARED, wrong)
    unsupported = SECOND[SECOND["set"] != "support"]
    with pytest.raises(InputError, match="the support images of 2 requests are not all 2"):
        joined(SHARED, [FIRST, unsupported])


def test_means_are_weighted_and_undefined_where_a_request_s_value_is() -> None:
    values: list[dict[str, float | None]]
    values = [{"auc": 0.5, "fpr": 0.1, "tpr": 0.2}, {"auc": 0.8, "fpr": 0.1, "tpr": None}]
    assert averaged(values, [2, 1]) == {"auc": pytest.approx(0.6), "fpr": 0.1, "tpr": None}
    assert averaged(values)["auc"] == pytest.approx(0.65)
