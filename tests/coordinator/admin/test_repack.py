"""`repack` makes databases smaller and changes no content."""

from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import select

from coordinator.admin.integrity import find_problems
from coordinator.admin.repack import repack
from coordinator.db.cache import Cache
from coordinator.db.database import Database
from coordinator.lineage import objects
from coordinator.lineage import service as lineage
from coordinator.lineage.commits import get_commit
from coordinator.lineage.objects import MAX_CHAIN, LoadedObject
from coordinator.models import Commit, Project, StoredObject
from coordinator.projects.service import create_project
from shared.commits import CommitWords
from tests.coordinator.admin.conftest import make_program, show_nothing
from tests.support.messages import AUTHOR
from tests.support.seeds import write_seed


def store_whole(database: Database) -> None:
    """Make it as it was before there were deltas."""
    with database.write() as session:
        names = session.scalars(select(StoredObject.sha)).all()
        read = objects.read_versions(session, names)
        objects.replace_encodings(session, [objects.encode_one(read[name].object) for name in names])


def read_all(database: Database) -> dict[str, bytes]:
    with database.read() as session:
        names = session.scalars(select(StoredObject.sha)).all()
        return {name: version.object.data for name, version in objects.read_versions(session, names).items()}


def longest_chain(database: Database) -> int:
    with database.read() as session:
        names = session.scalars(select(StoredObject.sha)).all()
        return max(version.deltas for version in objects.read_versions(session, names).values())


def add_versions(database: Database, texts: list[str]) -> list[str]:
    """A line of commits below the root, one for each text; returns the names of their files."""
    with database.write() as session:
        project = session.scalars(select(Project)).one()
        parent: Commit = get_commit(session, project.root_sha)
        names = []
        for number, text in enumerate(texts):
            words = CommitWords(AUTHOR, 1_790_000_000 + number, "An edit")
            built = lineage.build_child(session, parent, {"train.py": text}, words)
            lineage.store_commit(session, project.id, built)
            parent = get_commit(session, built.sha)
            names.append(objects.list_tree(session, parent.tree_sha)["train.py"])
        return names


def assert_sound(database: Database, contents: dict[str, bytes]) -> None:
    assert read_all(database) == contents
    with database.read() as session:
        assert list(find_problems(session, show_nothing)) == []


def test_an_old_database_shrinks_and_stays_the_same(filled: Database) -> None:
    store_whole(filled)
    contents = read_all(filled)
    estimate = repack(filled, show_nothing, dry_run=True)
    assert longest_chain(filled) == 0, "a dry run changes nothing"
    done = repack(filled, show_nothing)
    assert done.bytes_before == estimate.bytes_before
    assert done.bytes_after < done.bytes_before / 3 and estimate.bytes_after < done.bytes_before / 3
    assert done.objects_rewritten == 12, "the file of each experiment"
    assert_sound(filled, contents)
    again = repack(filled, show_nothing)
    assert (again.objects_rewritten, again.bytes_after) == (0, done.bytes_after)


def test_an_interrupted_run_is_continued(filled: Database) -> None:
    store_whole(filled)
    contents = read_all(filled)

    def interrupt(what: str, done: int, total: int) -> None:
        if done > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repack(filled, interrupt)
    assert_sound(filled, contents)
    assert longest_chain(filled) > 0, "what was done is kept"
    assert repack(filled, show_nothing).objects_rewritten > 0
    assert repack(filled, show_nothing).objects_rewritten == 0
    assert_sound(filled, contents)


def test_chains_that_are_too_long_are_cut(filled: Database) -> None:
    names = add_versions(filled, [make_program() + f"x = {number}\n" for number in range(MAX_CHAIN + 10)])
    for before, after in pairwise(names):
        with filled.write() as session:
            read = objects.read_versions(session, [before, after])
            objects.replace_encodings(session, [objects.encode_one(read[after].object, read[before])])
    assert longest_chain(filled) > MAX_CHAIN
    contents = read_all(filled)
    assert repack(filled, show_nothing).objects_rewritten > 0
    assert longest_chain(filled) <= MAX_CHAIN
    assert_sound(filled, contents)


def test_chains_of_folders_stay_short_in_one_run(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a folder's list of names is long enough for deltas, and its chain grows while it is packed."""
    seed = write_seed(tmp_path / "seed")
    for number in range(60):
        (seed / f"data-{number}.txt").write_text(str(number))
    database = Database(database_url)
    with database.write() as session:
        create_project(session, seed)
    add_versions(database, [f"x = {number}\n" for number in range(MAX_CHAIN + 10)])
    store_whole(database)
    recent = Cache[str, LoadedObject](2**20, lambda one: len(one.object.data))
    monkeypatch.setattr(objects, "RECENT", recent)  # as in a process that has just begun
    repack(database, show_nothing)
    assert 1 < longest_chain(database) <= MAX_CHAIN
    database.close()


def test_an_edit_that_is_taken_back_makes_no_circle(filled: Database) -> None:
    one, two = make_program() + "x = 1\n", make_program() + "x = 2\n"
    add_versions(filled, [one, two, one, two])
    store_whole(filled)
    contents = read_all(filled)
    repack(filled, show_nothing)
    assert_sound(filled, contents)


def test_two_objects_never_become_deltas_against_each_other(filled: Database) -> None:
    names = add_versions(filled, [make_program() + "x = 1\n", make_program() + "x = 2\n"])
    store_whole(filled)
    with filled.read() as session:
        read = objects.read_versions(session, names)
        one, two = (read[name] for name in names)
    with filled.write() as session:  # both were encoded before either was written, as by two programs at once
        encoded = [objects.encode_one(one.object, two), objects.encode_one(two.object, one)]
        assert objects.replace_encodings(session, encoded) == 1
    with filled.write() as session:
        assert objects.replace_encodings(session, encoded[1:]) == 0
    assert_sound(filled, read_all(filled))
