"""What ``cluster.orphans`` finds on Google Cloud, by recorded answers."""

from __future__ import annotations

from typing import Any

import pytest
from support.google_answers import DISABLED, Recorded

from cluster.accounts import google
from cluster.leftovers.answers import NoAnswerError
from cluster.leftovers.gcp import left
from cluster.orphans import main

ZONE = "https://www.googleapis.com/compute/v1/projects/p/zones/us-west1-a"
REGION = "https://www.googleapis.com/compute/v1/projects/p/regions/us-west1"
NOTHING = {"warning": {"code": "NO_RESULTS_ON_PAGE", "message": "none here"}}
MACHINE = {
    "name": "ray-oneshui-head-1",
    "machineType": f"{ZONE}/machineTypes/e2-standard-4",
    "zone": ZONE,
    "labels": {"ray-cluster-name": "oneshui"},
    "creationTimestamp": "2026-11-30T12:00:00.000-08:00",
}
EMPTY: dict[str, Any] = {
    "p/aggregated/instances": {
        "items": {
            "zones/us-west1-a": {
                "instances": [{**MACHINE, "status": "RUNNING", "labels": {"owner": "another"}}]
            },
            "zones/us-west1-b": NOTHING,
        }
    },
    "p/aggregated/disks": {
        "items": {"zones/us-west1-a": {"disks": [{"name": "used", "users": [f"{ZONE}/i"]}]}}
    },
    "p/aggregated/addresses": {
        "items": {
            "regions/us-west1": {
                "addresses": [{"name": "used", "address": "192.0.2.1", "status": "IN_USE"}]
            },
            "global": NOTHING,
        }
    },
    "p/locations/-/instances": {},
}
FULL: dict[str, Any] = {
    # Machines are on the second page, one of them stopped.
    "p/aggregated/instances": [
        {"items": {"zones/us-west1-b": NOTHING}},
        {
            "items": {
                "zones/us-west1-a": {
                    "instances": [
                        {**MACHINE, "status": "RUNNING"},
                        {
                            **MACHINE,
                            "name": "ray-oneshui-worker-1",
                            "status": "TERMINATED",
                            "lastStopTimestamp": "2026-11-30T14:30:00.000-08:00",
                        },
                    ]
                }
            }
        },
    ],
    "p/aggregated/disks": {
        "items": {
            "zones/us-west1-a": {"disks": [{"name": "left", "sizeGb": "200", "zone": ZONE}]},
        }
    },
    "p/aggregated/addresses": {
        "items": {
            "regions/us-west1": {
                "addresses": [
                    {
                        "name": "kept",
                        "address": "192.0.2.2",
                        "status": "RESERVED",
                        "region": REGION,
                    }
                ]
            },
            "global": {
                "addresses": [{"name": "wide", "address": "192.0.2.3", "status": "RESERVED"}]
            },
        }
    },
    "p/locations/-/instances": {
        "instances": [
            {
                "name": "projects/p/locations/us-west1-a/instances/shared",
                "fileShares": [{"name": "share", "capacityGb": "1024"}],
            }
        ]
    },
    "b/a-bucket": {"name": "a-bucket"},
}


def test_an_empty_project_has_nothing_left() -> None:
    assert list(left(Recorded(EMPTY), "p", "a-bucket")) == []


def test_everything_that_costs_is_listed_with_the_command_that_ends_it() -> None:
    unused = "used by nothing, perhaps not oneshui's: gcloud compute addresses delete"
    assert list(left(Recorded(FULL), "p", "a-bucket")) == [
        "machine ray-oneshui-head-1, e2-standard-4, RUNNING since 2026-11-30 12:00: gcloud "
        "compute instances delete ray-oneshui-head-1 --project=p --zone=us-west1-a",
        "machine ray-oneshui-worker-1, e2-standard-4, TERMINATED since 2026-11-30 14:30: gcloud "
        "compute instances delete ray-oneshui-worker-1 --project=p --zone=us-west1-a",
        "disk left of 200 GB, attached to nothing, perhaps not oneshui's: gcloud compute disks "
        "delete left --project=p --zone=us-west1-a",
        f"address 192.0.2.2, {unused} kept --project=p --region=us-west1",
        f"address 192.0.2.3, {unused} wide --project=p --global",
        "file store shared of 1024 GB, perhaps not oneshui's: gcloud filestore instances delete "
        "shared --project=p --location=us-west1-a",
        "bucket a-bucket, with results and datasets: gcloud storage rm --recursive gs://a-bucket",
    ]


def test_an_api_that_was_never_on_has_made_no_file_store() -> None:
    assert list(left(Recorded({**EMPTY, "p/locations/-/instances": DISABLED}), "p")) == []


@pytest.mark.parametrize(
    ("part", "answer"),
    [
        (
            "p/aggregated/disks",
            {"items": {"zones/us-west1-a": {"warning": {"code": "UNREACHABLE"}}}},
        ),
        ("p/aggregated/instances", {"items": {}, "unreachables": ["zones/us-west1-a"]}),
        ("p/locations/-/instances", {"unreachable": ["us-west1-a"]}),
    ],
)
def test_a_zone_that_does_not_answer_is_not_empty(part: str, answer: dict[str, Any]) -> None:
    with pytest.raises(NoAnswerError, match="us-west1-a"):
        list(left(Recorded({**EMPTY, part: answer}), "p"))


def test_the_command_never_takes_an_error_for_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def status(answers: dict[str, Any]) -> int:
        monkeypatch.setattr(google, "clients", lambda: Recorded(answers))
        return main(["gcp", "p", "a-bucket"])

    assert status(EMPTY) == 0
    assert capsys.readouterr().out == "nothing is left in p\n"
    assert status(FULL) == 1
    assert "machine ray-oneshui-head-1" in capsys.readouterr().out
    refused = {"code": 403, "message": "you lack storage.buckets.get"}
    for part in (*EMPTY, "b/a-bucket"):
        assert status({**EMPTY, part: refused}) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err == "the account does not answer: 403: you lack storage.buckets.get\n"
    # What was found before the error is told all the same.
    assert status({**FULL, "b/a-bucket": refused}) == 2
    assert "disk left of 200 GB" in capsys.readouterr().out
