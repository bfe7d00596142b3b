"""Installs a stand-in of each coding tool into a home, as its real installer would, with its login."""

import json
from dataclasses import dataclass, field
from pathlib import Path

SCRIPT = Path(__file__).with_name("stand_in_tool.py")


@dataclass(frozen=True)
class StandIn:
    """How one tool is installed, where its login is, how its own sandbox is switched off, and what it says.

    `program` is the file of the program, `link` what leads to it, both below the home. `refusals` are what it says of
    a setup that can never work.
    """

    name: str
    program: str
    link: str
    folder: str
    login: str
    transcripts: str
    flags: str
    limit: str
    logged_out: str
    refusals: dict[str, str] = field(default_factory=dict)


STAND_INS = {
    tool.name: tool
    for tool in (
        StandIn(
            "claude", ".npm-global/lib/node_modules/@anthropic-ai/claude-code/cli.js", ".npm-global/bin/claude",
            ".claude", ".credentials.json", "projects/session.jsonl",
            '-p|--dangerously-skip-permissions|"enabled": false',
            "You've hit your session limit · resets 3am (UTC)", "Not logged in · Please run /login",
            {"no-credit": '{"type":"result","is_error":true,"result":"Credit balance is too low"}',
             "no-model": "There's an issue with the selected model (opus-9). It may not exist.",
             "old": "error: unknown option '--settings'"},
        ),
        StandIn(
            "codex", ".npm-global/lib/node_modules/@openai/codex/bin/codex.js", ".npm-global/bin/codex",
            ".codex", "auth.json", "sessions/rollout.jsonl", "exec|--dangerously-bypass-approvals-and-sandbox",
            '{"type":"error","message":"You’ve hit your usage limit. Upgrade to Pro (https://chatgpt.com/explore/pro), '
            'visit https://chatgpt.com/settings/usage to purchase more credits or try again at 2:15 PM."}',
            '{"type":"turn.failed","error":{"message":"unexpected status 401 Unauthorized: Incorrect API key"}}',
            {"no-credit": "ERROR: unexpected status 402 Payment Required",
             "no-model": '{"type":"error","message":"The \'gpt-9\' model is not supported with ChatGPT."}',
             "old": "error: unexpected argument '--skip-git-repo-check' found"},
        ),
        StandIn(
            "gemini", ".npm-global/lib/node_modules/@google/gemini-cli/bundle/gemini.js", ".npm-global/bin/gemini",
            ".gemini", "oauth_creds.json", "tmp/chats.json",
            "--approval-mode=yolo|GEMINI_SANDBOX=false|GEMINI_CLI_TRUST_WORKSPACE=true",
            "[API Error: You have exhausted your capacity on this model. Your quota will reset after 1h44m7s.]",
            "Invalid auth method selected.",
            {"no-credit": "429 RESOURCE_EXHAUSTED: Your prepayment credits are depleted.",
             "no-model": '[API Error: {"error":{"code":404,"message":"models/gemini-9 is not found for v1beta"}}]',
             "old": "Unknown arguments: output-format, outputFormat"},
        ),
        StandIn(
            "opencode", ".opencode/bin/opencode", ".local/bin/opencode", ".local/share/opencode", "auth.json",
            "storage/session.json", 'run|"permission": "allow"', "Error: Rate limit exceeded, retry-after: 3600",
            '{"type":"error","error":{"name":"APIError","data":{"message":"Incorrect API key provided: sk-x."}}}',
            {"no-credit": '{"type":"error","error":{"name":"APIError","data":{"message":"Insufficient Balance"}}}',
             "no-model": "ProviderModelNotFoundError: ProviderModelNotFoundError",
             "old": "error: Unknown argument: auto"},
        ),
        StandIn(
            "aider", ".local/share/uv/tools/aider-chat/bin/aider", ".local/bin/aider", ".aider", "oauth-keys.env",
            "transcripts", "--yes-always|--no-auto-commits",
            "litellm.RateLimitError: Rate limit reached for m. Please try again in 1h30m.\nRetrying in 16.0 seconds...",
            "litellm.AuthenticationError: AuthenticationError: OpenAIException - Incorrect \nAPI key provided: sk-x.",
            {"no-credit": "litellm.BadRequestError: AnthropicException - Your credit balance is too low.",
             "no-model": 'litellm.NotFoundError: {"type":"not_found_error","message":"model: claude-9"}',
             "old": "aider: error: unrecognized arguments: --no-show-release-notes"},
        ),
    )
}  # fmt: skip


def install(tool: StandIn, home: Path, plan: list[str]) -> dict[str, str]:
    """Install and log in; returns the variables with which a shell would find it. `plan` is what it does in turn."""
    program, link, folder = home / tool.program, home / tool.link, home / tool.folder
    python = "#!/usr/bin/python3"
    bins = [link.parent]
    if program.suffix == ".js":  # by way of a node of the user's own, which is Python here
        node = home / ".nvm/versions/node/v22.0.0/bin/node"
        node.parent.mkdir(parents=True, exist_ok=True)
        (home / ".nvm/versions/node/v22.0.0/lib").mkdir(exist_ok=True)
        if not node.exists():
            node.symlink_to("/usr/bin/python3")
        python, bins = "#!/usr/bin/env node", [*bins, node.parent]
    if tool.name == "aider":  # a virtual environment of its own
        bin_folder = program.parent
        bin_folder.mkdir(parents=True)
        (bin_folder.parent / "pyvenv.cfg").write_text("home = /usr/bin\n")
        (bin_folder / "python").symlink_to("/usr/bin/python3")
        python = f"#!{bin_folder}/python"
    text = SCRIPT.read_text()
    for name in ("name", "folder", "login", "flags", "limit", "logged_out", "transcripts", "refusals"):
        text = text.replace(f'"@{name.upper()}@"', repr(getattr(tool, name)))
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"{python}\n{text}")
    program.chmod(0o755)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(Path(*[".."] * len(Path(tool.link).parent.parts)) / tool.program)
    (folder / tool.transcripts).parent.mkdir(parents=True, exist_ok=True)
    (home / ".config" / tool.name).mkdir(parents=True, exist_ok=True)
    (folder / tool.login).write_text(json.dumps({"refresh_token": f"rt_{tool.name}Qw7Lk2Vn8Bt5Yc1Hd6Mf4Zp3x9_0"}))
    (folder / tool.login).chmod(0o600)
    (folder / "plan.json").write_text(json.dumps(plan))
    return {"HOME": str(home), "PATH": ":".join([*map(str, bins), "/usr/bin", "/bin"])}
