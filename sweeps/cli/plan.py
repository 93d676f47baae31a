"""``mode=plan``: what a sweep would take, said without torch, Ray or the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from sweeps.cli.console import say
from sweeps.cli.words import rough, size
from sweeps.executor.before_ray import sees_gpus
from sweeps.graph.job import stage_title
from sweeps.graph.launch import ClusterSpec, LaunchSpec
from sweeps.graph.plan import Plan, expand
from sweeps.schedule.estimates import GUESS_FACTOR, Estimates
from sweeps.schedule.footprint import footprint
from sweeps.schedule.forecast import Forecast, Machines, forecast
from sweeps.schedule.resources import ResourceRequests
from sweeps.store import Entry, open_store, store_exists
from sweeps.store.status import measured, scan

_OUT_OF_REACH_SECONDS = 7 * 86400.0
"""A longest chain of so much on processors is no plan."""


def show_plan(spec: LaunchSpec, console: Console) -> None:
    """Say what the sweep would take; runs nothing, needs no data."""
    plan = expand(spec.sweep)
    uri = spec.places.store_uri
    found = scan(plan, open_store(uri), discard=False, to_run=True) if store_exists(uri) else None
    entries = found.entries if found else {}
    reasons = found.reasons if found else dict.fromkeys(plan.jobs, "new")
    added = any(kind.gpus for kind in spec.cluster.machines.values())
    here = sees_gpus(spec.cluster.gpus, spec.device)
    has_gpu = here or (added and spec.device != "cpu")
    console.print(f"sweep {spec.sweep.name}: {len(plan.jobs)} jobs, {len(plan.results)} results")
    if spec.sweep.note:
        say(console, spec.sweep.note, "  note: ")
    if plan.studies:
        count = f"{len(plan.studies)} {'study' if len(plan.studies) == 1 else 'studies'}"
        say(console, f"{count}; {spec.sweep.tuning.where}", "  tuning: ")

    audits = _audits(plan)

    def planned(cluster: ClusterSpec) -> Forecast:
        requests = ResourceRequests(
            spec.sweep,
            cluster,
            plan.jobs,
            measured(plan, entries, "peak_gpu_bytes"),
            has_gpu=has_gpu,
        )
        on_gpu = requests.default.gpus > 0
        estimates = Estimates(plan.jobs, measured(plan, entries, "seconds"), gpu=on_gpu)
        rate = cluster.interruptions_per_hour
        return forecast(plan, reasons, estimates, requests, rate, audits)

    expected = planned(spec.cluster)
    if expected.gpu_hours == 0 and expected.chain_seconds > _OUT_OF_REACH_SECONDS:
        work = rough(expected.cpu_hours * 3600)
        say(
            console,
            f"this sweep needs GPUs, and there is none here: one processor would take {work}. What "
            "follows is for GPUs that two jobs share (cluster.gpus_per_worker=0.5)",
            "  ",
        )
        expected = planned(replace(spec.cluster, gpus_per_worker=0.5))
    _print_forecast(expected, spec.cluster, console)
    if audits:
        _print_audits(plan, expected, console)
    if expected.useful_workers:
        _print_footprint(plan, entries, reasons, expected.gpu_hours > 0, console)
    if expected.simulated:
        _print_simulation(expected, spec.cluster, console)


def _audits(plan: Plan) -> frozenset[str]:
    """Keys of the jobs that are there for audits and for people chosen by memorisation alone."""
    sweep = plan.sweep
    if sweep.audit is None:
        return frozenset()
    plain = expand(replace(sweep, audit=None, choose="random"))
    return frozenset(plan.jobs.keys() - plain.jobs.keys())


def _print_audits(plan: Plan, found: Forecast, console: Console) -> None:
    part, audit = found.audits, plan.sweep.audit
    on_gpu = found.gpu_hours > 0
    hours = _hours(part.gpu_hours if on_gpu else part.cpu_hours)
    left = sum(part.reasons.values())
    text = f"{part.jobs} of these jobs, {part.done} of them done"
    if audit is not None and audit.pool:
        text += (
            f"; {audit.models} trainings for each dataset on a pool of {audit.pool} people are "
            "shared by all rows, forget sizes, seeds and tunings"
        )
    if left:
        text += f"; about {hours} {'GPU' if on_gpu else 'CPU'}-hours of the work above"
    say(console, text, "  audits: ")


def _print_simulation(found: Forecast, cluster: ClusterSpec, console: Console) -> None:
    of = Machines(most=1)
    jobs = "one job" if found.places == 1 else f"{found.places} jobs"
    say(
        console,
        f"one GPU and {jobs} a machine; machines come {of.start_seconds / 60:g} min "
        f"after they are asked for and leave when empty for {of.idle_seconds / 60:g}; every job "
        "takes its expected time however many share a GPU; a machine that is taken back costs a "
        "training its epoch, another job all",
        "  simulated: ",
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
            cells.append(rough(one.seconds))
            cells.append(f"{paid * price:,.0f}" if price else f"{paid:,.0f}")
            cells.append(f"{one.busy:.0%}")
        table.add_row(*cells, str(both[1].interruptions))
    console.print(Padding(table, (0, 0, 0, 4)))


def _print_forecast(found: Forecast, cluster: ClusterSpec, console: Console) -> None:
    on_gpu = found.gpu_hours > 0
    unit = "GPU-hours" if on_gpu else "CPU-hours"
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage", no_wrap=True)
    for title in ("jobs", "done", unit):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("to run")
    for name, stage in found.stages.items():
        why = ", ".join(f"{count} {reason}" for reason, count in stage.reasons.items())
        each = _hours(stage.gpu_hours if on_gpu else stage.cpu_hours) if why else ""
        table.add_row(stage_title(name), str(stage.jobs), str(stage.done), each, why)
    console.print(Padding(table, (0, 0, 0, 2)))
    if not found.useful_workers:
        return
    guessed = sum(stage.guessed for stage in found.stages.values())
    left = sum(stage.jobs - stage.done for stage in found.stages.values())
    hours = found.gpu_hours if on_gpu else found.cpu_hours
    basis = (
        f"guessed for {guessed} of {left} jobs, within a factor of {GUESS_FACTOR}"
        if guessed
        else "from measured times"
    )
    say(console, f"about {_hours(hours)} {unit} ({basis})", "  work: ")
    if cluster.price_per_gpu_hour or cluster.price_per_cpu_hour:
        console.print(f"  cost: about {found.cost(cluster):,.2f} at the prices of the cluster")
    times = ", ".join(f"{rough(seconds)} on {count}" for count, seconds in found.seconds.items())
    say(
        console,
        f"{times} {'worker' if found.useful_workers == 1 else 'workers'}; the longest chain of "
        f"jobs takes {rough(found.chain_seconds)}, and more than {found.useful_workers} do not "
        "help",
        "  time: ",
    )


def _print_footprint(
    plan: Plan,
    entries: Mapping[str, Entry],
    reasons: Mapping[str, str],
    on_gpu: bool,
    console: Console,
) -> None:
    files = [
        (plan.jobs[key], float(sum(one["bytes"] for one in entry.files.values())))
        for key, entry in entries.items()
    ]
    found = footprint(
        plan.jobs,
        reasons,
        files,
        measured(plan, entries, "peak_bytes"),
        measured(plan, entries, "peak_gpu_bytes"),
    )
    guess = f" (guessed, within a factor of {GUESS_FACTOR})" if found.is_guess else ""
    gpu = f", {size(found.gpu_memory)} of GPU memory a job" if on_gpu else ""
    text = f"{size(found.disk)} of disk, {size(found.memory)} of memory a worker{gpu}{guess}"
    say(console, text, "  room: ")


def _hours(value: float) -> str:
    if value < 0.01:
        return "under 0.01"
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"
