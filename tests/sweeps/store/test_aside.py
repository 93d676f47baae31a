from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.store.aside import make_room, set_aside


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


@pytest.mark.parametrize("for_folder", [False, True])
def test_room_is_made_only_where_something_else_stands(tmp_path: Path, for_folder: bool) -> None:
    place = tmp_path / "place"
    assert make_room(place, for_folder=for_folder) is None
    (place.mkdir if for_folder else place.touch)()
    assert make_room(place, for_folder=for_folder) is None
    assert make_room(place, for_folder=not for_folder) == tmp_path / "place.unreadable-1"
    assert not place.exists()
