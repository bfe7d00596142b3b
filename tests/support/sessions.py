"""Repositories as sessions of the original loop leave them, made with the real git client."""

from pathlib import Path

from tests.support.git import Git

DATA = Path(__file__).parents[1] / "data" / "autoresearch-sessions"
CASES = DATA.parent / "import-cases"
BRANCH = "autoresearch/mar5"
HARDWARE = "NVIDIA H100 80GB HBM3"
TRAIN = "print('---')\nprint('val_bpb:          {value}')\nprint('peak_vram_mb:     1024.0')\n"
BINARY = bytes(range(256))


class Session:
    """A repository on its branch, with the history that came before the session, and a growing results.tsv."""

    def __init__(self, folder: Path, metric: str = "val_bpb") -> None:
        self.git = Git.init(folder)
        self.folder = folder
        self.git("checkout", "--quiet", "-b", "master")
        self.commit("first draft", "2.5")
        (folder / "progress.png").write_bytes(BINARY)
        (folder / "prepare.py").write_text("TIME_BUDGET = 300\n")
        self.commit("the loop as it is published", "2.1")
        self.git("checkout", "--quiet", "-b", BRANCH)
        self.results = folder.parent / "results.tsv"
        self.results.write_text(f"commit\t{metric}\tmemory_gb\tstatus\tdescription\n")

    def commit(self, message: str, value: str) -> str:
        """A commit whose script prints `value`; its sha."""
        (self.folder / "train.py").write_text(TRAIN.format(value=value))
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.head

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD").strip()

    def note(self, commit: str, metric: str, status: str, description: str, memory: str = "44.0") -> None:
        with self.results.open("a") as file:
            file.write(f"{commit}\t{metric}\t{memory}\t{status}\t{description}\n")

    def keep(self, metric: str, description: str, digits: int = 7) -> str:
        """A commit that was kept, named in the file by so many digits."""
        sha = self.commit(description, metric)
        self.note(sha[:digits], metric, "keep", description)
        return sha

    def discard(self, metric: str, description: str, status: str = "discard") -> str:
        """A commit that was reset away and collected, as most are."""
        before = self.head
        sha = self.commit(description, metric)
        self.git("reset", "--quiet", "--hard", before)
        self.git("reflog", "expire", "--expire=now", "--all")
        self.git("gc", "--quiet", "--prune=now")
        self.note(sha[:7], metric, status, description)
        return sha


def write_small_session(folder: Path) -> Session:
    """A baseline, gains, a discarded commit that is lost, a crash, and a row without a hash."""
    session = Session(folder)
    session.note("baseline", "2.100000", "keep", "baseline")
    session.keep("2.050000", "matrix_lr 0.04->0.03")
    session.discard("2.080000", "increase DEPTH to 12")
    session.discard("0.000000", "double MLP width (OOM)", status="crash")
    session.keep("2.010000", "reduce WARMDOWN_RATIO to 0.4", digits=5)
    session.note("", "2.030000", "discard", "swap relu for gelu")
    return session


def replay(folder: Path, results: Path) -> Session:
    """A repository for a published file: each row that was kept and has a hash is a commit, its hash replaced by the
    commit's own. Everything else stays as it was."""
    session = Session(folder)
    lines = results.read_bytes().decode().splitlines(keepends=True)
    written = [lines[0]]
    for line in lines[1:]:
        commit, metric, memory, status, description = line.split("\t")
        if commit and status == "keep":
            commit = session.commit(description.strip(), metric)[:7]
        written.append("\t".join([commit, metric, memory, status, description]))
    session.results.write_bytes("".join(written).encode())
    return session
