from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from oneshui.errors import InputError
from sweeps import composition
from sweeps.config import load
from sweeps.graph.launch import MachineType
from sweeps.launcher_file import machines_of


def test_command_line_values_arrive_as_typed_values(tmp_path: Path) -> None:
    spec = load(
        [
            "sweep=demo",
            "sweep.seeds=[3,4]",
            "sweep.methods=[pretrain,ssd]",
            "sweep.forget_sizes=[10]",
            "sweep.rows.ssd.alpha=9",
            "cluster.workers=2",
            f"output_dir={tmp_path}",
        ]
    )
    assert [(cell.num_forget, cell.seed) for cell in spec.sweep.cells] == [(10, 3), (10, 4)]
    (_, ssd) = spec.sweep.rows[spec.sweep.cells[0]]
    assert ssd.hyperparameters["alpha"] == 9
    assert ssd.prepare == {"batch_size": 128, "importance": "batch"}
    assert spec.cluster.workers == 2
    assert spec.places.store_uri == str(tmp_path / "store")


def test_full_uses_the_published_hyperparameters_of_each_forget_size() -> None:
    sweep = load(["sweep=full", "sweep.seeds=[0]", "sweep.methods=[ssd]"]).sweep
    found = {cell.num_forget: rows[0].hyperparameters for cell, rows in sweep.rows.items()}
    assert (found[20]["alpha"], found[20]["dampening"]) == (50.0, 0.1)
    assert (found[50]["alpha"], found[50]["dampening"]) == (10.0, 0.5)


@pytest.mark.parametrize(
    "override", ["cluster.stages={retrain: {gpus: 1.0}}", "cluster.stages.retrain.gpus=1.0"]
)
def test_maps_that_consist_of_new_keys_take_them(override: str) -> None:
    assert load([override]).cluster.stages["retrain"].gpus == 1.0


def test_a_cloud_adds_the_machines_of_its_launcher_file(tmp_path: Path) -> None:
    assert load(["cluster=existing"]).cluster.machines == {}
    file = tmp_path / "aws.yaml"
    file.write_text(
        "max_workers: 20\nhead_node_type: head\navailable_node_types:\n"
        "  head: {resources: {CPU: 0}}\n  none: {resources: {CPU: 1}, max_workers: 0}\n"
        "  few: {resources: {CPU: 4, GPU: 1, memory: 1073741824}, max_workers: 3}\n"
        "  many: {resources: {CPU: 2}}\n  too_many: {resources: {CPU: 2}, max_workers: 30}\n"
    )
    cluster = load(["cluster=aws", f"cluster.machines_file={file}"]).cluster
    assert cluster.mode == "existing"
    assert cluster.machines == {
        "few": MachineType(cpus=4, gpus=1, memory_gb=1, most=3),
        "many": MachineType(cpus=2, most=20),
        "too_many": MachineType(cpus=2, most=20),
    }


def test_a_launcher_file_is_read_where_machines_are_started_and_not_elsewhere(
    tmp_path: Path,
) -> None:
    absent = f"cluster.machines_file={tmp_path / 'absent.yaml'}"
    with pytest.raises(InputError, match=r"absent\.yaml, but that cannot be read.*cluster/aws"):
        load(["cluster=aws", absent, "mode=plan"])
    assert load(["cluster=aws", absent, "mode=status"]).cluster.machines == {}
    for text in ("a: 1", "[1, 2]", "max_workers: 3\nhead_node_type: h", "{", ""):
        (tmp_path / "absent.yaml").write_text(text)
        with pytest.raises(InputError, match="no file of Ray's launcher"):
            load(["cluster=aws", absent])
    with pytest.raises(InputError, match="both say which machines"):
        load(["cluster=aws", absent, "cluster.machines={a: {cpus: 1, most: 1}}"])
    with pytest.raises(InputError, match=r"cluster\.machines_file is for cluster=existing"):
        load([absent])


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_a_plan_on_a_laptop_reads_the_launcher_file_of_the_checkout(
    cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    # Whatever the folder is in which somebody types it.
    monkeypatch.chdir(tmp_path)
    own = Path(__file__).parents[2] / "cluster" / f"{cloud}.yaml"
    assert load([f"cluster={cloud}", "mode=plan"]).cluster.machines == machines_of(own)
    with pytest.raises(InputError, match="`ray up` leaves it on a head"):
        load([f"cluster={cloud}"])
    # On a head counts what its autoscaler goes by.
    (tmp_path / "ray_bootstrap_config.yaml").write_text(
        "max_workers: 3\nhead_node_type: head\navailable_node_types:\n"
        "  head: {resources: {CPU: 0}}\n  a: {resources: {CPU: 1}}\n"
    )
    for mode in ("plan", "run"):
        machines = load([f"cluster={cloud}", f"mode={mode}"]).cluster.machines
        assert machines == {"a": MachineType(cpus=1, most=3)}


def test_a_dataset_changes_its_own_training_values() -> None:
    sweep = load(["sweep=full"]).sweep
    assert sweep.training["celebahq"].weight_decay == 1e-3
    assert sweep.training["celebahq"].epochs == 30


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["sweep=demmo"], "unknown sweep 'demmo'; did you mean 'demo'"),
        (["cluster=lokal"], "unknown cluster 'lokal'; did you mean 'local'"),
        (["sweep.methods=[sssd]"], "unknown method 'sssd'; did you mean 'ssd'"),
        (["sweep.datasets=[celebhq]"], "unknown dataset 'celebhq'; did you mean 'celebahq'"),
        (
            ["sweep.sseeds=[1]"],
            "unknown configuration key 'sweep.sseeds'; did you mean 'sweep.seeds'",
        ),
        (
            ["++sweep.audit={pools: 8}"],
            "unknown configuration key 'sweep.audit.pools'; did you mean 'sweep.audit.pool'",
        ),
        (["+sweep.extra=1"], "unknown configuration key 'sweep.extra'"),
        (["mode=fast"], "mode is 'fast'"),
        (["sweep.seeds=[a]"], "sweep.seeds.0 is 'a'"),
        (["sweep.seeds=3"], "sweep.seeds is 3"),
        (["sweep.seeds=[true]"], "sweep.seeds.0 is True"),
        (["sweep.seeds=[]"], "sweep.seeds is empty"),
        (["sweep.seeds=[-1]"], "seeds must be 0 or more"),
        (["sweep.seeds=[0,0]"], "repeats a value"),
        (["sweep.methods=[ssd,jit,ssd]"], "ssd stands 2 times in sweep.methods: name it once"),
        (["sweep.forget_sizes=[0]"], "forget sizes are 1 or more"),
        (["sweep.rows.ssd.alpha=x"], "ssd.alpha is 'x', but it must be of type float"),
        (["sweep.rows.ssd.alpha=-1"], "ssd.alpha is -1"),
        (["sweep.rows.ssd.alfa=1"], "unknown hyperparameter of ssd 'alfa'; did you mean 'alpha'"),
        (["sweep.rows.gradient_ascent.parameters=some"], "parameters is 'some'"),
        (["sweep.training.epochs=0"], "training.epochs is 0"),
        (["sweep.training.optimizer=lion"], "sweep.training.optimizer is 'lion'"),
        (["sweep.model.image_size=3"], "model.image_size is 3"),
        (
            ["datasets.synthetic.crop_size=20"],
            "datasets.synthetic.crop_size is 20, but it must be 48 .sweep.model.image_size. to",
        ),
        (
            ["sweep.datasets=[mine]", "+datasets.mine={layout: celebhq, forget_sizes: [5]}"],
            "unknown dataset layout 'celebhq'; did you mean 'celebahq'.*mufac_clean, orl, table",
        ),
        (
            ["datasets.synthetic.layout=mufac_clean"],
            "^datasets.synthetic: faces cannot be drawn in the layout 'mufac_clean', only",
        ),
        (["+datasets.mine={name: me, layout: table, forget_sizes: [5]}"], "mine is the name"),
        (["+datasets.mine=table"], "datasets.mine is 'table'"),
        (["datasets=table"], "datasets is 'table'"),
        (["+datasets.mine={layout: table, forget_sises: [5]}"], "key 'datasets.mine.forget_sises'"),
        (["+datasets.synthetic.training={epocs: 5}"], "key 'datasets.synthetic.training.epocs'"),
        (
            ["+datasets.synthetic.training={epochs: x}"],
            "^datasets.synthetic.training.epochs is 'x': input should be a valid integer",
        ),
        (
            ["+datasets.synthetic.training={epochs: 0}"],
            "^datasets.synthetic.training: training.epochs is 0",
        ),
        (["tuning.trials=x"], "^tuning.trials is 'x': input should be a valid integer"),
        (["tuning.trials=0"], "^tuning.trials is 0, but it must be 1 to 10000"),
        (
            ["tuning.objective=orakel"],
            "^tuning.objective is 'orakel': input should be 'support_only'",
        ),
        (["tuning.access=[ful]"], "^tuning.access.0 is 'ful'"),
        (["+sweep.tuning.trails=3"], "unknown configuration key 'tuning.trails'"),
        (["+sweep.model.nam=x"], "unknown configuration key 'sweep.model.nam'"),
        (["profile=tuned", "tuning.objective=oracle"], "say tuning.i_know=true as well"),
        (
            ["sweep=leak_cost", "profile=tuned", "tuning.i_know=false"],
            "say tuning.i_know=true as well",
        ),
        (["cluster.workers=-1"], "^cluster.workers is -1"),
        (["datasets.synthetic.generate.size=3"], "size must be an integer from 16 to 2048, not 3"),
        (["sweep.hparams=[papr]"], "unknown sweep.hparams 'papr'; did you mean 'paper'"),
        (["nonsense"], "'nonsense' is not of the form key=value"),
        (["sweep.seeds=[1"], "'sweep.seeds=.1' cannot be read"),
        (["sweep=demo,smoke"], "unknown sweep 'demo,smoke'"),
        (["sweep.rows.sdd.alpha=1"], "unknown row in sweep.rows 'sdd'; did you mean 'ssd'"),
        (["sweep.defaults.sdd.alpha=1"], "method in sweep.defaults 'sdd'; did you mean 'ssd'"),
        (["datasets.celebhq.path=x"], "celebhq has no layout; did you mean 'datasets.celebahq'"),
        (["+datasets.a={layout: table, forget_sises: [5]}"], "did you mean 'datasets.a.forget_siz"),
        (["~sweep.model"], "^sweep has no model$"),
        (["~sweep.modle"], "unknown configuration key 'sweep.modle'; did you mean 'sweep.model'"),
        (["~sweep"], "^the configuration has no sweep$"),
        (["hydra.run.dir=x"], "unknown configuration key 'hydra'"),
        (["sweep.name=${nope}"], "^sweep.name refers to something that is not there"),
        (
            ["tracking.uri=http://me:pass word@host"],
            "^tracking.uri holds a space before its @; wri",
        ),
        (["tracking.uri=http://me:pass[word@host"], "^tracking.uri is no address; write brackets"),
        (["sweep.seeds.0=1"], "sweep.seeds is .0, 1, 2. and no map"),
        (
            ["sweep=full", "profile=paper", "sweep.forget_sizes=[7]"],
            "no published hyperparameters for celebahq with forget size 7 .known sizes: 1, 20",
        ),
    ],
)
def test_bad_input_is_one_sentence_that_names_it(overrides: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        load(overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("sweep.rows.ssd.alpha=inf", "sweep.rows.ssd.alpha is inf"),
        ("sweep.rows.new={method: ssd, alpha: 1e400}", "sweep.rows.new.alpha is inf"),
        ("sweep.rows.ssd.space={alpha: [1, inf]}", "sweep.rows.ssd.space.alpha.1 is inf"),
        ("sweep.defaults.ssd.alpha=-inf", "sweep.defaults.ssd.alpha is -inf"),
        ("sweep.training.learning_rate=nan", "sweep.training.learning_rate is nan"),
        ("datasets.celeba.training.weight_decay=nan", "datasets.celeba.training.weight_decay is"),
        ("sweep.model.options={x: {y: [nan]}}", "sweep.model.options.x.y.0 is nan"),
        ("cluster.price_per_gpu_hour=inf", "cluster.price_per_gpu_hour is inf"),
        (f"sweep.rows.ssd.alpha={10**400}", "sweep.rows.ssd.alpha is too large"),
    ],
)
def test_numbers_are_finite_wherever_they_stand(override: str, key: str) -> None:
    with pytest.raises(InputError, match=f"^{key}.*, but numbers must be finite$"):
        load(["sweep=demo", override])


@pytest.mark.parametrize(
    ("file", "line", "key"),
    [
        ("scale/toy.yaml", "  training: {learning_rate: .inf}", "sweep.training.learning_rate"),
        ("hparams/paper.yaml", "  - {dataset: x, alpha: .nan}", "hparams.paper.rows"),
    ],
)
def test_files_hold_finite_numbers(
    file: str, line: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(composition.CONF, conf)
    text = (conf / file).read_text(encoding="utf-8")
    kept = text.partition("  training:")[0] if "training" in line else text
    (conf / file).write_text(f"{kept.rstrip()}\n{line}\n", encoding="utf-8")
    monkeypatch.setattr(composition, "CONF", conf)
    with pytest.raises(InputError, match=f"^{key}.* but numbers must be finite$"):
        load(["sweep=full", "scale=toy"] if "training" in line else ["sweep=full"])


def test_new_keys_need_no_sign() -> None:
    typed = ["sweep.methods=[twin]", "sweep.rows.twin.method=ssd", "sweep.rows.twin.alpha=3"]
    sweep = load([*typed, "datasets.mine={layout: table, forget_sizes: [5]}"]).sweep
    (row,) = sweep.rows[sweep.cells[0]]
    assert (row.method, row.hyperparameters["alpha"]) == ("ssd", 3)
    signed = load([f"+{one}" for one in typed]).sweep
    assert signed.rows == sweep.rows


def test_a_map_replaces_the_sweep_s_own() -> None:
    model = load(["sweep.model={name: resnet18, image_size: 64, weights: random}"]).sweep.model
    assert (model.name, model.options) == ("resnet18", {})
    one = load(["sweep.model.name=resnet18", "sweep.model.options={}"]).sweep.model
    assert (one.name, one.image_size, one.options) == ("resnet18", 48, {})
    kept = load(["sweep.model.options.drop_rate=0.1"]).sweep.model
    assert kept.options == {"depths": [1, 1, 2, 1], "dims": [32, 64, 128, 192], "drop_rate": 0.1}


def test_the_last_choice_of_a_file_counts() -> None:
    assert load(["sweep=full", "sweep=smoke"]).sweep.name == "smoke"


def test_tuning_is_what_the_command_says_then_the_sweep_then_the_default() -> None:
    tuning = load(["sweep=demo", "sweep.seeds=[7,8]", "tuning.trials=3"]).sweep.tuning
    assert (tuning.trials, tuning.batch, tuning.requests) == (3, 2, 4)
    assert (tuning.cells, tuning.parts, tuning.reserved_seeds) == ("held_out", ((1000, 1001),), ())
    own = load(["sweep=demo", "tuning.cells=own"]).sweep.tuning
    assert (own.cells, own.seeds) == ("own", None)
    assert load(["sweep=smoke"]).sweep.tuning.parts == ((1000,),)
    assert tuning.objectives == ("support_only",)
    several = load(["sweep=leak_cost"]).sweep.tuning
    assert several.objectives == ("support_only", "support_and_val", "simulated", "oracle")
    one = load(["sweep=leak_cost", "tuning.objective=simulated", "tuning.true_tow=false"]).sweep
    assert (one.tuning.objectives, one.tuning.true_tow) == (("simulated",), False)


def test_only_rows_and_access_that_are_asked_for_are_tuned() -> None:
    def tuned(*overrides: str) -> set[str]:
        sweep = load(["sweep=demo", "profile=tuned", *overrides]).sweep
        return {row.method for row in sweep.rows[sweep.cells[0]] if row.space}

    assert tuned() == {"gradient_ascent", "ssd", "jit"}
    assert tuned("tuning.rows=[ssd]") == {"ssd"}
    assert tuned("tuning.access=[prepared]") == {"ssd"}


def test_a_row_of_choice_must_be_one_that_has_a_tow() -> None:
    assert load(["sweep=demo"]).reference == ""
    assert load(["sweep=demo", "report.reference=finetune"]).reference == "finetune"
    for name in ("finetunes", "retrain"):
        with pytest.raises(
            InputError, match=rf"unknown row in report.reference '{name}'"
        ) as raised:
            load(["sweep=demo", f"report.reference={name}"])
        assert "finetune" in str(raised.value)
