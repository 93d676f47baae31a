"""``python -m cluster.orphans PROVIDER ...``: what is left with a provider and costs money.

    python -m cluster.orphans aws REGION [BUCKET]
    python -m cluster.orphans gcp PROJECT [BUCKET]
    python -m cluster.orphans kubernetes [NAMESPACE]

Lists machines, disks, addresses, file systems and the bucket, or what stands for them, each with
the command that ends it. Only reads. Exit status 0: nothing is left; 1: each thing on its line; 2:
the account does not answer, or a part of it does not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence

from cluster.accounts import google
from cluster.leftovers import aws, gcp, kubernetes
from cluster.leftovers.answers import NoAnswerError


def _aws(region: str, bucket: str = "") -> Iterator[str]:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield from aws.left(lambda name: boto3.client(name, region), bucket)
    except (BotoCoreError, ClientError) as error:
        raise NoAnswerError(f"the account does not answer: {error}") from None


def _gcp(project: str, bucket: str = "") -> Iterator[str]:
    try:
        yield from gcp.left(google.clients(), project, bucket)
    except NoAnswerError as error:
        raise NoAnswerError(f"not all is known: {error}") from None
    except google.errors_of_the_account() as error:
        raise NoAnswerError(f"the account does not answer: {google.told(error)}") from None


def _kubernetes(namespace: str = "oneshui") -> Iterator[str]:
    unknown = []
    for found in kubernetes.left(kubernetes.ask(namespace), namespace):
        if isinstance(found, str):
            yield found
        else:
            unknown.append(str(found))
    if unknown:
        raise NoAnswerError("not all is known. " + "; ".join(unknown))


PROVIDERS: dict[str, tuple[Callable[..., Iterator[str]], tuple[int, int]]] = {
    "aws": (_aws, (1, 2)),
    "gcp": (_gcp, (1, 2)),
    "kubernetes": (_kubernetes, (0, 1)),
}
"""Who lists what is left, and with how many words."""


def main(arguments: Sequence[str]) -> int:
    """Print what is left; returns the exit status."""
    provider, *words = arguments or [""]
    if provider not in PROVIDERS or len(words) not in PROVIDERS[provider][1]:
        print(__doc__)
        return 2
    is_empty = True
    try:
        for line in PROVIDERS[provider][0](*words):
            print(line)
            is_empty = False
    except NoAnswerError as error:
        print(error, file=sys.stderr)
        return 2
    if is_empty:
        print(f"nothing is left in {words[0] if words else 'oneshui'}")
    return 0 if is_empty else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
