"""``python -m cluster.check FILE...``: what is wrong with a cluster file, before it costs money.

Reads launcher files, Kubernetes manifests, tasks of SkyPilot's and Dockerfiles; contacts nothing.
With ``--account`` and a filled-in launcher file for AWS or Google Cloud it also looks at the
account, by calls that only read: quotas, roles, subnets, image, bucket, and what else machines
need. Exit status 0: nothing was found; 1: each problem on its line; 2: a file cannot be read, or
the account does not answer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cluster.accounts import aws as aws_account
from cluster.accounts import gcp as gcp_account
from cluster.accounts import google
from cluster.checks import dockerfile, kuberay, launcher, skypilot
from cluster.checks.common import blanks, secret_problems


def problems(path: Path) -> list[str]:
    """Everything that is wrong with one file.

    Raises:
        OSError: It cannot be read.
        yaml.YAMLError: It is no YAML.
        ValueError: It is none of the kinds that are known.
    """
    text = path.read_text(encoding="utf-8")
    found = secret_problems(text)
    if path.name.startswith("Dockerfile"):
        return found + dockerfile.problems(text)
    documents = [document for document in yaml.safe_load_all(text) if document]
    found += [blank for document in documents for blank in blanks(document)]
    if len(documents) == 1 and "provider" in documents[0]:
        return found + launcher.problems(documents[0])
    if len(documents) == 1 and {"resources", "run"} <= documents[0].keys():
        return found + skypilot.problems(documents[0])
    if documents and all("apiVersion" in document for document in documents):
        return found + [found for each in documents for found in kuberay.problems(each)]
    raise ValueError("neither a launcher file nor Kubernetes manifests nor a task of SkyPilot's")


def account_problems(path: Path) -> list[str]:
    """What the account lacks that a launcher file needs.

    Raises:
        OSError: The file cannot be read.
        ValueError: The account does not answer, or is of no cloud that is known here.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        # A Dockerfile, or several manifests.
        config = None
    cloud = launcher.cloud_of(config.get("provider", {})) if isinstance(config, dict) else ""
    ask = {"aws": _aws_problems, "gcp": _google_problems}.get(cloud)
    if ask is None:
        raise ValueError("--account knows launcher files for AWS and Google Cloud alone")
    return ask(config)


def _aws_problems(config: dict[str, Any]) -> list[str]:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        region = config["provider"]["region"]
        return list(aws_account.problems(config, lambda name: boto3.client(name, region)))
    except (BotoCoreError, ClientError) as error:
        raise ValueError(f"the account does not answer: {error}") from None


def _google_problems(config: dict[str, Any]) -> list[str]:
    try:
        return list(gcp_account.problems(config, google.clients()))
    except google.errors_of_the_account() as error:
        raise ValueError(f"the account does not answer: {google.told(error)}") from None


def main(arguments: Sequence[str]) -> int:
    """Print the problems of all files; returns the exit status."""
    ask_account = "--account" in arguments
    arguments = [argument for argument in arguments if argument != "--account"]
    if not arguments:
        print(__doc__)
        return 2
    status = 0
    for name in arguments:
        try:
            found = problems(Path(name))
            if ask_account and not found:
                found = account_problems(Path(name))
        except (OSError, yaml.YAMLError, ValueError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        for problem in found:
            print(f"{name}: {problem}")
        if found:
            status = 1
        else:
            print(f"{name}: nothing to complain about")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
