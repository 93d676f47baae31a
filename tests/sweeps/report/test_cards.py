"""Cards claim what the sentences claim, and no more."""

from __future__ import annotations

import pytest
from support.result_frames import frame_of, row

from sweeps.inference.evidence import Evidence
from sweeps.report.cards import NOBODY_WINS, Card, cards
from sweeps.report.findings import findings


def card_of(values: dict[str, list[float]], **more: object) -> Card:
    frame = frame_of([row(m, s, v, **more) for m, own in values.items() for s, v in enumerate(own)])
    evidence = Evidence.of(frame)
    found, across = cards(frame, evidence)
    assert not across
    (card,) = found
    said = [finding.sentences for finding in findings(frame, evidence)]
    assert [card.words] == (said or [()])
    return card


def test_a_winner_has_gain_price_attack_and_how_sure() -> None:
    values = {"pretrain": [0.7, 0.71, 0.7], "a": [0.8, 0.81, 0.81], "b": [0.7, 0.72, 0.7]}
    values["retrain_again"] = [0.97, 0.95, 0.96]
    card = card_of(values)
    assert (card.title, card.block, card.winner) == (
        "synthetic, 20 forget identities",
        "synthetic-n20",
        "a",
    )
    assert card.headline == "a beats doing nothing"
    facts = dict(card.facts)
    assert facts["gain"].startswith("+10.3 points (95 % interval +8.9 to +11.8)")
    # All scores of these rows are the same number.
    assert facts["price"] == "retain +10.3, test +10.3 points against doing nothing"
    assert facts["attack"] == "MIA AUC 80.7 % (doing nothing 70.3, retrained 96.0; guessing 50)"
    assert facts["how sure"].startswith("p 0.00")
    assert "2 rows, 3 seeds; shown to be the best of them" in facts["how sure"]
    assert [(m.kind, round(m.at, 1)) for m in card.marks] == [
        ("nothing", 70.3),
        ("row", 80.7),
        ("again", 96.0),
    ]
    assert card.begin == 60
    assert card.place(80.0) == 50.0
    assert card.words[0].startswith("a leads: +10.3 points")


def test_without_a_winner_the_card_says_so_as_the_sentence_does() -> None:
    card = card_of({"pretrain": [0.7, 0.71], "a": [0.8, 0.71], "b": [0.7, 0.72]})
    assert (card.winner, card.headline) == ("", NOBODY_WINS)
    facts = dict(card.facts)
    assert facts["gain"].startswith("largest: a, +5.0 points")
    assert facts["how sure"].startswith("not shown: p ")
    assert "which is not beyond the noise" in card.words[0]


def test_the_best_of_the_rows_that_are_shown_to_be_better_wins_over_a_higher_mean() -> None:
    card = card_of({"pretrain": [0.7, 0.71, 0.7], "a": [0.8, 0.81, 0.81], "b": [0.99, 0.72, 0.95]})
    assert card.winner == "a"
    assert dict(card.facts)["gain"].startswith("+10.3 points")
    sure = dict(card.facts)["how sure"]
    assert sure.endswith("; b has a larger mean gain, which is not shown to be one")
    assert card.words[0].startswith("b leads: +18.3 points")
    assert "Shown to be better: a." in card.words


def test_a_row_that_is_shown_to_be_worse_does_not_win() -> None:
    card = card_of({"pretrain": [0.7, 0.71, 0.7], "a": [0.5, 0.51, 0.51]})
    assert (card.winner, card.headline) == ("", NOBODY_WINS)


def test_one_seed_shows_nothing_and_flattery_is_said() -> None:
    card = card_of({"pretrain": [0.7], "a": [0.8]})
    assert dict(card.facts)["how sure"] == "not at all: 1 seed of 1 row show no difference"
    values = {"pretrain": [0.7, 0.71, 0.7], "a": [0.8, 0.81, 0.81]}
    flattered = card_of(values, hyperparameters_from="truth_in_view")
    assert dict(flattered.facts)["how sure"].endswith("flattered by its hyperparameters (‡)")


@pytest.mark.parametrize("values", [{"pretrain": [0.7]}, {"a": [0.7]}])
def test_what_cannot_be_compared_has_a_card_that_says_so(values: dict[str, list[float]]) -> None:
    card = card_of(values)
    assert card.headline == "Nothing to compare yet"
    assert dict(card.facts)["state"] == "1 of 1 results, no row competes"
