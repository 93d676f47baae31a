"""Kubernetes on loopback: as much of its API as ``kubectl`` and README.md's commands need.

It keeps what it is given, hides what is being tried (``dryRun``), deletes what is owned with its
owner, and plays those who would act: KubeRay makes a cluster of a job and pods of a cluster, a
storage class makes a volume of a claim, a namespace takes all in it with it. Nothing runs in a pod.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from support.serving import served

Thing = dict[str, Any]
Key = tuple[str, str, str]
"""Plural, namespace ("" where a kind has none), name."""


@dataclass(frozen=True)
class Kind:
    """A kind of thing: its name, the group and version that it is in, and whose namespace."""

    kind: str
    group: str = ""
    version: str = "v1"
    is_namespaced: bool = True
    short: str = ""

    @property
    def api(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        return f"/apis/{self.api}" if self.group else f"/api/{self.api}"


KINDS: dict[str, Kind] = {
    "namespaces": Kind("Namespace", is_namespaced=False, short="ns"),
    "nodes": Kind("Node", is_namespaced=False, short="no"),
    "persistentvolumes": Kind("PersistentVolume", is_namespaced=False, short="pv"),
    "persistentvolumeclaims": Kind("PersistentVolumeClaim", short="pvc"),
    "pods": Kind("Pod", short="po"),
    "secrets": Kind("Secret"),
    "services": Kind("Service", short="svc"),
    "networkpolicies": Kind("NetworkPolicy", group="networking.k8s.io", short="netpol"),
    "rayclusters": Kind("RayCluster", group="ray.io"),
    "rayjobs": Kind("RayJob", group="ray.io"),
}


class RefusedError(Exception):
    """What the API says instead of doing it."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.document = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }


def forbidden(plural: str, name: str, why: str) -> RefusedError:
    full = f"{plural}.{KINDS[plural].group}".rstrip(".")
    return RefusedError(403, "Forbidden", f'{full} "{name}" is forbidden: {why}'.replace(' ""', ""))


@dataclass
class Kubernetes:
    """What is in a cluster.

    Attributes:
        things: All there is.
        most: What there was at any time.
        classes: Storage classes, and what they do with a volume whose claim is deleted.
        kinds: Those that it knows.
        interfere: Called with verb, plural and name before anything is done; may raise.
        on_job: Called when KubeRay has begun a job.
    """

    things: dict[Key, Thing] = field(default_factory=dict)
    most: set[Key] = field(default_factory=set)
    classes: dict[str, str] = field(default_factory=lambda: {"shared": "Delete"})
    kinds: dict[str, Kind] = field(default_factory=lambda: dict(KINDS))
    interfere: Callable[[str, str, str], None] = lambda _verb, _plural, _name: None
    on_job: Callable[[Thing], None] = lambda _job: None
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _one: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        for node in ("cpu-1", "cpu-2"):
            self.add("nodes", "", {"metadata": {"name": node}, "status": {}})
        self.most.clear()

    def add(self, plural: str, namespace: str, thing: Thing) -> Thing:
        kind, number = KINDS[plural], next(self._numbers)
        thing |= {"kind": kind.kind, "apiVersion": kind.api}
        thing["metadata"] |= {
            "uid": f"00000000-0000-0000-0000-{number:012d}",
            "resourceVersion": str(number),
            "creationTimestamp": "2026-12-01T00:00:00Z",
        }
        if kind.is_namespaced:
            thing["metadata"]["namespace"] = namespace
        key = (plural, namespace, thing["metadata"]["name"])
        self.things[key] = thing
        self.most.add(key)
        return thing

    def names(self, plural: str) -> list[str]:
        return [name for kind, _, name in self.things if kind == plural]

    # What others than the API do.

    def _act(self, plural: str, namespace: str, thing: Thing) -> None:
        name = thing["metadata"]["name"]
        if plural == "namespaces":
            thing["status"] = {"phase": "Active"}
        elif plural == "persistentvolumeclaims":
            self._bind(namespace, thing)
        elif plural == "pods":
            self._start(namespace, thing)
        elif plural == "rayjobs":
            thing["status"] = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}
            spec = thing["spec"]["rayClusterSpec"]
            self._own("rayclusters", namespace, f"{name}-x", spec, thing)
            self.on_job(thing)
        elif plural == "rayclusters":
            thing["status"] = {"state": "ready"}
            head = thing["spec"]["headGroupSpec"]["template"]
            labels = {**head["metadata"]["labels"], "ray.io/node-type": "head"}
            self._own("pods", namespace, f"{name}-head", head["spec"], thing, labels)
            self._own("services", namespace, f"{name}-head-svc", {"type": "ClusterIP"}, thing)
            for group in thing["spec"]["workerGroupSpecs"][:1]:
                spec = group["template"]["spec"]
                labels = {"ray.io/node-type": "worker", "ray.io/group": group["groupName"]}
                self._own("pods", namespace, f"{name}-{group['groupName']}", spec, thing, labels)

    def _own(
        self,
        plural: str,
        namespace: str,
        name: str,
        spec: Any,
        owner: Thing,
        labels: Thing | None = None,
    ) -> None:
        reference = {"uid": owner["metadata"]["uid"], "name": owner["metadata"]["name"]}
        metadata = {"name": name, "labels": labels or {}, "ownerReferences": [reference]}
        made = self.add(plural, namespace, {"metadata": metadata, "spec": spec})
        self._act(plural, namespace, made)

    def _bind(self, namespace: str, claim: Thing) -> None:
        policy = self.classes.get(claim["spec"].get("storageClassName", ""))
        claim["status"] = {"phase": "Pending"}
        if policy is None:
            return
        size = claim["spec"]["resources"]["requests"]
        claim["status"] = {"phase": "Bound", "capacity": size}
        name = f"pvc-{claim['metadata']['uid']}"
        reference = {"namespace": namespace, "name": claim["metadata"]["name"]}
        spec = {
            "capacity": size,
            "claimRef": reference,
            "persistentVolumeReclaimPolicy": policy,
        }
        volume = {"metadata": {"name": name}, "spec": spec, "status": {"phase": "Bound"}}
        self.add("persistentvolumes", "", volume)

    def _start(self, namespace: str, pod: Thing) -> None:
        claims = [
            volume["persistentVolumeClaim"]["claimName"]
            for volume in pod["spec"].get("volumes", ())
            if "persistentVolumeClaim" in volume
        ]
        found = [self.things.get(("persistentvolumeclaims", namespace, name)) for name in claims]
        is_ready = all(claim and claim["status"]["phase"] == "Bound" for claim in found)
        condition = {"type": "Ready", "status": "True" if is_ready else "False"}
        pod["status"] = {"phase": "Running" if is_ready else "Pending", "conditions": [condition]}

    def end(self, key: Key) -> None:
        """Delete a thing and what goes with it."""
        with self._one:
            thing = self.things.pop(key, None)
            if thing is None:
                return
            plural, namespace, name = key
            uid = thing["metadata"]["uid"]
            for other, one in list(self.things.items()):
                owners = [it["uid"] for it in one["metadata"].get("ownerReferences", ())]
                if uid in owners or (plural == "namespaces" and other[1] == name):
                    self.end(other)
            if plural == "persistentvolumeclaims":
                self._release({"namespace": namespace, "name": name})

    def _release(self, claim: Thing) -> None:
        for key, volume in list(self.things.items()):
            if key[0] == "persistentvolumes" and volume["spec"]["claimRef"] == claim:
                volume["status"]["phase"] = "Released"
                self._look_at_volume(key)

    def _look_at_volume(self, key: Key) -> None:
        volume = self.things[key]
        is_kept = volume["spec"]["persistentVolumeReclaimPolicy"] != "Delete"
        if volume["status"]["phase"] == "Released" and not is_kept:
            del self.things[key]

    # The API.

    def answer(self, method: str, path: str, asked: dict[str, str], body: bytes) -> Any:
        """The document that a request gets; raises ``RefusedError``."""
        with self._one:
            fixed = _description(path, self.kinds)
            if fixed is not None:
                return fixed
            plural, namespace, name = _place(path)
            kind = KINDS[plural]
            if method == "POST":
                return self._create(plural, namespace, asked, body)
            verb = {"DELETE": "delete", "PATCH": "patch"}.get(method)
            self.interfere(verb or ("get" if name else "list"), plural, name)
            if not name:
                found = self._select(plural, namespace, asked)
                if method == "DELETE":
                    for one in found:
                        self.end((plural, namespace, one["metadata"]["name"]))
                metadata = {"resourceVersion": str(next(self._numbers))}
                listed = {"kind": f"{kind.kind}List", "apiVersion": kind.api}
                return {**listed, "metadata": metadata, "items": found}
            found_one = self.things.get((plural, namespace, name))
            if found_one is None:
                full = f"{plural}.{kind.group}".rstrip(".")
                raise RefusedError(404, "NotFound", f'{full} "{name}" not found')
            if method == "PATCH":
                _merge(found_one, json.loads(body))
                if plural == "persistentvolumes":
                    self._look_at_volume((plural, namespace, name))
            if method == "DELETE":
                self.end((plural, namespace, name))
            return found_one

    def _create(self, plural: str, namespace: str, asked: dict[str, str], body: bytes) -> Thing:
        thing = decoded(body)
        name = thing["metadata"]["name"]
        self.interfere("create", plural, name)
        if KINDS[plural].is_namespaced and ("namespaces", "", namespace) not in self.things:
            raise RefusedError(404, "NotFound", f'namespaces "{namespace}" not found')
        if (plural, namespace, name) in self.things:
            raise RefusedError(409, "AlreadyExists", f'{plural} "{name}" already exists')
        if asked.get("dryRun") == "All":
            return {**thing, "kind": KINDS[plural].kind, "apiVersion": KINDS[plural].api}
        made = self.add(plural, namespace, thing)
        self._act(plural, namespace, made)
        return made

    def _select(self, plural: str, namespace: str, asked: dict[str, str]) -> list[Thing]:
        found = [
            thing
            for (kind, where, _), thing in self.things.items()
            if kind == plural and (where == namespace or not namespace)
        ]
        for term in filter(None, asked.get("labelSelector", "").split(",")):
            label, _, value = term.partition("=")
            found = [it for it in found if it["metadata"].get("labels", {}).get(label) == value]
        for term in filter(None, asked.get("fieldSelector", "").split(",")):
            assert term.startswith("metadata.name="), term
            wanted = term.partition("=")[2]
            found = [it for it in found if it["metadata"]["name"] == wanted]
        return found

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request, as WSGI has it."""
        if environ["PATH_INFO"] == "/openapi/v2":
            # Protocol buffers, of which nothing at all is a description that names nothing.
            start_response("200 OK", [("Content-Length", "0")])
            return [b""]
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        query = parse_qs(environ.get("QUERY_STRING", ""))
        asked = {name: values[0] for name, values in query.items()}
        status = "200 OK"
        try:
            found = self.answer(environ["REQUEST_METHOD"], environ["PATH_INFO"], asked, body)
        except RefusedError as error:
            found, status = error.document, f"{error.document['code']} Refused"
        if asked.get("watch") in ("1", "true") and "items" in found:
            # All that is there, and the end: who looks on is not kept waiting.
            lines = [json.dumps({"type": "ADDED", "object": one}) for one in found["items"]]
            text = "".join(f"{line}\n" for line in lines).encode()
        else:
            text = json.dumps(found).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(text)))]
        start_response(status, headers)
        return [text]


def _merge(into: Thing, change: Thing) -> None:
    for name, value in change.items():
        if value is None:
            into.pop(name, None)
        elif isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value


def _place(path: str) -> Key:
    """Plural, namespace and name of a path."""
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = ""
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    if not parts or parts[0] not in KINDS:
        raise RefusedError(404, "NotFound", "the server could not find the requested resource")
    return parts[0], namespace, parts[1] if len(parts) > 1 else ""


def _description(path: str, kinds: dict[str, Kind]) -> Any:
    """What the API says about itself; None for a path of a thing."""
    path = path.rstrip("/")
    groups = sorted({(kind.group, kind.version) for kind in kinds.values() if kind.group})
    if path == "/version":
        return {"major": "1", "minor": "32", "gitVersion": "v1.32.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        listed = []
        for group, version in groups:
            one = {"groupVersion": f"{group}/{version}", "version": version}
            listed.append({"name": group, "versions": [one], "preferredVersion": one})
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
    of_version = {plural: kind for plural, kind in kinds.items() if kind.root == path}
    if of_version:
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": next(iter(of_version.values())).api,
            "resources": [
                {
                    "name": plural,
                    "singularName": kind.kind.lower(),
                    "namespaced": kind.is_namespaced,
                    "kind": kind.kind,
                    "verbs": ["create", "delete", "deletecollection", "get", "list", "patch"],
                    "shortNames": [kind.short] if kind.short else [],
                }
                for plural, kind in of_version.items()
            ],
        }
    if path == "/openapi/v3":
        roots = sorted({kind.root for kind in kinds.values()})
        return {"paths": {it.strip("/"): {"serverRelativeURL": f"/openapi/v3{it}"} for it in roots}}
    if path.startswith("/openapi/v3/"):
        return _fields(path.removeprefix("/openapi/v3"), kinds)
    return None


def _fields(root: str, kinds: dict[str, Kind]) -> Thing:
    """That the server looks at fields itself, which is all that ``kubectl`` wants to know."""
    parameters = [{"name": name, "in": "query"} for name in ("fieldValidation", "dryRun")]
    paths = {}
    for plural, kind in kinds.items():
        if kind.root == root:
            named = {"group": kind.group, "version": kind.version, "kind": kind.kind}
            action = {"parameters": parameters, "x-kubernetes-group-version-kind": named}
            where = "/namespaces/{namespace}" if kind.is_namespaced else ""
            paths[f"{root}{where}/{plural}/{{name}}"] = {"patch": action}
    information = {"title": "Kubernetes", "version": "v1.32.0"}
    return {"openapi": "3.0.0", "info": information, "paths": paths}


def decoded(body: bytes) -> Thing:
    """A thing as ``kubectl`` sends it: JSON, or Kubernetes' own wrapping of protocol buffers."""
    if not body.startswith(b"k8s\0"):
        thing: Thing = json.loads(body)
        return thing
    wrapped = _numbered(body[4:])
    kind = _numbered(wrapped[1][0])[2][0].decode()
    inside = _numbered(wrapped[2][0])
    thing = {"metadata": {"name": _numbered(inside[1][0])[1][0].decode()}}
    if kind == "Secret":
        entries = [_numbered(entry) for entry in inside.get(2, [])]
        thing["data"] = {
            entry[1][0].decode(): base64.b64encode(entry[2][0]).decode() for entry in entries
        }
    else:
        assert kind == "Namespace", kind
    return thing


def _numbered(message: bytes) -> dict[int, list[bytes]]:
    """The fields of a message that have a length, by number."""
    found: dict[int, list[bytes]] = {}
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(message):
        tag = number()
        if tag & 7 == 0:
            number()
            continue
        assert tag & 7 == 2, tag
        length = number()
        found.setdefault(tag >> 3, []).append(message[place : place + length])
        place += length
    return found


@contextlib.contextmanager
def kubernetes() -> Iterator[tuple[str, Kubernetes]]:
    """Where it answers, and what is in it."""
    app = Kubernetes()
    with served(app) as address:
        yield address, app
