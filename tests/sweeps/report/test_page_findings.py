"""The sentences over the tables, on results made by hand."""

from __future__ import annotations

from typing import Any

from support.result_frames import frame_of, row

from sweeps.report.page import _findings


def sentences(*rows: dict[str, Any]) -> list[tuple[str, ...]]:
    return [(found.title, *found.sentences) for found in _findings(frame_of(list(rows)))]


def seeds(method: str, *tows: float | None, **more: Any) -> list[dict[str, Any]]:
    return [row(method, seed, tow, **more) for seed, tow in enumerate(tows)]


def test_they_name_the_best_row_the_worse_ones_and_the_noise_floor() -> None:
    assert sentences(
        *seeds("pretrain", 0.5, 0.6, 0.7),
        *seeds("good", 0.6, 0.8, 0.7),
        *seeds("fair", 0.5, 0.62, 0.7),
        *seeds("poor", 0.4, 0.5, 0.69),
        *seeds("bad", 0.1, None, None),
        *seeds("scrub", 0.99, 0.99, 0.99),
        *seeds("ssd@oracle", 0.98, 0.98, 0.98, tuning="oracle"),
        *seeds("never", None, None, None),
        *seeds("retrain", 1.0, 1.0, 1.0),
        *seeds("retrain_again", 0.97, 0.91, None),
        *seeds("again_2", 0.99, 0.99, 0.99, role="retrain_again", access="full"),
    ) == [
        (
            "synthetic, 20 forget identities",
            "Doing nothing (pretrain) has a mean ToW of 60.0%.",
            "The largest gain over it among the one-shot rows is that of good: +10.0 points, ahead "
            "with 2 of 3 seeds.",
            "Worse than doing nothing on average: poor, bad.",
            "The noise floor, the lowest ToW of a model that was retrained with another seed, is "
            "at 91.0%.",
        )
    ]


def test_they_do_not_go_by_names() -> None:
    (found,) = sentences(
        *seeds("idle", 0.5, role="pretrain", num_forget=1),
        *seeds("retrain_free", 0.7, num_forget=1),
    )
    assert found == (
        "synthetic, 1 forget identity",
        "Doing nothing (idle) has a mean ToW of 50.0%.",
        "The largest gain over it among the one-shot rows is that of retrain_free: +20.0 points, "
        "ahead with 1 of 1 seed.",
    )


def test_without_a_gain_they_say_so_and_without_pretrain_nothing() -> None:
    (found,) = sentences(*seeds("pretrain", 0.5), *seeds("a", 0.5), *seeds("b", 0.4))
    assert found[2:] == (
        "No one-shot row is better than that on average.",
        "Worse than doing nothing on average: b.",
    )
    assert sentences(*seeds("a", 0.5)) == []
    assert sentences(*seeds("pretrain", None), *seeds("a", 0.5)) == []
