"""Several requests of few people each, measured as one.

Each request has a model of its own, which was asked to forget its people and no others. What is
said about the forgotten is said of all of them together, each seen by the model that forgot them;
what is said about everybody else is the mean over the models.

Tables are those of ``oneshui.training.predict.predict`` and ``oneshui.attacks.views``: one row per
image, with columns ``set`` and ``image``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from oneshui.errors import InputError

OF_A_REQUEST = ("forget", "support")
"""Sets that differ from request to request; the others are the same for all."""


def of_request(shared: pd.DataFrame, request: pd.DataFrame) -> pd.DataFrame:
    """What a table about the people of all requests says about one request.

    Args:
        shared: About all forget images, of a model that no single request made.
        request: About the images of one request, in the same order.

    Returns:
        The rows of the images that the request's table has.

    Raises:
        InputError: The request's table has an image that the other one has not, or another order.
    """
    is_own = shared["set"].isin(OF_A_REQUEST)
    own = request.loc[request["set"].isin(OF_A_REQUEST), "image"]
    found = shared[~is_own | shared["image"].isin(own)].reset_index(drop=True)
    keys = ["set", "image"]
    if not found[keys].equals(request[keys].reset_index(drop=True)):
        raise InputError("predictions of a request's model differ in images from those shared")
    return found


def joined(shared: pd.DataFrame, requests: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The tables of all requests under each other: every forget image once, others repeatedly.

    Args:
        shared: As above.
        requests: As above.

    Raises:
        InputError: A forget or support image is in no request or in several.
    """
    table = pd.concat(requests, ignore_index=True)
    for name in OF_A_REQUEST:
        own, wanted = (np.sort(t.loc[t["set"] == name, "image"]) for t in (table, shared))
        if not np.array_equal(own, wanted):
            raise InputError(
                f"the {name} images of {len(requests)} requests are not all {len(wanted)} "
                f"{name} images, each once"
            )
    return table


def forget_images(requests: Sequence[pd.DataFrame]) -> list[int]:
    """How many forget images each request has, the weight of what an attack achieves there."""
    return [int((request["set"] == "forget").sum()) for request in requests]


def averaged(
    values: Sequence[Mapping[str, float | None]], weights: Sequence[float] | None = None
) -> dict[str, float | None]:
    """The mean of each value over requests.

    Args:
        values: Of each request, by name; None is undefined.
        weights: Of each request, above 0; all alike where there are none.

    Returns:
        By name; None where it is undefined for some request.
    """
    means: dict[str, float | None] = {}
    for name in values[0]:
        each = [one[name] for one in values]
        known = [value for value in each if value is not None]
        if len(known) < len(each):
            means[name] = None
        elif len(set(known)) == 1:
            # What is the same for all stays it to the last bit.
            means[name] = known[0]
        else:
            means[name] = float(np.average(known, weights=weights))
    return means
