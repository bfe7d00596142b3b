"""Presets of `--agent claude`, `codex`, `gemini`, `opencode` and `aider`, written from their public documentation.

Each turns the tool's own sandbox and questions off, because it runs in ours, where nobody answers. Claude Code 2.1.332,
Codex 0.171.0, Gemini CLI 0.61.0 and OpenCode 1.18.33 were started so, up to their first request, without an account;
OpenCode 2 was not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

EDITABLE = "{editable}"
"""Stands for the project's editable files, a word for each."""

NETWORK_VARIABLES = (
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip


@dataclass(frozen=True)
class ToolPreset:
    """How one tool is run.

    `argv` without a placeholder gets the prompt on its standard input. `folder` holds login, settings and transcripts,
    and is `~/...` unless the variable `folder_variable` names another; `more_paths` are granted too, where they exist
    (`:rw` as in `agent_paths`). The tool is logged in if one of the files `logins` exists, or one of the variables
    `keys` is set. `transcripts` lies below `folder`, and so does what is `protected`: files and (with `/`)
    folders that its owner's own sessions would obey. Words of `argv` that are `optional` are left out where the tool
    does not know them. `logged_out` is what it says without a valid login, and `log_in` what to do about that. The
    answer's files go into the work folder with `answers_in_work`, else into `/swarm/answer`.
    """

    argv: tuple[str, ...]
    folder: str
    logins: tuple[str, ...]
    keys: tuple[str, ...]
    log_in: str
    logged_out: tuple[str, ...]
    transcripts: str
    protected: tuple[str, ...]
    folder_variable: str = ""
    more_paths: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    answers_in_work: bool = False
    optional: tuple[str, ...] = ()


PRESETS: dict[str, ToolPreset] = {
    # https://code.claude.com/docs/en/headless (the prompt), and there: cli-reference, settings, env-vars, errors
    "claude": ToolPreset(
        argv=("claude", "-p", "--dangerously-skip-permissions", "--output-format", "json",
              "--settings", '{"sandbox": {"enabled": false}}'),
        folder="~/.claude",
        folder_variable="CLAUDE_CONFIG_DIR",
        more_paths=("~/.claude.json",),
        logins=("~/.claude/.credentials.json",),
        keys=("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_USE_BEDROCK",
              "CLAUDE_CODE_USE_VERTEX"),
        variables=("ANTHROPIC_BASE_URL", "ANTHROPIC_MODEL"),
        environment={"DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"},
        log_in="run `claude` once and use /login, or set ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN",
        logged_out=("not logged in", "please run /login", "invalid api key", "oauth token revoked",
                    "oauth token has expired", "organization has been disabled", "api error: 401",
                    "your organization has disabled", "scope requirement", "authentication_error",
                    "invalid bearer token", "invalid x-api-key", "invalid authentication credentials",
                    "oauth token has been revoked"),
        transcripts="projects",
        protected=("settings.json", "settings.local.json", "CLAUDE.md", "hooks/", "plugins/", "skills/", "commands/",
                   "agents/", "rules/", "output-styles/", "workflows/"),
    ),
    # https://developers.openai.com/codex/noninteractive (`-` reads the prompt), /codex/auth, /codex/cli/reference
    "codex": ToolPreset(
        argv=("codex", "exec", "--json", "--dangerously-bypass-approvals-and-sandbox", "--skip-git-repo-check", "-"),
        folder="~/.codex",
        folder_variable="CODEX_HOME",
        logins=("~/.codex/auth.json",),
        keys=("CODEX_API_KEY", "CODEX_ACCESS_TOKEN"),
        variables=("OPENAI_API_KEY", "OPENAI_BASE_URL"),
        log_in="run `codex login` (with cli_auth_credentials_store = \"file\"), or set CODEX_API_KEY",
        logged_out=("not logged in", "401 unauthorized", "incorrect api key", "please log in", "codex login",
                    "refresh token"),
        transcripts="sessions",
        protected=("config.toml", "AGENTS.md", "AGENTS.override.md", "hooks.json", "hooks/", "rules/", "prompts/",
                   "skills/", "plugins/", "agents/"),
    ),
    # https://geminicli.com/docs/cli/headless, and there: cli-reference, trusted-folders, sandbox,
    # ../get-started/authentication. Whom it still serves: https://github.com/google-gemini/gemini-cli/discussions/28017
    "gemini": ToolPreset(
        argv=("gemini", "--approval-mode=yolo", "--output-format", "json"),
        folder="~/.gemini",
        logins=("~/.gemini/oauth_creds.json", "~/.gemini/.env"),
        keys=("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS"),
        variables=("GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION", "GOOGLE_GENAI_USE_VERTEXAI", "GEMINI_MODEL"),
        environment={"GEMINI_SANDBOX": "false", "GEMINI_CLI_TRUST_WORKSPACE": "true"},
        log_in="set GEMINI_API_KEY, or run `gemini` once and sign in with a licence for Code Assist: it serves no "
               "other accounts",
        logged_out=("please set an auth method", "invalid auth method", "api key not valid", "failed to login",
                    "authentication required", "invalid_grant", "antigravity"),
        transcripts="tmp",
        protected=("settings.json", "GEMINI.md", ".env", "extensions/", "commands/", "hooks/", "skills/", "agents/",
                   "policies/", "trustedFolders.json"),
    ),
    # https://opencode.ai/docs/cli/commands (`run`; `--standalone`: without a server of the user's outside), and there
    # cli/providers, migrate-v1; of version 1, which knows no `--standalone`: https://opencode.ai/v1/docs/cli, and there
    # config, permissions, troubleshooting (auth.json and the database, where newer ones may keep the login).
    "opencode": ToolPreset(
        argv=("opencode", "run", "--format", "json", "--auto", "--standalone"),
        optional=("--auto", "--standalone"),
        folder="~/.local/share/opencode",
        more_paths=("~/.config/opencode",),
        logins=("~/.local/share/opencode/auth.json", "~/.local/share/opencode/opencode.db",
                "~/.config/opencode/opencode.json", "~/.config/opencode/opencode.jsonc"),
        keys=("OPENCODE_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY",
              "DEEPSEEK_API_KEY", "GROQ_API_KEY"),
        environment={"OPENCODE_CONFIG_CONTENT": '{"permission": "allow", "share": "disabled", "autoupdate": false}',
                     "OPENCODE_DISABLE_AUTOUPDATE": "1"},
        log_in="run `opencode auth login`, or set your provider's key, such as ANTHROPIC_API_KEY",
        logged_out=("api key is missing", "invalid api key", "invalid x-api-key", "unauthorized", "opencode auth login",
                    "no credentials"),
        transcripts="storage",
        protected=("bin/", "plugin/", "plugins/"),
    ),
    # https://aider.chat/docs/scripting.html, /docs/config/options.html, /docs/config/dotenv.html. It reads no standard
    # input, and edits only the files that it is given, inside its git repository.
    "aider": ToolPreset(
        argv=("aider", "--message-file", "{prompt_file}", "--yes-always", "--no-auto-commits", "--no-dirty-commits",
              "--no-gitignore", "--no-check-update", "--no-show-release-notes", "--no-suggest-shell-commands",
              "--no-detect-urls", "--no-show-model-warnings", "--no-stream", "--no-pretty", "--analytics-disable",
              "--chat-history-file", "/tmp/aider.chat.md", "--input-history-file", "/tmp/aider.input",  # noqa: S108 - inside
              EDITABLE, "proposal.json"),
        folder="~/.aider",
        more_paths=("~/.aider.conf.yml", "~/.env", "~/.aider.model.settings.yml", "~/.aider.model.metadata.json"),
        logins=("~/.aider.conf.yml", "~/.env", "~/.aider/oauth-keys.env"),
        keys=("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "DEEPSEEK_API_KEY", "OPENROUTER_API_KEY",
              "GROQ_API_KEY", "XAI_API_KEY", "OLLAMA_API_BASE", "AIDER_OPENAI_API_KEY", "AIDER_ANTHROPIC_API_KEY"),
        variables=("AIDER_MODEL", "AIDER_OPENAI_API_BASE", "OPENAI_API_BASE"),
        log_in="put your provider's key into ~/.env or ~/.aider.conf.yml, or set it, such as ANTHROPIC_API_KEY",
        logged_out=("authenticationerror", "api provider authentication", "no llm model was specified",
                    "missing these environment variables"),
        transcripts="transcripts",
        protected=(),
        answers_in_work=True,
    ),
}  # fmt: skip
