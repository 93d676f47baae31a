"""The sentences over the tables: what they claim is shown, and what is not they do not claim."""

from __future__ import annotations

from typing import Any

from support.result_frames import frame_of, row

from sweeps.inference.evidence import Evidence
from sweeps.report.findings import findings


def sentences(*rows: dict[str, Any]) -> list[tuple[str, ...]]:
    frame = frame_of(list(rows))
    return [(found.title, *found.sentences) for found in findings(frame, Evidence.of(frame))]


def seeds(method: str, *tows: float | None, **more: Any) -> list[dict[str, Any]]:
    return [row(method, seed, tow, **more) for seed, tow in enumerate(tows)]


def test_they_name_what_is_shown_with_its_interval_and_how_many_competed() -> None:
    assert sentences(
        *seeds("pretrain", 0.5, 0.6, 0.7),
        *seeds("good", 0.6, 0.701, 0.799),  # not shown to be best: bad has one seed
        *seeds("fair", 0.55, 0.651, 0.749),
        *seeds("same", 0.5, 0.62, 0.69),
        *seeds("poor", 0.4, 0.501, 0.6),
        *seeds("bad", 0.1, None, None),
        *seeds("scrub", 0.99, 0.99, 0.99),
        *seeds("ssd@oracle", 0.98, 0.98, 0.98, tuning="oracle"),
        *seeds("never", None, None, None),
        *seeds("retrain", 1.0, 1.0, 1.0),
        *seeds("retrain_again", 0.97, 0.96, None),
    ) == [
        (
            "synthetic, 20 forget identities",
            "good leads: +10.0 points (95 % interval +9.8 to +10.2) of ToW over doing nothing, "
            "beyond the noise (p 0.0001 after correction for the rows; 5 one-shot rows competed "
            "over 3 seeds).",
            "Doing nothing (pretrain) has a mean ToW of 60.0%.",
            "Chosen on the other seeds than it is counted on, the best row gains +10.0 points.",
            "Shown to be better as well: fair.",
            "Shown to be worse than doing nothing: poor.",
            "Models that were retrained have a ToW of 89.9% among themselves; no one-shot row is "
            "shown to be within 2 points of that.",
        )
    ]


def test_a_gain_that_is_not_shown_is_not_claimed() -> None:
    (found,) = sentences(
        *seeds("idle", 0.5, 0.5, 0.52, role="pretrain", num_forget=1),
        *seeds("retrain_free", 0.53, 0.5, 0.54, num_forget=1),
        *seeds("other", 0.49, 0.53, 0.5, num_forget=1),
    )
    assert found == (
        "synthetic, 1 forget identity",
        "retrain_free leads: +1.7 points (95 % interval -2.1 to +5.5) of ToW over doing nothing, "
        "which is not beyond the noise (2 one-shot rows competed over 3 seeds; the highest of "
        "several means is above zero by chance alone).",
        "Doing nothing (idle) has a mean ToW of 50.7%.",
        "Chosen on the other seeds than it is counted on, the best row gains +1.7 points.",
    )


def test_a_single_seed_has_no_interval_and_shows_nothing() -> None:
    (found,) = sentences(*seeds("pretrain", 0.5), *seeds("a", 0.7), *seeds("b", 0.4))
    assert found[1:] == (
        "a leads: +20.0 points of ToW over doing nothing, which is not beyond the noise (2 "
        "one-shot rows competed over 1 seed; the highest of several means is above zero by chance "
        "alone).",
        "Doing nothing (pretrain) has a mean ToW of 50.0%.",
    )


def test_without_a_gain_they_say_so_and_without_pretrain_nothing() -> None:
    (found,) = sentences(*seeds("pretrain", 0.5), *seeds("a", 0.5), *seeds("b", 0.4))
    assert found[1] == (
        "Doing nothing leads: none of 2 one-shot rows is better on average over 1 seed."
    )
    assert sentences(*seeds("a", 0.5)) == []
    assert sentences(*seeds("pretrain", None), *seeds("a", 0.5)) == []


def test_rows_as_good_as_retrained_are_those_that_the_table_marks() -> None:
    (found,) = sentences(
        *seeds("pretrain", 0.5, 0.6, 0.7),
        *seeds("near", 0.98, 0.981, 0.98),
        *seeds("retrain", 0.98, 0.982, 0.981),
        *seeds("retrain_again", 0.98, 0.981, 0.982),
    )
    assert found[-1].endswith("among themselves; shown to be within 2 points of that: near.")


def test_over_datasets_each_counts_once() -> None:
    def of(*gains: float) -> tuple[str, ...]:
        rows = []
        for place, gain in enumerate(gains):
            name = f"d{place}"
            rows += seeds("pretrain", 0.5, 0.5, 0.5, dataset=name)
            rows += seeds("a", 0.5 + gain, 0.501 + gain, 0.502 + gain, dataset=name)
        return sentences(*rows)[-1]

    assert of(0.1, 0.11, 0.1) == (
        "Over datasets",
        "3 datasets, each counted once, are a sample of datasets.",
        "Shown to be better than doing nothing: a +10.4 points (95 % interval +9.0 to +11.9).",
    )
    assert of(0.1, -0.1, 0.01)[-1] == (
        "Over so few no row is shown to differ from doing nothing in general."
    )
    assert of(-0.1, -0.11, -0.1)[-1].startswith("Shown to be worse: a -10.2 points")


def test_the_best_is_named_if_it_is_shown_to_beat_each_other() -> None:
    (found,) = sentences(
        *seeds("pretrain", 0.5, 0.6, 0.7),
        *seeds("good", 0.6, 0.701, 0.799),
        *seeds("fair", 0.55, 0.65, 0.75),
    )
    assert "good is shown to be the best of them." in found


def test_the_gain_of_a_choice_is_that_of_rows_among_which_the_spoken_of_is() -> None:
    (found,) = sentences(
        *seeds("pretrain", 0.5, 0.6, 0.7, 0.6),
        *seeds("good", 0.6, 0.701, 0.799, None),
        *seeds("fair", 0.55, 0.651, 0.749, 0.65),
    )
    assert found[3].endswith("the best row gains +10.0 points.")


def test_rows_that_are_shown_beside_an_unsteady_one_are_not_shown_as_well() -> None:
    (found,) = sentences(
        *seeds("pretrain", 0.5, 0.6, 0.7),
        *seeds("unsteady", 0.5, 0.99, 0.7),
        *seeds("steady", 0.55, 0.651, 0.749),
    )
    assert found[1].startswith("unsteady leads: +13.0 points")
    assert "Shown to be better: steady." in found


def test_a_claim_about_a_row_whose_values_saw_the_truth_says_so() -> None:
    in_view = {"hyperparameters_from": "truth_in_view"}
    (found,) = sentences(
        *seeds("pretrain", 0.5, 0.6, 0.7),
        *seeds("good", 0.6, 0.701, 0.799, **in_view),
        *seeds("same", 0.5, 0.62, 0.69, **in_view),
    )
    assert found[1].startswith("good (‡) leads: ")
    assert found[-1] == "Flattered by hyperparameters that saw the truth (‡): good."


def test_a_leader_that_nothing_is_claimed_of_is_flattered_too() -> None:
    (found,) = sentences(
        *seeds("pretrain", 0.5, 0.6, 0.7),
        *seeds("good", 0.5, 0.99, 0.7, hyperparameters_from="truth_in_view"),
        *seeds("same", 0.5, 0.6, 0.7),
    )
    assert found[1].startswith("good (‡) leads: ")
    assert "which is not beyond the noise" in found[1]
    assert found[-1] == "Flattered by hyperparameters that saw the truth (‡): good."


def test_seeds_that_are_all_alike_have_no_interval() -> None:
    (found,) = sentences(*seeds("pretrain", *[0.5] * 3), *seeds("a", *[0.75] * 3))
    assert "+25.0 points of ToW over doing nothing, which is not beyond the noise" in found[1]


def test_the_gain_of_a_choice_is_said_where_it_is_a_loss_too() -> None:
    (found,) = sentences(
        *seeds("pretrain", 0.5, 0.6, 0.7),
        *seeds("a", 0.4, 0.51, 0.6),
        *seeds("b", 0.3, 0.4, 0.5),
    )
    assert found[1] == (
        "Doing nothing leads: none of 2 one-shot rows is better on average over 3 seeds."
    )
    assert found[3].endswith("the best row gains -9.7 points.")
