"""worker/agents/secrets.py: what the leak check catches, and that it stops no honest edit."""

import base64
import codecs
import json
import random
import string
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.agents.search_space import read_constants, rewrite_constants
from worker.agents.secrets import collect_secrets, renew

ROOT = Path(__file__).parents[3]
EDITS = [json.loads(line) for line in (ROOT / "tests/data/honest-edits.jsonl").read_text().splitlines()]
DRAW = random.Random(7)


def draw(length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(DRAW.choices(alphabet, k=length))


def token(claims: int) -> str:
    """A JSON web token with so many random bytes of claims."""
    parts = (b'{"alg":"RS256","typ":"JWT"}', DRAW.randbytes(claims), DRAW.randbytes(64))
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


PEM_LINES = [base64.b64encode(DRAW.randbytes(48)).decode() for _ in range(6)]
PEM = "\n".join(["-----BEGIN OPENSSH PRIVATE KEY-----", *PEM_LINES, "-----END OPENSSH PRIVATE KEY-----", ""])
REFRESH = f"{draw(43)}-{draw(8)}_{draw(20)}"
# What a login file holds, and the secret in it. All files but the first group are readable by everybody.
PRIVATE = {
    "an unnamed key": (f"{(unnamed := draw(40))}\n", unnamed),
    "an unnamed key in hex": (f"default {(in_hex := draw(32, '0123456789abcdef'))}\n", in_hex),
    "an unnamed key of small letters": (f"x:{(small := draw(36, string.ascii_lowercase + string.digits))}", small),
}
PUBLIC = {
    "OpenAI": (f'{{"OPENAI_API_KEY": "{(openai := f"sk-proj-{draw(60)}-{draw(60)}")}"}}', openai),
    "Anthropic": (f"export ANTHROPIC_API_KEY={(anthropic := f'sk-ant-api03-{draw(90)}AA')}\n", anthropic),
    "Google": (f"key: {(google := f'AIza{draw(35)}')}\n", google),
    "GitHub": (f"github.com:\n    oauth_token: {(github := f'gho_{draw(36)}')}\n", github),
    "Hugging Face": ((hugging := f"hf_{draw(34)}"), hugging),
    "a key of a provider without a mark": (f'mistral-api-key: "{(mistral := draw(32))}"\n', mistral),
    "AWS": (f"aws_access_key_id = AKIA{draw(16, string.ascii_uppercase + string.digits)}\naws_secret_access_key = "
            f"{(aws := draw(40))}\n", aws),
    "OAuth": (json.dumps({"tokens": {"access_token": draw(50), "refresh_token": REFRESH}}), REFRESH),
    "OAuth in another file's string": (json.dumps({"content": json.dumps({"refreshToken": REFRESH})}), REFRESH),
    "a web token": (json.dumps({"id_token": (jwt := token(90))}), jwt.split(".")[1]),
    "PEM": (PEM, PEM_LINES[3]),
    "PEM in JSON": (json.dumps({"private_key": PEM}), PEM_LINES[2]),
    "netrc": (f"machine api.example.org\n  login ada\n  password {(password := 'Tr0ub4dor&3-and-more')}\n", password),
    "a password": (json.dumps({"password": "correct-horse-battery-staple"}), "correct-horse-battery-staple"),
    "a header": (f"Authorization: Bearer {(bearer := draw(48))}\n", bearer),
}  # fmt: skip
WAYS: dict[str, Callable[[str], str]] = {
    "copied": lambda key: f"# {key}\n",
    "over lines": lambda key: "".join(f'    "{key[at : at + 9]}"\n' for at in range(0, len(key), 9)),
    "in variables": lambda key: "".join(f"PART_{at} = '{key[at : at + 12]}'\n" for at in range(0, len(key), 12)),
    "its larger half": lambda key: f"X = '{key[len(key) // 3 :]}'",
    "base64": lambda key: f"X = '{base64.b64encode(key.encode()).decode()}'",
    "base64 among others": lambda key: base64.b64encode(b"the key is: " + key.encode() + b" and more").decode(),
    "base64 over lines": lambda key: base64.encodebytes(b"x" + key.encode() * 3).decode(),
    "base32": lambda key: base64.b32encode(b"ab" + key.encode()).decode(),
    "hex": lambda key: key.encode().hex(" "),
    "escapes": lambda key: "".join(f"\\x{byte:02X}" for byte in key.encode()),
    "a list of numbers": lambda key: str([*key.encode()]),
    "a list of hex numbers": lambda key: f"[{', '.join(map(hex, key.encode()))}]",
    "a letter a line": lambda key: "".join(f"K{at} = '{letter}'\n" for at, letter in enumerate(key)),
    "rotated": lambda key: codecs.encode(key, "rot13"),
    "backwards": lambda key: key[::-1],
    "escaped": lambda key: json.dumps({"title": f"{key[:20]}\n{key[20:]}"}),
}


def write_login(folder: Path, content: str, mode: int = 0o644) -> Path:
    (folder / "settings.json").write_text('{"theme": "dark"}')
    path = folder / "login"
    path.write_text(content)
    path.chmod(mode)
    return folder


HIDDEN = [
    (name, way)
    for name, (content, _) in (PRIVATE | PUBLIC).items()
    for way in WAYS
    if "password" not in content or way not in ("its larger half", "in variables")  # a part of one may be a word
]


@pytest.mark.parametrize(("name", "way"), HIDDEN)
def test_a_key_is_found_whatever_its_kind_and_its_disguise(name: str, way: str, tmp_path: Path) -> None:
    content, key = (PRIVATE | PUBLIC)[name]
    secrets = collect_secrets([write_login(tmp_path, content, 0o600 if name in PRIVATE else 0o644)])
    answer = f"import torch\n\n{WAYS[way](key)}\nDEPTH = 6\n"
    assert secrets.find_leak(answer, "import torch\n") == str(tmp_path / "login")
    assert secrets.find_leak(answer, f"the parent has it: {key} {answer}") is None


def test_all_honest_edits_pass_though_the_login_folder_is_full_of_their_words(tmp_path: Path) -> None:
    """The transcripts of earlier drafts stand beside the login, for its owner's eyes only, as tools write them."""
    assert len(EDITS) >= 200
    write_login(tmp_path, json.dumps({"refresh_token": REFRESH, "account": draw(20)}), 0o600)
    answers = []
    for edit in EDITS:
        source = (ROOT / "seed" / edit["seed"] / edit["file"]).read_text()
        known = read_constants(source)  # a seed's constants change
        text = rewrite_constants(source, {name: value for name, value in edit["settings"].items() if name in known})
        text += f"{edit['line']}\n"
        answers.append((source, f"{text}\n{json.dumps(edit)}"))
    for name in ("history.jsonl", "session.log"):
        path = tmp_path / name
        path.write_text("".join(json.dumps({"uuid": draw(32), "tool_use": a}) + "\n" + a for _, a in answers))
        path.chmod(0o600)
    secrets = collect_secrets([tmp_path])
    assert any(REFRESH in value for value in secrets.sources)
    stopped = [(answer[-300:], leak) for _, answer in answers if (leak := secrets.find_leak(answer, ""))]
    assert stopped == []


@pytest.mark.parametrize(
    "text",
    [
        "weight_decay=0.05", '{"token": "weight_decay=0.05"}', '{"pad_token": "<|reserved_special_token_0|>"}',
        "secret = hashlib.sha256(data).hexdigest()", 'password = os.environ["HOME"]',
        "max_tokens: 2048_tokens_16_heads",
        "/home/ada/.nvm/versions/node/v22.11.0/lib/node_modules", "x86_64-unknown-linux-gnu", "NVIDIA-H100-80GB-HBM3",
        "torch.float8_e5m2fnuz", "0x9E3779B97F4A7C15", "2026-11-29T22:21:06.123456Z", "3.14159265358979323846",
        "lr3e-4_wd0.1_beta2_0.95_depth12_heads16", "claude-opus-4-5-20251101", "token_type: Bearer",
        '"tokenizer": "cl100k_base_vocabulary_2048"', "CausalSelfAttention2d_with_QKNorm", "https://swarm.example.org/experiments/1",
    ],
)  # fmt: skip
def test_ordinary_words_are_no_secrets_even_in_a_private_file(text: str, tmp_path: Path) -> None:
    secrets = collect_secrets([write_login(tmp_path, text + "\n", 0o600)])
    assert secrets.find_leak(f"DEPTH = 6  # {text}", "") is None, secrets.sources


def test_a_renewed_login_is_guarded_too_and_a_new_transcript_is_not_searched(tmp_path: Path) -> None:
    old, new = f"sk-ant-{draw(40)}", f"sk-ant-{draw(40)}"
    secrets = collect_secrets([write_login(tmp_path, json.dumps({"token": old}), 0o600)])
    (tmp_path / "new").write_text(json.dumps({"token": new}))
    (tmp_path / "new").rename(tmp_path / "login")
    (tmp_path / "transcript").write_text(f"api_key: {(word := draw(32))}")
    renewed = renew(secrets)
    assert renewed.find_leak(old, "") and renewed.find_leak(new, "") and not renewed.find_leak(word, "")


def test_variables_are_judged_as_files_are() -> None:
    key = draw(40)
    given = {
        "TOOL_KEY": key,
        "ANTHROPIC_MODEL": "claude-opus-4-5",
        "TERM": "xterm-256color",
        "SITE_PASSWORD": "hunter2hunter2",
    }
    secrets = collect_secrets([], given)
    assert secrets.find_leak(f"# {key}", "") == "the variable TOOL_KEY"
    assert secrets.find_leak("# hunter2hunter2", "") == "the variable SITE_PASSWORD"
    assert secrets.find_leak("# claude-opus-4-5 in an xterm-256color", "") is None


def test_a_large_folder_is_read_within_bounds(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text("A1b2" * 500_000)
    (tmp_path / "blob").chmod(0o600)
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules/x").write_text(f"sk-{draw(40)}")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    key = f"sk-{draw(40)}"
    (tmp_path / "z").write_text(key)
    assert list(collect_secrets([tmp_path]).sources) == [key]


def test_a_line_for_others_shows_no_secret() -> None:
    secrets = collect_secrets([], {"SITE_PASSWORD": "hunter2-hunter2"})
    key = f"sk-ant-{draw(40)}"
    assert (
        secrets.redact(f"exit status 1: bad key {key} of hunter2-hunter2")
        == "exit status 1: bad key [a secret] of [a secret]"
    )
    assert (
        secrets.redact("exit status 1: Should I set weight_decay=0.05?")
        == "exit status 1: Should I set weight_decay=0.05?"
    )
