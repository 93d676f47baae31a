"""The benchmark as a library, where Ray, MLflow and their company are not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = '''
import sys

class Absent:
    """Refuses the engine's packages, as an environment without them would."""
    names = {"ray", "optuna", "mlflow", "hydra", "omegaconf", "pydantic", "rich", "sweeps"}

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None

sys.meta_path.insert(0, Absent())

import torch
import oneshui
from support.tiny import TinyProblem
from oneshui.training.predict import predict
from oneshui.spec import Access

torch.set_num_threads(1)
problem = TinyProblem("convnext")
cpu = torch.device("cpu")
sets = {name: problem.images(name) for name in ("retain", "forget", "test", "val", "support")}
retrained = predict(problem.full_request().fresh_model, sets, task="multilabel", device=cpu)
for name in oneshui.methods.names():
    small = {"metaunlearn": {"epochs": 1, "hidden_size": 8}, "jit": {"num_samples": 2}}
    method = oneshui.methods.build(name, small.get(name, {}))
    if method.access is Access.FULL:
        request = problem.full_request()
    else:
        prepares = method.access is Access.PREPARED
        request = problem.unlearn_request(
            method.prepare(problem.prepare_request()) if prepares else None
        )
    model = method.unlearn(request)
    frame = predict(model, sets, task="multilabel", device=cpu)
    measures = oneshui.measure(frame, retrained, task="multilabel")
    assert 0 <= measures["tow"] <= 1
    print(name, "ok")
'''


def test_every_method_prepares_unlearns_and_is_measured_without_the_engine() -> None:
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tests}:{tests.parent}"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" ok") >= 6
