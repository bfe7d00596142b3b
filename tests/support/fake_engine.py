"""A stand-in for docker or podman, for machines that have neither: it keeps to the options it is given, by bubblewrap.

Installed under an engine's name it answers `info`, `ps`, `image inspect`, `import`, `run` and `rm`; the file
`containers` beside it is what `ps` lists. `run` shows the image's links and the bound folders, makes the in-memory file
systems, becomes the user and starts the entry point, without a network; it refuses any option that it does not know.
What only a real engine does (control groups, devices of a GPU) it leaves out. Each call is one line of JSON in
`calls.jsonl` beside it.
"""

import argparse
import json
import os
import sys
import tarfile
from pathlib import Path

HERE = Path(sys.argv[0]).resolve().parent
IGNORED = (
    "--name", "--pull", "--log-driver", "--hostname", "--ipc", "--cap-drop", "--security-opt", "--pids-limit",
    "--memory", "--memory-swap", "--ulimit", "--cpuset-cpus", "--userns", "--gpus", "--device",
)  # fmt: skip


def install_engine(folder: Path, name: str) -> Path:
    """Put the program into `folder` under an engine's name; the file of its calls."""
    folder.mkdir(exist_ok=True)
    for path in (folder, *folder.parents):
        if path == Path(path.anchor) or path.stat().st_mode & 0o005 == 0o005:
            break
        path.chmod(0o755)
    program = folder / name
    program.write_text(f"#!{sys.executable}\n" + Path(__file__).read_text())
    program.chmod(0o755)
    return folder / "calls.jsonl"


def main() -> None:
    with (HERE / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\n")
    match sys.argv[1:]:
        case ["info"] | ["rm", *_]:
            return
        case ["ps", *_]:
            sys.stdout.write((HERE / "containers").read_text() if (HERE / "containers").exists() else "")
        case ["image", "inspect", image]:
            sys.exit(0 if find_image(image).exists() else 1)
        case ["import", "-", image]:
            find_image(image).write_bytes(sys.stdin.buffer.read())
        case ["run", *options]:
            run(options)
        case _:
            sys.exit(f"unknown command: {sys.argv[1:]}")


def find_image(name: str) -> Path:
    return HERE / (name.replace(":", "-") + ".tar")


def run(options: list[str]) -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for option in IGNORED:
        parser.add_argument(option, action="append")
    for option in ("--rm", "--read-only"):
        parser.add_argument(option, action="store_true", required=True)
    for option in ("--workdir", "--network", "--shm-size", "--tmpfs", "--user", "--entrypoint"):
        parser.add_argument(option, required=True)
    parser.add_argument("--mount", action="append", default=[])
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("image")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    asked = parser.parse_args(options)
    uid = int(asked.user.partition(":")[0])
    command = ["bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--die-with-parent", "--clearenv"]
    command += ["--proc", "/proc", "--dev", "/dev", *(["--unshare-net"] if asked.network == "none" else [])]
    tmpfs, _, size = asked.tmpfs.partition(":")
    command += ["--size", asked.shm_size, "--tmpfs", "/dev/shm", "--perms", "1777"]
    command += ["--size", size.rpartition("size=")[2], "--tmpfs", tmpfs]
    with tarfile.open(find_image(asked.image)) as image:
        for member in image.getmembers():
            if member.issym():
                command += ["--symlink", member.linkname, f"/{member.name}"]
    for mount in asked.mount:
        fields = dict(field.partition("=")[::2] for field in mount.split(","))
        for parent in [*reversed(Path(fields["target"]).parents)][1:]:
            command += ["--perms", "0755", "--dir", str(parent)]
        command += ["--ro-bind" if "readonly" in fields else "--bind", fields["source"], fields["target"]]
    for variable in asked.env:
        command += ["--setenv", *variable.split("=", 1)]
    command += ["--remount-ro", "/", "--chdir", asked.workdir]
    become = []
    if os.geteuid() == 0:  # as engines do it: root makes the mounts, and then the user is another one
        command += ["--cap-add", "ALL"]
        become = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--no-new-privs"]
        become += ["--inh-caps=-all", "--bounding-set=-all"]
    else:
        command += ["--unshare-user", "--uid", str(uid), "--gid", str(uid)]
    os.execvp("bwrap", [*command, "--", *become, asked.entrypoint, *asked.arguments])


if __name__ == "__main__":
    main()
