"""What can be a plugin, and how another process gets it."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from support.own_code import written

from oneshui import plugins
from oneshui.errors import InputError

PACKAGE = {
    "lab/__init__.py": "from lab.values import KEY\nNUMBER = len(KEY)\n",
    "lab/values.py": "KEY = 'abc'\n",
    "lab/notes.txt": "what lies beside the code travels too",
    "alone.py": "import helping\nNUMBER = helping.NUMBER\n",
    "helping.py": "NUMBER = 7\n",
}


def test_a_file_a_folder_and_a_module_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list(sys.path)
    with written(tmp_path, PACKAGE):
        monkeypatch.chdir(tmp_path)
        by_path = plugins.load(["./lab", f"{tmp_path}/alone.py"])
        assert [set(it.files) for it in by_path] == [
            {"lab/__init__.py", "lab/values.py", "lab/notes.txt"},
            {"alone.py", "helping.py"},
        ]
        assert all(it.travels for it in by_path)
        by_name = plugins.load(["lab", "alone"])
        assert [it.hash for it in by_name] == [it.hash for it in by_path]
        monkeypatch.undo()
    assert not {"lab", "lab.values", "alone", "helping"} & set(sys.modules)
    assert sys.path == before


RECEIVE = """
import pickle, sys
from pathlib import Path
from oneshui import plugins
carried = pickle.loads(sys.stdin.buffer.read())
plugins.receive(carried, Path(sys.argv[1]))
plugins.receive(carried, Path(sys.argv[1]))
import alone, lab
print(lab.NUMBER, alone.NUMBER, Path(lab.__file__).parents[2] == Path(sys.argv[1]))
print([it.plugin.hash for it in plugins._loaded.values()])
"""


def test_another_machine_gets_the_files(tmp_path: Path) -> None:
    with written(tmp_path / "here", PACKAGE) as here:
        carried = plugins.load([f"{here}/lab", f"{here}/alone.py"])
        for name in PACKAGE:
            (here / name).unlink()
    done = subprocess.run(
        [sys.executable, "-c", RECEIVE, str(tmp_path / "there")],
        input=pickle.dumps(carried),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    loaded = [one.hash for one in carried]
    assert done.stdout.decode().splitlines() == ["3 7 True", str(loaded)]


def test_files_are_written_once_and_mended(tmp_path: Path) -> None:
    plugin = plugins.Plugin(module="m", item="m.py", files={"m.py": b"X = 1\n"}, travels=True)
    file = plugin.write(tmp_path) / "m.py"
    written_at = file.stat().st_mtime_ns
    assert plugin.write(tmp_path) == file.parent
    assert file.stat().st_mtime_ns == written_at
    file.write_bytes(b"X = 2\n")
    assert (plugin.write(tmp_path) / "m.py").read_bytes() == b"X = 1\n"


def test_what_is_installed_announces_itself_and_does_not_travel(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    files = {
        "theirs/__init__.py": "import json, theirs.deep\n",
        "theirs/deep.py": "X = 1\n",
        "theirs/data.bin": "not code",
        "theirs-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n",
        "theirs-1.0.dist-info/entry_points.txt": "[oneshui]\nmine = theirs\n",
    }
    for name, text in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    code = (
        "import json; from oneshui import plugins; (one,) = plugins.load([])\n"
        "print(json.dumps([one.module, one.item, sorted(one.files), one.travels]))"
    )
    path = os.pathsep.join([str(site), *filter(None, sys.path)])

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )

    done = run()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        "theirs",
        "mine of theirs (installed)",
        ["theirs/__init__.py", "theirs/deep.py"],
        False,
    ]
    (site / "theirs" / "deep.py").write_text("X = 1 / 0\n")
    last = run().stderr.splitlines()[-1]
    assert "the plugin mine of theirs (installed) cannot be loaded" in last
    assert last.endswith("deep.py, line 1: ZeroDivisionError: division by zero")


def test_two_files_of_one_name_and_too_large_a_folder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"a/same.py": "", "b/same.py": "", "big/__init__.py": "", "big/data.bin": "x" * 2000}
    with written(tmp_path, files):
        with pytest.raises(InputError, match="are both the module same: give one"):
            plugins.load([f"{tmp_path}/a/same.py", f"{tmp_path}/b/same.py"])
        monkeypatch.setattr(plugins, "LARGEST", 1000)
        with pytest.raises(InputError, match="keep data and weights out of its folder"):
            plugins.load([f"{tmp_path}/big"])
        with pytest.raises(InputError, match="cannot be imported as 'my-method'"):
            plugins.load(["my-method.py"])
        with pytest.raises(InputError, match="has no function absent"):
            plugins.attribute(f"{tmp_path}/a/same.py:absent")
