"""A company that has the wheel and nothing else: a kit, and a request after its data are gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.company import PREPARE, found
from support.installed import Installed


@pytest.mark.long
def test_a_kit_and_a_request(installed: Installed, tmp_path: Path) -> None:
    company = found(tmp_path)
    told = [*PREPARE[:-1], "tuning={trials: 3, batch: 2, requests: 2, carried: 1}", "out=kit"]
    made = installed.run(*told, cwd=tmp_path)
    assert (made.status, made.err) == (0, ""), made
    assert "kit written to" in made.out
    company.delete_data()
    company.request("request.csv", company.split.support)
    asked = ["erase", "kit=kit", "weights=model.safetensors", "photos=request.csv"]
    asked += ["method=ssd", "out=erased"]
    done = installed.run(*asked, cwd=tmp_path, form="python -m oneshui")
    assert (done.status, done.err) == (0, ""), done
    document = json.loads((tmp_path / "erased" / "certificate.json").read_text())
    assert document["data_seen"]["beside"] == "what the method prepared before deletion"
    assert (tmp_path / "erased" / "request.pdf").read_bytes().startswith(b"%PDF")
    again = installed.run(*asked, cwd=tmp_path)
    assert (again.status, again.out) == (2, "")
    assert again.err.startswith("oneshui: ")
    assert again.err.endswith("is there already, and nothing is overwritten: set out anew\n")


def test_both_commands_say_what_they_take(installed: Installed, tmp_path: Path) -> None:
    for verb in ("prepare", "erase"):
        helped = installed.run(verb, "--help", cwd=tmp_path)
        assert helped.status == 0
        assert helped.out.startswith(f"usage: oneshui {verb} ")
    assert "  erase --help" in installed.run("--help", cwd=tmp_path).out
