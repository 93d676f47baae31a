"""What gcp.yaml needs of a Google Cloud project: quotas, rights and things that must exist.

Every call reads; what a zone can give at the moment is not to be read anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from cluster.accounts.google import Client, asked, pages

COMMAND = "gcloud beta quotas preferences create --service=compute.googleapis.com"


def problems(config: dict[str, Any], client: Client) -> Iterator[str]:
    """What would keep machines from coming, one sentence each with its remedy.

    Args:
        config: A filled-in launcher file.
        client: Client of an API by its name.
    """
    types = config["available_node_types"]
    provider, head = config["provider"], config["head_node_type"]
    compute = client("compute")
    sizes: dict[str, Any] = {}
    for name, node in types.items():
        yield from _things(name, node["node_config"], provider, compute, sizes)
    yield from _networks(config, compute)
    if sizes.keys() == types.keys():
        yield from _quotas(config, sizes, compute)
    accounts = {
        name: node["node_config"]["serviceAccounts"][0]["email"] for name, node in types.items()
    }
    yield from _accounts(provider["project_id"], head, accounts, client)
    yield from _buckets(config, sorted(set(accounts.values())), client("storage"))


def _things(
    name: str,
    given: dict[str, Any],
    provider: dict[str, Any],
    compute: Any,
    sizes: dict[str, Any],
) -> Iterator[str]:
    """Machine type, accelerators, image and disk type of a node type; its size into sizes."""
    project, zone = provider["project_id"], provider["availability_zone"]
    kind = given["machineType"].rpartition("/")[2]
    found: list[Any] = []
    yield from asked(
        lambda: compute.machineTypes().get(project=project, zone=zone, machineType=kind),
        f"{name}: {kind} is not to be had in {zone}: take another ZONE, of gcloud compute "
        f"machine-types list --filter='name={kind}'",
        found,
    )
    if found:
        sizes[name] = found[0]
    for extra in given.get("guestAccelerators", ()):
        gpu = extra["acceleratorType"].rpartition("/")[2]
        yield from asked(
            lambda gpu=gpu: compute.acceleratorTypes().get(  # type: ignore[misc]
                project=project, zone=zone, acceleratorType=gpu
            ),
            f"{name}: {gpu} is not to be had in {zone}: take another ZONE, of gcloud compute "
            f"accelerator-types list --filter='name={gpu}'",
            [],
        )
    for disk in given["disks"]:
        yield from _disk(name, disk["initializeParams"], project, zone, compute)


def _disk(
    name: str, wanted: dict[str, Any], project: str, zone: str, compute: Any
) -> Iterator[str]:
    path = re.search(r"projects/([^/]+)/global/images/([^/]+)$", wanted["sourceImage"])
    owner, image = path.groups() if path else (project, wanted["sourceImage"].rpartition("/")[2])
    found: list[Any] = []
    yield from asked(
        lambda: compute.images().get(project=owner, image=image),
        f"{name}: image {image} of {owner} does not exist: take IMAGE anew (README)",
        found,
    )
    if found and found[0].get("deprecated", {}).get("state") in ("OBSOLETE", "DELETED"):
        yield f"{name}: image {image} of {owner} is no longer given out: take IMAGE anew (README)"
    kind = wanted["diskType"].rpartition("/")[2]
    yield from asked(
        lambda: compute.diskTypes().get(project=project, zone=zone, diskType=kind),
        f"{name}: disks of type {kind} are not to be had in {zone}: take a diskType of gcloud "
        f"compute disk-types list --zones={zone}",
        [],
    )


def _networks(config: dict[str, Any], compute: Any) -> Iterator[str]:
    """Subnets, and the two rules without which nobody gets in and machines do not meet."""
    project = config["provider"]["project_id"]
    wanted = {
        (interface["subnetwork"], tag)
        for node in config["available_node_types"].values()
        for interface in node["node_config"]["networkInterfaces"]
        for tag in node["node_config"].get("tags", {}).get("items", [])
    }
    for subnet, tag in sorted(wanted):
        path = re.search(r"projects/([^/]+)/regions/([^/]+)/subnetworks/([^/]+)$", subnet)
        if path is None:
            yield (
                f"subnetwork {subnet} says neither project nor region: write projects/{project}/"
                "regions/REGION/subnetworks/NAME"
            )
            continue
        owner, region, name = path.groups()
        found: list[Any] = []
        yield from asked(
            lambda owner=owner, region=region, name=name: compute.subnetworks().get(  # type: ignore[misc]
                project=owner, region=region, subnetwork=name
            ),
            f"subnetwork {name} does not exist in {region}: gcloud compute networks subnets create "
            f"{name} --network=oneshui --region={region} --range=10.10.0.0/20",
            found,
        )
        if found:
            yield from _rules(owner, found[0]["network"].rpartition("/")[2], tag, compute)


def _rules(project: str, network: str, tag: str, compute: Any) -> Iterator[str]:
    rules = [
        rule
        for page in pages(compute.firewalls(), project=project)
        for rule in page.get("items", [])
        if rule["network"].endswith(f"/{network}")
        and rule.get("direction", "INGRESS") == "INGRESS"
        and not rule.get("disabled")
        and tag in rule.get("targetTags", [tag])
    ]
    create = f"gcloud compute firewall-rules create oneshui-{{}} --network={network} --allow={{}}"
    if not any(tag in rule.get("sourceTags", []) for rule in rules):
        yield (
            f"no rule of network {network} lets machines tagged {tag} reach each other: "
            + create.format("inside", "all")
            + f" --source-tags={tag} --target-tags={tag}"
        )
    doors = [rule for rule in rules if _opens_ssh(rule) and rule.get("sourceRanges")]
    if not doors:
        yield (
            f"no rule of network {network} opens port 22 of machines tagged {tag}: "
            + create.format("ssh", "tcp:22")
            + f" --source-ranges=YOUR.ADDRESS/32 --target-tags={tag}"
        )
    for rule in doors:
        if {"0.0.0.0/0", "::/0"} & set(rule["sourceRanges"]):
            yield (
                f"rule {rule['name']} opens port 22 to the world: gcloud compute firewall-rules "
                f"update {rule['name']} --source-ranges=YOUR.ADDRESS/32"
            )


def _opens_ssh(rule: dict[str, Any]) -> bool:
    def holds_22(ports: str) -> bool:
        low, _, high = ports.partition("-")
        return int(low) <= 22 <= int(high or low)

    return any(
        allowed["IPProtocol"] in ("all", "tcp", "6")
        and ("ports" not in allowed or any(map(holds_22, allowed["ports"])))
        for allowed in rule.get("allowed", [])
    )


def _quotas(config: dict[str, Any], sizes: dict[str, Any], compute: Any) -> Iterator[str]:
    """What all machines together take, against what the project may have."""
    project, region = config["provider"]["project_id"], config["provider"]["region"]
    everywhere, here = _wanted(config, sizes)
    found: list[Any] = []
    yield from asked(
        lambda: compute.projects().get(project=project),
        f"project {project} does not exist, or you may not see it: gcloud projects list",
        found,
    )
    if found:
        yield from _short(everywhere, found[0], project, "")
    found = []
    yield from asked(
        lambda: compute.regions().get(project=project, region=region),
        f"region {region} does not exist: gcloud compute regions list",
        found,
    )
    if found:
        yield from _short(here, found[0], project, region)


def _wanted(config: dict[str, Any], sizes: dict[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """By quota, what the cluster takes at most: of the project's quotas, and of the region's."""
    everywhere = {"CPUS_ALL_REGIONS": 0, "GPUS_ALL_REGIONS": 0}
    here = {"SSD_TOTAL_GB": 0, "IN_USE_ADDRESSES": 0}
    most, on_demand = config["max_workers"], config["provider"]["on_demand_machines"]
    for name, node in config["available_node_types"].items():
        count = 1 if name == config["head_node_type"] else most
        given = node["node_config"]
        everywhere["CPUS_ALL_REGIONS"] += count * sizes[name]["guestCpus"]
        here["IN_USE_ADDRESSES"] += count * sum(
            len(interface.get("accessConfigs", ())) for interface in given["networkInterfaces"]
        )
        here["SSD_TOTAL_GB"] += count * sum(
            int(disk["initializeParams"]["diskSizeGb"]) for disk in given["disks"]
        )
        for gpu, number in _gpus(given, sizes[name]):
            model = re.sub("^NVIDIA_TESLA_", "NVIDIA_", gpu.upper().replace("-", "_"))
            everywhere["GPUS_ALL_REGIONS"] += count * number
            for quota, machines in (
                (f"PREEMPTIBLE_{model}_GPUS", count),
                (f"{model}_GPUS", on_demand),
            ):
                here[quota] = here.get(quota, 0) + machines * number
    return everywhere, here


def _gpus(given: dict[str, Any], size: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for each in size.get("accelerators", ()):
        yield each["guestAcceleratorType"], each["guestAcceleratorCount"]
    for each in given.get("guestAccelerators", ()):
        yield each["acceleratorType"].rpartition("/")[2], each["acceleratorCount"]


def _short(
    wanted: dict[str, int], described: dict[str, Any], project: str, region: str
) -> Iterator[str]:
    limits = {quota["metric"]: quota["limit"] for quota in described.get("quotas", [])}
    where = f"in {region}" if region else "of all regions together"
    for metric, number in wanted.items():
        if number <= 0:
            continue
        name = metric.replace("_", "-") + ("-per-project-region" if region else "-per-project")
        request = f"{COMMAND} --project={project} --quota-id={name} --preferred-value={number}"
        if region:
            request += f" --dimensions=region={region}"
        if metric not in limits:
            yield f"the quota {metric} {where} is not told, {number} are needed: {request}"
        elif limits[metric] < number:
            yield (
                f"the quota {metric} {where} is {limits[metric]:g}, {number} are needed: {request}"
            )


def _accounts(project: str, head: str, accounts: dict[str, str], client: Client) -> Iterator[str]:
    """Whether the accounts exist, and the head's may start machines under the workers' name."""
    service_accounts = client("iam").projects().serviceAccounts()
    there = set()
    for email in sorted(set(accounts.values())):
        found: list[Any] = []
        yield from asked(
            lambda email=email: service_accounts.get(name=f"projects/-/serviceAccounts/{email}"),  # type: ignore[misc]
            f"service account {email} does not exist: gcloud iam service-accounts create "
            f"{email.partition('@')[0]}",
            found,
        )
        if found and found[0].get("disabled"):
            yield (
                f"service account {email} is disabled: gcloud iam service-accounts enable {email}"
            )
        elif found:
            there.add(email)
    if accounts[head] not in there:
        return
    member = f"serviceAccount:{accounts[head]}"
    yield from _granted(
        lambda: client("cloudresourcemanager").projects().getIamPolicy(resource=project),
        member,
        f"{accounts[head]} has no role in {project}, so it cannot start machines: gcloud projects "
        f"add-iam-policy-binding {project} --member={member} "
        "--role=roles/compute.instanceAdmin.v1",
    )
    for email in sorted(there - {accounts[head]}):
        yield from _granted(
            lambda email=email: service_accounts.getIamPolicy(
                resource=f"projects/-/serviceAccounts/{email}"
            ),
            member,
            f"{accounts[head]} may not give machines the account {email}: gcloud iam "
            f"service-accounts add-iam-policy-binding {email} --member={member} "
            "--role=roles/iam.serviceAccountUser",
        )


def _granted(request: Any, member: str, missing: str) -> Iterator[str]:
    """The sentence if a policy gives the member nothing at all.

    Which rights a role holds, and under which conditions, is not looked into.
    """
    policy: list[Any] = []
    yield from asked(request, missing, policy)
    if policy and not any(
        member in binding.get("members", []) for binding in policy[0].get("bindings", [])
    ):
        yield missing


def _buckets(config: dict[str, Any], accounts: list[str], storage: Any) -> Iterator[str]:
    region = config["provider"]["region"]
    text = " ".join(config.get("head_setup_commands", []))
    for bucket in sorted(set(re.findall(r"gs://([a-z0-9._-]+)", text))):
        found: list[Any] = []
        yield from asked(
            lambda bucket=bucket: storage.buckets().get(bucket=bucket),  # type: ignore[misc]
            f"bucket {bucket} does not exist: gcloud storage buckets create gs://{bucket} "
            f"--location={region} --uniform-bucket-level-access",
            found,
        )
        if not found:
            continue
        for email in accounts:
            member = f"serviceAccount:{email}"
            yield from _granted(
                lambda bucket=bucket: storage.buckets().getIamPolicy(bucket=bucket),
                member,
                f"{email} may not use bucket {bucket}: gcloud storage buckets "
                f"add-iam-policy-binding gs://{bucket} --member={member} "
                "--role=roles/storage.objectUser",
            )
