"""``mode=plan``: what a sweep would take, said without torch, Ray or the data."""

from __future__ import annotations

import shutil

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from sweeps.cli.words import duration
from sweeps.graph.job import stage_title
from sweeps.graph.plan import expand
from sweeps.graph.spec import ClusterSpec, LaunchSpec
from sweeps.schedule.estimates import Estimates
from sweeps.schedule.forecast import Forecast, Machines, forecast
from sweeps.schedule.resources import ResourceRequests
from sweeps.store import open_store, store_exists
from sweeps.store.status import measured, scan


def show_plan(spec: LaunchSpec, console: Console) -> None:
    """Say what the sweep would take; runs nothing, needs no data."""
    plan = expand(spec.sweep)
    uri = spec.places.store_uri
    found = scan(plan, open_store(uri), discard=False) if store_exists(uri) else None
    entries = found.entries if found else {}
    reasons = found.reasons if found else dict.fromkeys(plan.jobs, "new")
    added = any(kind.gpus for kind in spec.cluster.machines.values())
    has_gpu = added or shutil.which("nvidia-smi") is not None
    requests = ResourceRequests(
        spec.sweep,
        spec.cluster,
        plan.jobs,
        measured(plan, entries, "peak_gpu_bytes"),
        has_gpu=has_gpu,
    )
    estimates = Estimates(
        plan.jobs, measured(plan, entries, "seconds"), gpu=requests.default.gpus > 0
    )
    console.print(f"sweep {spec.sweep.name}: {len(plan.jobs)} jobs, {len(plan.results)} results")
    if plan.studies:
        count = f"{len(plan.studies)} {'study' if len(plan.studies) == 1 else 'studies'}"
        console.print(f"  tuning: {count}; {spec.sweep.tuning.where}", soft_wrap=True)
    rate = spec.cluster.interruptions_per_hour
    expected = forecast(plan, reasons, estimates, requests, rate)
    _print_forecast(expected, spec.cluster, console)
    if expected.simulated:
        _print_simulation(expected, spec.cluster, console)


def _print_simulation(found: Forecast, cluster: ClusterSpec, console: Console) -> None:
    of = Machines(most=1)
    jobs = "one job" if found.places == 1 else f"{found.places} jobs"
    console.print(
        f"  simulated: one GPU and {jobs} a machine; machines come {of.start_seconds / 60:g} min "
        f"after they are asked for and leave when empty for {of.idle_seconds / 60:g}; every job "
        "takes its expected time however many share a GPU; a machine that is taken back costs a "
        "training its epoch, another job all",
        soft_wrap=True,
    )
    price = cluster.price_per_gpu_hour
    rate = cluster.interruptions_per_hour
    table = Table(box=None, pad_edge=False)
    table.add_column("GPUs", justify="right")
    for title in ("no interruption", f"{rate:g} taken back an hour"):
        table.add_column(title, justify="right")
        table.add_column("cost" if price else "GPU-hours", justify="right")
        table.add_column("busy", justify="right")
    table.add_column("times", justify="right")
    for most, both in found.simulated.items():
        cells = [str(most)]
        for one in both:
            paid = one.machine_seconds / 3600
            cells.append(duration(one.seconds))
            cells.append(f"{paid * price:,.0f}" if price else f"{paid:,.0f}")
            cells.append(f"{one.busy:.0%}")
        table.add_row(*cells, str(both[1].interruptions))
    console.print(Padding(table, (0, 0, 0, 4)))


def _print_forecast(found: Forecast, cluster: ClusterSpec, console: Console) -> None:
    on_gpu = found.gpu_hours > 0
    unit = "GPU-hours" if on_gpu else "CPU-hours"
    for name, stage in found.stages.items():
        why = ", ".join(f"{count} {reason}" for reason, count in stage.reasons.items())
        line = f"  {stage_title(name):<9} {stage.jobs:>5}   {stage.done} done"
        if stage.reasons:
            hours = stage.gpu_hours if on_gpu else stage.cpu_hours
            guess = f", {stage.guessed} of them guessed" if stage.guessed else ""
            line += f", to run: {why}; {_hours(hours)} {unit}{guess}"
        console.print(line, soft_wrap=True)
    if not found.useful_workers:
        return
    guessed = sum(stage.guessed for stage in found.stages.values())
    left = sum(stage.jobs - stage.done for stage in found.stages.values())
    hours = found.gpu_hours if on_gpu else found.cpu_hours
    basis = f"guessed for {guessed} of {left} jobs" if guessed else "from measured times"
    console.print(f"  work: {_hours(hours)} {unit} ({basis})", soft_wrap=True)
    if cluster.price_per_gpu_hour or cluster.price_per_cpu_hour:
        console.print(f"  cost: about {found.cost(cluster):.2f} at the prices of the cluster")
    times = ", ".join(
        f"{duration(seconds)} on {workers}" for workers, seconds in found.seconds.items()
    )
    console.print(
        f"  longest chain: {duration(found.chain_seconds)}; with so many workers: {times}; more "
        f"than {found.useful_workers} do not help",
        soft_wrap=True,
    )
    if not on_gpu and hours > 24:
        console.print(
            "  for GPUs: cluster.gpus_per_worker=0.5 (and cluster.price_per_gpu_hour=...)"
        )


def _hours(value: float) -> str:
    if value < 0.01:
        return "under 0.01"
    return f"about {value:.2f}" if value < 10 else f"about {value:,.0f}"
