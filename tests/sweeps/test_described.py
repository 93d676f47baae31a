"""What a run says of itself, and that it is understood again: here, later, and without its code."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from oneshui.data import registry
from oneshui.errors import InputError
from oneshui.plugins import Plugin
from sweeps import described
from sweeps.config import load
from sweeps.graph.job import STAGE_VERSION, digest
from sweeps.graph.launch import LaunchSpec
from sweeps.graph.plan import expand
from sweeps.graph.spec import SweepSpec
from sweeps.store.base import SEAL

SMALL = ["sweep=smoke", "sweep.datasets=[synthetic_tiny]", "sweep.seeds=[0]"]


def written(folder: Path, *overrides: str) -> LaunchSpec:
    spec = load([*overrides, f"output_dir={folder}"])
    described.write(spec, folder)
    return spec


@pytest.mark.parametrize("sweep", ["demo", "full", "paper", "robustness", "saturation"])
def test_a_plan_is_read_as_it_was_planned(sweep: str, tmp_path: Path) -> None:
    spec = written(tmp_path, f"sweep={sweep}")
    found = described.read(tmp_path).sweep
    assert found == spec.sweep
    assert [*expand(found).jobs] == [*expand(spec.sweep).jobs]
    for cell, rows in spec.sweep.rows.items():
        # The order of hyperparameters is that of tables.
        orders = [[*row.hyperparameters] for row in rows]
        assert [[*row.hyperparameters] for row in found.rows[cell]] == orders


def test_a_plan_has_no_time_in_it_and_rows_of_many_cells_once(tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        spec = load(["sweep=full", "output_dir=x"])
        described.write(spec, tmp_path / name)
        texts.append((tmp_path / name / described.PLAN).read_text())
    assert texts[0] == texts[1]
    document = json.loads(texts[0])
    assert len(document["cells"]) == len(spec.sweep.cells) == 18
    # Every dataset and forget size has published values of its own, which its seeds share.
    assert len(document["rows"]) < sum(map(len, spec.sweep.rows.values())) / 2


def foreign(sweep: SweepSpec) -> SweepSpec:
    """The sweep as one of code that is not here: a layout and a method of nobody's."""
    drawn = sweep.datasets["synthetic_tiny"]
    brought = dataclasses.replace(drawn, layout="their_layout", generate=None)
    rows = {
        cell: tuple(dataclasses.replace(row, method=f"their_{row.method}") for row in own)
        for cell, own in sweep.rows.items()
    }
    return dataclasses.replace(sweep, datasets={"synthetic_tiny": brought}, rows=rows)


def test_code_that_is_not_here_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = registry.Dataset(
        name="their_layout",
        folder="theirs",
        task="multilabel",
        num_images=7,
        walk="reference",
        load=lambda *_, **__: None,  # type: ignore[arg-type]
        credit="Theirs.",
    )
    with monkeypatch.context() as there:
        registry.names()
        there.setitem(registry.DATASETS.known, "their_layout", theirs)
        spec = load(SMALL)
        spec = dataclasses.replace(spec, sweep=foreign(spec.sweep))
        keys = [*expand(spec.sweep).jobs]
        described.write(spec, tmp_path)
    monkeypatch.setattr(registry.DATASETS, "known", dict(registry.DATASETS.known))
    assert "their_layout" not in registry.names()
    found = described.read(tmp_path).sweep
    assert [*expand(found).jobs] == keys
    dataset = found.datasets["synthetic_tiny"]
    assert (dataset.credit, dataset.split_walk) == ("Theirs.", "reference")
    with pytest.raises(InputError, match="layout 'their_layout' cannot be read"):
        registry.load_dataset("their_layout", tmp_path)


def test_keys_stay_those_of_the_day_when_a_stage_gets_another_meaning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = expand(written(tmp_path, *SMALL).sweep)
    later = {stage: version + 1 for stage, version in STAGE_VERSION.items()}
    for module in ("job", "spec", "cells"):
        monkeypatch.setattr(f"sweeps.graph.{module}.STAGE_VERSION", later)
    assert described.read(tmp_path).sweep.versions == {**STAGE_VERSION}
    assert [*expand(described.read(tmp_path).sweep).jobs] == [*before.jobs]
    assert not before.jobs.keys() & expand(load(SMALL).sweep).jobs.keys()


def test_a_folder_is_asked_without_its_sweep(tmp_path: Path) -> None:
    spec = written(tmp_path, *SMALL, "report.margin=0.1", "sweep.views=3")
    for mode in ("report", "status", "ui", "why", "plan"):
        found = load([f"output_dir={tmp_path}", f"mode={mode}"])
        assert (found.mode, found.sweep, found.margin) == (mode, spec.sweep, 0.1)
        assert found.places == spec.places
    found = load(["mode=report", f"output_dir={tmp_path}", "report.margin=0.2", "replace=true"])
    assert (found.margin, found.replace) == (0.2, True)
    # What is printed goes on with the sweep, not with the demo.
    assert found.command == (
        *(*SMALL, "sweep.views=3", f"output_dir={tmp_path}"),
        *("mode=report", "report.margin=0.2", "replace=true"),
    )


def test_a_stranger_s_folder_runs_no_code_and_reads_no_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_MINE", "hunter2")
    written(tmp_path, *SMALL)
    path, trap = tmp_path / described.PLAN, tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w').close()\n")
    address = {"tracking": {"uri": "http://host/${oc.env:SECRET_OF_MINE}"}}
    path.write_text(spoiled(path.read_text(), settings=address, command=[f"plugins=[{trap}]"]))
    sweep = (tmp_path / described.SWEEP).read_text()
    (tmp_path / described.SWEEP).write_text(sweep.replace("plugins: []", f"plugins: [{trap}]"))
    found = load(["mode=report", f"output_dir={tmp_path}"])
    assert found.places.tracking_uri == "http://host/${oc.env:SECRET_OF_MINE}"
    assert not (tmp_path / "sprung").exists()
    # Who names code wants it.
    mine = load(["mode=why", "run=true", f"plugins=[{trap}]", f"output_dir={tmp_path}"])
    assert mine.sweep == found.sweep
    assert [one.module for one in mine.plugins] == ["trap"]
    assert (tmp_path / "sprung").exists()
    load(["sweep=smoke"])


def test_where_a_report_is_copied_to_is_the_command_s_to_say(tmp_path: Path) -> None:
    written(tmp_path, *SMALL, "report.copy_to=/somewhere", "report.margin=0.1")
    asked = ["mode=report", f"output_dir={tmp_path}"]
    found = load(asked)
    assert (found.places.copy_to, found.margin) == (None, 0.1)
    assert load([*asked, "report.copy_to=/mine"]).places.copy_to == "/mine"


def test_a_folder_that_moved_is_asked_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    spec = written(tmp_path / "there", *SMALL)
    (tmp_path / "there").rename(tmp_path / "here")
    found = load(["mode=report", f"output_dir={tmp_path / 'here'}"])
    assert found.sweep == spec.sweep
    assert found.places.store_uri == str(tmp_path / "here" / "store")
    assert "there" not in " ".join(found.command)


def test_who_names_a_sweep_gets_that_one(tmp_path: Path) -> None:
    written(tmp_path, *SMALL)
    place = f"output_dir={tmp_path}"
    assert load(["sweep=demo", "mode=report", place]).sweep == load(["sweep=demo"]).sweep
    assert load(["sweep.seeds=[7]", "mode=report", place]).sweep.name == "demo"
    assert load([place]).sweep.name == "demo"


@pytest.mark.parametrize("mode", ["report", "status", "ui", "why", "plan"])
def test_a_folder_that_says_nothing_is_named(mode: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no \S+, in which a sweep describes itself: say"):
        load([f"output_dir={tmp_path}", f"mode={mode}"])


def spoiled(text: str, **changes: object) -> str:
    document = json.loads(text) | changes
    del document[SEAL]
    return json.dumps({**document, SEAL: digest(document)})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[: len(text) // 2], "cannot be read"),
        (lambda text: text[:0] + "[1, 2]", "cannot be read"),
        (lambda text: text.replace('"seed": 0', '"seed": 1'), "has changed since it was written"),
        (lambda text: spoiled(text, format=2), "another version"),
        (lambda text: spoiled(text, sweep={"name": 3}), "another version"),
        (lambda text: spoiled(text, sweep={"new": 3}), "another version"),
        (lambda text: spoiled(text, cells=[]), "another version"),
        (lambda text: spoiled(text, settings={"yes": True}), "another version"),
    ],
)
def test_a_plan_that_is_not_as_it_was_written_is_refused(
    damage: object, said: str, tmp_path: Path
) -> None:
    written(tmp_path, *SMALL)
    path = tmp_path / described.PLAN
    path.write_text(damage(path.read_text()))  # type: ignore[operator]
    with pytest.raises(InputError, match=said) as error:
        described.read(tmp_path)
    assert str(path) in str(error.value)
    assert "say which sweep is meant" in str(error.value)


def test_a_description_runs_again_with_changes(tmp_path: Path) -> None:
    given = ["sweep.rows.ssd.alpha=3", "tuning.trials=5", "sweep.views=3", "cluster.workers=2"]
    spec = written(tmp_path, *SMALL, *given, r"+datasets.mine={layout: table, path: 'a\${x}b'}")
    file = f"sweep={tmp_path / described.SWEEP}"
    again = load([file])
    assert (again.sweep, again.cluster, again.places) == (spec.sweep, spec.cluster, spec.places)
    assert again.configuration == spec.configuration
    assert again.configuration["datasets"]["mine"]["path"] == "a${x}b"
    assert load([file, "sweep.views=1"]).sweep == dataclasses.replace(spec.sweep, views=1)
    joined = load([file, "cluster=existing", "cluster.workers=1"]).cluster
    assert (joined.mode, joined.workers) == ("existing", 1)
    with pytest.raises(InputError, match="scale=toy is for shipped sweeps"):
        load([file, "scale=toy"])


def test_keys_that_are_younger_than_a_description_have_their_defaults(tmp_path: Path) -> None:
    spec = written(tmp_path, *SMALL)
    path = tmp_path / described.SWEEP
    document = OmegaConf.load(path)
    del document.configuration.report.reference
    del document.configuration.cluster.pack_gpus
    OmegaConf.save(document, path)
    again = load([f"sweep={path}"])
    assert (again.sweep, again.cluster, again.reference) == (spec.sweep, spec.cluster, "")


def test_a_description_says_versions_plugins_and_weights_but_no_secret(tmp_path: Path) -> None:
    spec = load([*SMALL, "tracking.uri=http://me:hunter2@host/?token=hunter2", "mode=run"])
    mine = Plugin(module="mine", item="mine.py", files={"mine.py": b"X = 1\n"}, travels=True)
    described.write(dataclasses.replace(spec, plugins=(mine,)), tmp_path)
    document = OmegaConf.to_container(OmegaConf.load(tmp_path / described.SWEEP))
    assert isinstance(document, dict)
    assert document["plugins"] == [{"name": "mine.py", "sources": f"plugins/{mine.hash}"}]
    assert {"oneshui", "python", "torch", "ray", "optuna", "mlflow"} <= document["versions"].keys()
    assert document["weights"] is None
    assert not {"mode", "row", "what", "replace"} & document["configuration"].keys()
    assert document["configuration"]["tracking"]["uri"] == "http://host/?token=***"
    assert "hunter2" not in (tmp_path / described.PLAN).read_text()


def test_a_file_of_the_user_s_is_a_sweep_or_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("defaults: [smoke, _self_]\nname: mine\nseeds: [5]\n")
    (tmp_path / "lab.yaml").write_text("defaults: [local, _self_]\nworkers: 3\n")
    files = [f"sweep={tmp_path / 'mine.yaml'}", f"cluster={tmp_path / 'lab.yaml'}"]
    spec = load([*files, "sweep.views=3"])
    assert (spec.sweep.name, spec.sweep.views, spec.cluster.workers) == ("mine", 3, 3)
    assert {cell.seed for cell in spec.sweep.cells} == {5}
    described.write(spec, tmp_path)
    assert load([f"sweep={tmp_path / described.SWEEP}"]).sweep == spec.sweep
    # Changed since, as a user does who tries things in one process.
    (tmp_path / "mine.yaml").write_text("defaults: [smoke, _self_]\nname: mine\nseeds: [6]\n")
    assert {cell.seed for cell in load(files).sweep.cells} == {6}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read (No such file"),
        ("a: [1", "is no YAML"),
        ("- 1\n", "it holds no keys"),
        ("configuration: 3\n", "its configuration is no map"),
        ("defaults: [nothing]\n", "nothing"),
        ("defaults: [smoke, _self_]\nview: 3\n", "sweep.view"),
    ],
)
def test_a_file_that_is_no_sweep_is_named(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError) as error:
        load([f"sweep={path}"])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_in_the_way_is_set_aside_and_nothing_is_half_written(tmp_path: Path) -> None:
    (tmp_path / described.PLAN).mkdir()
    written(tmp_path, *SMALL)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [described.PLAN, f"{described.PLAN}.unreadable-1", described.SWEEP]


def test_elsewhere_no_folder_of_this_machine_is_named(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for place in ("0", "1"):
        (home / "models" / place).mkdir(parents=True)
        (home / "models" / place / "m.safetensors").write_bytes(place.encode())
    (home / "run").mkdir()
    (home / "first.safetensors").write_bytes(b"weights")
    (home / "mine.py").write_text("")
    spec = written(
        home / "run",
        *SMALL[:2],
        "sweep.seeds=[0,1]",
        f"plugins=[{home}/mine.py]",
        f"sweep.model.weights={home}/first.safetensors",
        f"sweep.pretrained={home}/models/{{seed}}/m.safetensors",
        "sweep.pretrained_saw=split",
        f"data_dir={home}/faces",
    )
    texts = described.elsewhere(home / "run")
    (tmp_path / "there").mkdir()
    for name, content in texts.items():
        assert str(tmp_path).encode() not in content
        (tmp_path / "there" / name).write_bytes(content)
    found = described.read(tmp_path / "there")
    assert found.sweep.pretrained is not None
    assert found.sweep.pretrained.path == "{seed}/m.safetensors"
    assert [*expand(found.sweep).jobs] == [*expand(spec.sweep).jobs]
    assert "plugins=[mine.py]" in found.command
