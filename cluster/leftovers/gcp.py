"""What is left on Google Cloud: machines, disks, addresses, file stores, the bucket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cluster.accounts.google import Client, is_off, pages
from cluster.leftovers.answers import NoAnswerError

LABEL = ("ray-cluster-name", "oneshui")


def left(client: Client, project: str, bucket: str = "") -> Iterator[str]:
    """What is left, a line each.

    Args:
        client: Client of an API by its name.
        project: Its id.
        bucket: Name of the store's bucket; "" looks for none.

    Raises:
        googleapiclient.errors.HttpError: The project does not answer, or refuses.
        NoAnswerError: A zone or region of it does not answer.
    """
    compute = client("compute")
    for machine in _everywhere(compute.instances(), project, "instances"):
        if machine.get("labels", {}).get(LABEL[0]) == LABEL[1]:
            # One that is TERMINATED was stopped: its disk stays.
            since = machine.get("lastStopTimestamp") or machine["creationTimestamp"]
            yield (
                f"machine {machine['name']}, {_last(machine['machineType'])}, {machine['status']} "
                f"since {since[:16].replace('T', ' ')}: gcloud compute instances delete "
                f"{machine['name']} --project={project} --zone={_last(machine['zone'])}"
            )
    for disk in _everywhere(compute.disks(), project, "disks"):
        if not disk.get("users"):
            yield (
                f"disk {disk['name']} of {disk['sizeGb']} GB, attached to nothing, perhaps not "
                f"oneshui's: gcloud compute disks delete {disk['name']} --project={project} "
                f"{_place(disk)}"
            )
    for address in _everywhere(compute.addresses(), project, "addresses"):
        if address["status"] != "IN_USE":
            yield (
                f"address {address['address']}, used by nothing, perhaps not oneshui's: gcloud "
                f"compute addresses delete {address['name']} --project={project} {_place(address)}"
            )
    yield from _file_stores(client("file"), project)
    if bucket:
        yield from _bucket(client("storage"), bucket)


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _place(thing: dict[str, Any]) -> str:
    for kind in ("zone", "region"):
        if kind in thing:
            return f"--{kind}={_last(thing[kind])}"
    return "--global"


def _everywhere(collection: Any, project: str, what: str) -> Iterator[dict[str, Any]]:
    """Things of all zones and regions."""
    listing = ("aggregatedList", "aggregatedList_next")
    for page in pages(collection, *listing, project=project):
        for place, scope in page.get("items", {}).items():
            code = scope.get("warning", {}).get("code", "NO_RESULTS_ON_PAGE")
            if code != "NO_RESULTS_ON_PAGE":
                raise NoAnswerError(f"{place} does not tell its {what}: {code}")
            yield from scope.get(what, [])
        if page.get("unreachables"):
            raise NoAnswerError(f"{', '.join(page['unreachables'])} did not tell their {what}")


def _file_stores(file: Any, project: str) -> Iterator[str]:
    from googleapiclient.errors import HttpError

    parent = f"projects/{project}/locations/-"
    try:
        for page in pages(file.projects().locations().instances(), parent=parent):
            if page.get("unreachable"):
                raise NoAnswerError(
                    f"{', '.join(page['unreachable'])} did not tell their file stores"
                )
            for store in page.get("instances", []):
                _, _, _, zone, _, name = store["name"].split("/")
                size = sum(int(share["capacityGb"]) for share in store.get("fileShares", []))
                yield (
                    f"file store {name} of {size} GB, perhaps not oneshui's: gcloud filestore "
                    f"instances delete {name} --project={project} --location={zone}"
                )
    except HttpError as error:
        # Where the API was never turned on, nobody has made a file store.
        if not is_off(error):
            raise


def _bucket(storage: Any, name: str) -> Iterator[str]:
    from googleapiclient.errors import HttpError

    try:
        storage.buckets().get(bucket=name).execute()
    except HttpError as error:
        if error.status_code != 404:
            raise
        return
    yield (f"bucket {name}, with results and datasets: gcloud storage rm --recursive gs://{name}")
