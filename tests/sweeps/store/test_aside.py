from __future__ import annotations

from pathlib import Path

from sweeps.store.aside import set_aside


def test_what_is_set_aside_keeps_its_content_under_a_new_name_each_time(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    for number in (1, 2, 3):
        file.write_text(f"attempt {number}")
        (tmp_path / "mlflow.db-wal").write_text(f"log {number}")
        kept = set_aside(file, ("-wal", "-shm"))
        assert kept == tmp_path / f"mlflow.db.unreadable-{number}"
        assert kept.read_text() == f"attempt {number}"
        assert kept.with_name(f"{kept.name}-wal").read_text() == f"log {number}"
    assert len(list(tmp_path.iterdir())) == 6
