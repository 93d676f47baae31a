"""The catalogue of measures: what is measured of a row, and where it is shown under which name.

A new measure is a function of oneshui that the score stage calls, and one entry here. What plugins
measure is said by the scores themselves, so that a report needs no plugin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, overload

from typing_extensions import override

Unit = Literal["fraction", "difference", "seconds", "bytes", "number", "signed"]
"""Fractions and their signed differences are shown in percent, all others as they are; of a
difference and of what is signed the sign says something even where it is +."""
Better = Literal["highest", "lowest", "retrained"]
"""The highest or lowest value is best, or the one closest to the retrained models of its cell."""


@dataclass(frozen=True)
class Measure:
    """One column of numbers.

    Attributes:
        key: Column of the results table.
        mlflow: MLflow's name of it.
        title: Over its column in the tables.
        short: The same in the terminal; the title where that is short enough.
        unit: Of its values.
        better: What is best of it; None for what nothing is ranked by.
        panel: Which part of the tables shows it: 1 scores, 2 distances and costs, 3 what says more
            than a score of few people does; None for none.
        place: Order within the panel; equal ones stand as they do here.
        board: Name on MLflow's leaderboard; empty if it is not shown there.
        is_summarised: Whether the summary has it though neither a table nor the board shows it.
        meaning: What it is, in a sentence for whoever points at its title.
        is_published: Whether papers give it, so that it is compared with theirs.
    """

    key: str
    mlflow: str
    _: KW_ONLY
    title: str = ""
    short: str = ""
    unit: Unit = "fraction"
    better: Better | None = None
    panel: Literal[1, 2, 3] | None = None
    place: int = 9
    board: str = ""
    is_summarised: bool = False
    is_published: bool = False
    meaning: str = ""

    @property
    def in_summary(self) -> bool:
        """Whether means over the seeds are made of it."""
        return self.is_summarised or self.panel is not None or bool(self.board)

    @property
    def scale(self) -> float:
        """What a value is multiplied by where people read it."""
        return 100.0 if self.unit in ("fraction", "difference") else 1.0


# fmt: off
_MEASURES = (
    Measure("retain_score", "retain/score", is_published=True,
            title="retain", better="highest", panel=1, board="retain",
            meaning="The score on the retain set D_r: what the model still knows of those who stay."
                    " Higher is better."),
    Measure("forget_score", "forget/score", is_published=True,
            title="forget", better="retrained", panel=1, board="forget",
            meaning="The score on the forget set D_f. Best is as near as possible to the retrained "
                    "models of the same seed, not as low as possible."),
    Measure("test_score", "test/score", is_published=True,
            title="test", better="highest", panel=1, board="test",
            meaning="The score on people who were never trained on. Higher is better."),
    Measure("val_score", "val/score", is_summarised=True),
    Measure("support_score", "support/score"),
    Measure("retain_loss", "retain/loss", unit="number"),
    Measure("forget_loss", "forget/loss", unit="number"),
    Measure("test_loss", "test/loss", unit="number"),
    Measure("val_loss", "val/loss", unit="number"),
    Measure("support_loss", "support/loss", unit="number"),
    Measure("tow", "tow", is_published=True,
            title="ToW", better="highest", panel=1, board="ToW",
            meaning="Tug of war: the product of 1 minus the distance to the retrained model's score"
                    " on retain, forget and test set. 100 is the retrained model."),
    Measure("mia_auc", "mia/auc", is_published=True,
            title="MIA AUC", short="MIA", better="retrained", panel=1, board="mia_auc",
            meaning="How well an attacker who sees losses tells forget from test images; 50 is "
                    "guessing. Read it beside the retrained rows."),
    Measure("mia_acc", "mia/accuracy", is_published=True,
            title="MIA acc", short="MIAacc", better="retrained", panel=2, place=3, board="mia_acc",
            meaning="Share of forget images that the loss attack takes for non-members."),
    Measure("mia_threshold_auc", "mia/threshold_auc", is_summarised=True),
    Measure("rmia_auc", "rmia/auc", is_published=True,
            title="RMIA AUC", short="RMIA", better="retrained", panel=2, place=3, board="rmia_auc",
            meaning="How well an attacker who compares with retrained models tells forget from test"
                    " images; 50 is guessing. Read it beside retrain_again."),
    Measure("rmia_tpr", "rmia/tpr", board="rmia_tpr"),
    Measure("unlearn_seconds", "cost/unlearn_seconds", unit="seconds",
            title="unlearn s", short="sec", better="lowest", panel=2, place=4, board="seconds",
            meaning="Seconds of the method's own work after the request."),
    Measure("prepare_seconds", "cost/prepare_seconds", unit="seconds",
            title="prepare s", short="prep s", panel=2, place=4, board="prepare_seconds",
            meaning="Seconds of the method's own work before the training data are deleted."),
    Measure("retain_gap", "gap/retain", unit="difference",
            title="Δ retain", short="Δret", panel=2, place=2, board="gap/retain",
            meaning="Retain score minus the retrained model's, in points."),
    Measure("forget_gap", "gap/forget", unit="difference",
            title="Δ forget", short="Δfor", panel=2, place=2, board="gap/forget",
            meaning="Forget score minus the retrained model's, in points: above 0 still knows too "
                    "much, below 0 forgot too much."),
    Measure("test_gap", "gap/test", unit="difference",
            title="Δ test", short="Δtest", panel=2, place=2, board="gap/test",
            meaning="Test score minus the retrained model's, in points."),
    Measure("tow_normalised", "tow_normalised",
            title="ToW norm", short="ToWn", panel=2, place=1, board="ToW_normalised",
            meaning="Mean gain of ToW over doing nothing, in percent of what retraining again "
                    "gains."),
    Measure("tow_with_mia", "tow_with_mia"),
    Measure("mia_reference_auc", "mia/reference_auc"),
    Measure("mia_reference_acc", "mia/reference_accuracy"),
    Measure("rmia_fpr", "rmia/fpr"),
    Measure("rmia_a", "rmia/a"),
    Measure("rmia_references", "rmia/references", unit="number"),
    Measure("rmia_reference_auc", "rmia/reference_auc"),
    Measure("rmia_copies_auc", "rmia/copies_auc", is_summarised=True),
    Measure("rmia_auc_low", "rmia/auc_low"),
    Measure("rmia_auc_high", "rmia/auc_high"),
    Measure("rmia_tpr_low", "rmia/tpr_low"),
    Measure("rmia_tpr_high", "rmia/tpr_high"),
    Measure("mia_auc_low", "mia/auc_low"),
    Measure("mia_auc_high", "mia/auc_high"),
    Measure("forget_people", "forget/people", unit="number"),
    Measure("forget_images", "forget/images", unit="number"),
    Measure("test_people", "test/people", unit="number"),
    Measure("test_images", "test/images", unit="number"),
    Measure("js_forget", "js/forget"),
    Measure("js_test", "js/test"),
    Measure("weight_distance", "weight_distance", unit="number"),
    Measure("forget_margin", "forget/margin", unit="signed", is_summarised=True),
    Measure("forget_loss_gap", "gap/forget_loss", unit="signed",
            title="Δ forget loss", short="Δloss", panel=3,
            meaning="Mean loss on forget images minus the retrained model's."),
    Measure("forget_margin_gap", "gap/forget_margin", unit="signed",
            title="Δ forget margin", short="Δmargin", panel=3,
            meaning="Mean log-odds of the truth on forget images minus the retrained model's; above"
                    " 0 still knows too much."),
    Measure("num_attributes", "num_attributes", unit="number"),
    Measure("nomus", "nomus"),
    Measure("prepared_bytes", "cost/prepared_bytes", unit="bytes"),
    Measure("recovery_1", "probe/recovery_1", unit="difference"),
    Measure("recovery_5", "probe/recovery_5", unit="difference"),
    Measure("recovery_support", "probe/recovery_support", unit="difference"),
    Measure("relearn_steps", "probe/relearn_steps", unit="number"),
    Measure("reid_rank1", "probe/rank1"),
    Measure("reid_rank1_gap", "probe/rank1_gap", unit="difference"),
    Measure("reid_tpr", "probe/tpr"),
    Measure("reid_tpr_gap", "probe/tpr_gap", unit="difference"),
    Measure("reid_retain_gap", "probe/retain_gap", unit="difference"),
    Measure("hides", "probe/hides", unit="number"),
    Measure("completeness", "audit/completeness"),
    Measure("completeness_low", "audit/completeness_low"),
    Measure("completeness_high", "audit/completeness_high"),
    Measure("completeness_people", "audit/completeness_people", unit="number"),
    Measure("completeness_images", "audit/completeness_images", unit="number"),
    Measure("completeness_models", "audit/completeness_models", unit="number"),
    Measure("zrf", "audit/zrf"),
    Measure("rf_js", "audit/rf_js"),
    Measure("activation_forget", "audit/activation_forget", unit="number"),
    Measure("activation_test", "audit/activation_test", unit="number"),
    Measure("same_forget", "audit/same_forget"),
    Measure("same_test", "audit/same_test"),
    Measure("unlearn_peak_bytes", "cost/unlearn_peak_bytes", unit="bytes"),
    Measure("prepare_peak_bytes", "cost/prepare_peak_bytes", unit="bytes"),
    Measure("unlearn_peak_gpu_bytes", "cost/unlearn_peak_gpu_bytes", unit="bytes"),
    Measure("prepare_peak_gpu_bytes", "cost/prepare_peak_gpu_bytes", unit="bytes"),
    Measure("lira_auc", "audit/lira_auc"),
    Measure("lira_auc_low", "audit/lira_auc_low"),
    Measure("lira_auc_high", "audit/lira_auc_high"),
    Measure("lira_auc_by_chance", "audit/lira_auc_by_chance"),
    Measure("lira_tpr", "audit/lira_tpr"),
    Measure("lira_tpr_low", "audit/lira_tpr_low"),
    Measure("lira_tpr_high", "audit/lira_tpr_high"),
    Measure("lira_tpr_10", "audit/lira_tpr_10"),
    Measure("lira_efficacy_auc", "audit/lira_efficacy_auc"),
    Measure("lira_efficacy_auc_low", "audit/lira_efficacy_auc_low"),
    Measure("lira_efficacy_auc_high", "audit/lira_efficacy_auc_high"),
    Measure("lira_epsilon", "audit/lira_epsilon", unit="number"),
    Measure("lira_worst", "audit/lira_worst"),
    Measure("lira_worst_by_chance", "audit/lira_worst_by_chance"),
    Measure("lira_p95", "audit/lira_p95"),
    Measure("lira_shift", "audit/lira_shift", unit="signed"),
    Measure("lira_shift_low", "audit/lira_shift_low", unit="signed"),
    Measure("lira_shift_high", "audit/lira_shift_high", unit="signed"),
    Measure("lira_positives", "audit/lira_positives", unit="number"),
    Measure("lira_negatives", "audit/lira_negatives", unit="number"),
    Measure("lira_people", "audit/lira_people", unit="number"),
    Measure("lira_models", "audit/lira_models", unit="number"),
    Measure("chosen_tow", "audit/chosen_tow"),
    Measure("chosen_drop", "audit/chosen_drop", unit="difference"),
    Measure("chosen_forget_gap", "audit/chosen_forget_gap", unit="difference"),
    Measure("chosen_mia_auc", "audit/chosen_mia_auc"),
    Measure("chosen_rmia_auc", "audit/chosen_rmia_auc"),
)
# fmt: on
CATALOGUE: dict[str, Measure] = {measure.key: measure for measure in _MEASURES}
"""By key, in the order of the results table; after those that ship, those of ``show``."""
SHIPPED = tuple(CATALOGUE)


class Chosen(Sequence[str]):
    """Keys of the catalogue as it is now, which a plugin's measures may have joined."""

    def __init__(
        self, is_chosen: Callable[[Measure], bool], order: Callable[[Measure], int] = lambda _: 0
    ) -> None:
        self._is_chosen, self._order = is_chosen, order

    def _keys(self) -> tuple[str, ...]:
        chosen = sorted(filter(self._is_chosen, tuple(CATALOGUE.values())), key=self._order)
        return tuple(measure.key for measure in chosen)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    @override
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return self._keys()[index]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._keys())

    @override
    def __len__(self) -> int:
        return len(self._keys())


SUMMARISED = Chosen(lambda measure: measure.in_summary)
RANKED = Chosen(lambda measure: measure.in_summary and measure.better is not None)
PANELS = tuple(
    Chosen(lambda measure, number=number: measure.panel == number, lambda measure: measure.place)  # type: ignore[misc]
    for number in (1, 2, 3)
)
"""What stands beside each other where there is room: scores, distances and costs, few people's."""
OF_PLUGINS = Chosen(lambda measure: measure.key not in SHIPPED)

_GOALS: Mapping[str | None, Better | None] = {
    "higher": "highest",
    "lower": "lowest",
    "retrained": "retrained",
    None: None,
}


def show(said: Mapping[str, Mapping[str, Any]]) -> None:
    """Have the catalogue hold these measures of plugins beside those that ship, and no others.

    Args:
        said: Title, better, unit and meaning of each, by its key, as the score has them.
    """
    for key in set(OF_PLUGINS) - said.keys():
        del CATALOGUE[key]
    for key, words in said.items():
        name = f"plugin/{key}"
        CATALOGUE[key] = Measure(
            key,
            name,
            title=words["title"],
            unit=words["unit"],
            better=_GOALS[words["better"]],
            panel=2,
            board=name,
            meaning=words["meaning"],
        )
