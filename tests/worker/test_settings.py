"""worker/settings.py"""

from pathlib import Path

import pytest

from worker.settings import SettingsError, WorkerSettings, config_path, load_settings


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of one's own, and nothing of ours in the environment."""
    for name in ("COORDINATOR_URL", "TOKEN", "TOKEN_FILE", "NAME", "DEVICE", "CORES", "DATA_DIR", "PACKAGE_INDEX"):
        monkeypatch.delenv(f"SWARM_{name}", raising=False)
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


def write_config(text: str) -> None:
    config_path().parent.mkdir(parents=True)
    config_path().write_text(text)


def test_flags_stand_before_environment_before_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write_config('name = "file"\ncores = 1\nproject = "from-file"\n')
    monkeypatch.setenv("SWARM_NAME", "environment")
    monkeypatch.setenv("SWARM_CORES", "2")
    settings = load_settings({"name": "flag", "cores": None, "project": None})
    assert (settings.name, settings.cores, settings.project) == ("flag", 2, "from-file")


def test_defaults(home: Path) -> None:
    settings = load_settings({"device": "cuda:1", "name": "box"})
    with pytest.raises(SettingsError, match="no coordinator is given"):
        settings.require_coordinator()
    assert (settings.sandbox, settings.agent, settings.token, settings.project) == ("auto", "search", None, None)
    assert settings.worker_name == "box-gpu1"
    assert settings.worker_folder == home / "data" / "research-swarm" / "workers" / "box-gpu1"


@pytest.mark.parametrize("name", ["../../etc", "a/b", ".hidden", "…"])
def test_a_name_cannot_leave_the_data_folder(name: str, home: Path) -> None:
    folder = load_settings({"device": "cpu", "name": name}).worker_folder
    assert folder.parent == home / "data" / "research-swarm" / "workers"
    assert folder.resolve() == folder
    assert not folder.name.startswith(".")


def test_the_token_of_a_higher_source_hides_a_lower_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "token").write_text("from-env-file\n")
    (home / "other").write_text("from-flag\n")
    write_config('token = "from-config"\n')
    assert load_settings({}).read_token().get_secret_value() == "from-config"
    monkeypatch.setenv("SWARM_TOKEN_FILE", str(home / "token"))
    assert load_settings({}).read_token().get_secret_value() == "from-env-file"
    monkeypatch.setenv("SWARM_TOKEN", "from-env")
    assert load_settings({}).read_token().get_secret_value() == "from-env"
    assert load_settings({"token_file": home / "other"}).read_token().get_secret_value() == "from-flag"


def test_the_token_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARM_TOKEN", "very-secret")
    assert "very-secret" not in repr(load_settings({})) + str(load_settings({}).model_dump())


@pytest.mark.parametrize("content", [b"", b"two words", b"two\nlines", b"caf\xc3\xa9", b"\xff"])
def test_a_token_file_without_a_token(content: bytes, home: Path) -> None:
    (home / "token").write_bytes(content)
    with pytest.raises(SettingsError, match="token") as caught:
        load_settings({"token_file": home / "token"}).read_token()
    assert "words" not in str(caught.value)


def test_no_token_and_no_token_file(home: Path) -> None:
    with pytest.raises(SettingsError, match="SWARM_TOKEN_FILE"):
        load_settings({}).read_token()
    with pytest.raises(SettingsError, match="No such file"):
        load_settings({"token_file": home / "nowhere"}).read_token()


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ({"device": "gpu"}, "device"),
        ({"cores": 0}, "cores"),
        ({"coordinator_url": "ftp://swarm.test"}, "coordinator_url"),
        ({"coordinator_url": "http://[bad"}, "coordinator_url"),
        ({"sandbox": "none"}, "sandbox"),
        ({"agent": "oracle"}, "agent"),
        ({"project": "No Slug"}, "project"),
        ({"name": " "}, "name"),
    ],
)
def test_a_wrong_setting_is_named(flags: dict[str, object], name: str) -> None:
    with pytest.raises(SettingsError, match=f"setting '{name}' is wrong"):
        load_settings(flags)


def test_each_wrong_setting_is_explained_in_our_words_with_what_was_probably_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the field, none of the library's sentences is shown, and no key."""
    wrong = {
        "device": "gpu0", "cores": "many", "nice": "40", "when_idle": "maybe", "sandbox": "bubblewarp",
        "agent": "opneai", "coordinator_url": "swarm example", "base_url": "ftp://x",
        "project": "No Slug", "branch": "A B", "name": " ",
        "schedule": "always", "data_mirror": "x", "model": " ", "tokens_per_day": "0", "cost_per_day": "-1",
        "input_price": "cheap", "request_seconds": "0", "agent_seconds": "1e9", "agent_paths": "[1", "token": "",
        "alone_after_seconds": "-1", "shortest_wait_seconds": "soon", "longest_wait_seconds": "0",
    }  # fmt: skip
    for name, value in wrong.items():
        with monkeypatch.context() as patch:
            patch.setenv(f"SWARM_{name.upper()}", value)
            if not value:
                continue
            with pytest.raises(SettingsError) as caught:
                load_settings({})
        text = str(caught.value)
        assert text.startswith(f"the setting {name!r} is wrong: ") and f"(SWARM_{name.upper()})" in text, text
        assert not any(word in text for word in ("Input", "String", "should", "pydantic", "pattern", "JSON: ")), text
    with pytest.raises(SettingsError, match="did you mean bubblewrap"):
        load_settings({"sandbox": "bubblewarp"})


def test_a_name_that_is_no_setting_is_an_error_that_suggests_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    write_config("modle = 'x'\n")
    with pytest.raises(SettingsError, match=r"no such setting; did you mean model\?"):
        load_settings({})
    monkeypatch.setenv("SWARM_MODLE", "x")
    with pytest.raises(SettingsError, match=r"SWARM_MODLE is no setting; did you mean SWARM_MODEL\?"):
        load_settings({})
    monkeypatch.delenv("SWARM_MODLE")
    monkeypatch.setenv("SWARM_PUBLIC_URL", "https://swarm.test")  # the coordinator's
    config_path().unlink()
    load_settings({})


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("swarm.example.org", "https://swarm.example.org"),
        ("swarm.example.org/swarm/", "https://swarm.example.org/swarm"),
        ("localhost:8000", "http://localhost:8000"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("192.168.1.5:8000", "http://192.168.1.5:8000"),
        ("box:8000", "http://box:8000"),
        ("box.local", "http://box.local"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("https://swarm.example.org", "https://swarm.example.org"),
        ("http://swarm.example.org", "http://swarm.example.org"),
    ],
)
def test_an_address_without_a_scheme_is_understood(given: str, address: str) -> None:
    settings = load_settings({"coordinator_url": given, "base_url": given})
    assert settings.coordinator_url == settings.base_url == address


def test_a_list_in_the_environment_is_json_or_has_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ('["~/.tool:rw", "/opt/x"]', "~/.tool:rw, /opt/x"):
        monkeypatch.setenv("SWARM_AGENT_PATHS", text)
        assert load_settings({}).agent_paths == ["~/.tool:rw", "/opt/x"]


@pytest.mark.parametrize("text", ["name = ", "colour = 'red'\n", "cores = 'many'\n"])
def test_a_wrong_file_is_named(text: str) -> None:
    write_config(text)
    with pytest.raises(SettingsError, match=r"config\.toml"):
        load_settings({})


def test_the_package_index_is_ours_or_pips(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings({}).package_index is None
    monkeypatch.setenv("PIP_INDEX_URL", "http://pip.test/simple")
    assert load_settings({}).package_index == "http://pip.test/simple"
    monkeypatch.setenv("SWARM_PACKAGE_INDEX", "http://ours.test/simple")
    assert load_settings({}).package_index == "http://ours.test/simple"


def test_notes_are_read_within_bounds(tmp_path: Path) -> None:
    notes = tmp_path / "program.md"
    notes.write_text("  Try optimizers.\n")
    assert WorkerSettings(notes=notes).read_notes() == "Try optimizers."
    assert WorkerSettings().read_notes() == ""
    notes.write_text("x" * 8001)
    with pytest.raises(SettingsError, match="8,001 characters"):
        WorkerSettings(notes=notes).read_notes()
    with pytest.raises(SettingsError, match="cannot be read"):
        WorkerSettings(notes=tmp_path / "none").read_notes()
